package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// authorizeOptions are the flags of authorize. The card has none: it is read
// from standard input, so that it is in no shell history and no process list.
type authorizeOptions struct {
	client
	merchant  string
	reference string
	amount    int64
	currency  string
	channel   string
	brand     string
	request   string
}

func authorizeCommand() *cobra.Command {
	var o authorizeOptions
	c := &cobra.Command{
		Use:   "authorize",
		Short: "Ask for one authorization, the card read from standard input",
		Long: `Asks a node for one authorization and prints its answer. Standard input holds one
line: card number, expiry as YYMM and, where there is one, the security code,
separated by spaces.`,
		Example: `  echo 4111111111111111 3012 123 | authswitch authorize --merchant parcels --amount 1000`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			card, err := readCard(cmd.InOrStdin())
			if err != nil {
				return err
			}
			body := map[string]any{
				"merchant": o.merchant, "reference": o.reference, "channel": o.channel, "card": card,
				"amount": money{Value: o.amount, Currency: o.currency},
			}
			if o.brand != "" {
				body["brand"] = o.brand
			}
			var answer json.RawMessage
			if err := o.post(cmd.Context(), "/v1/authorizations", body, o.request, &answer); err != nil {
				return err
			}
			return printJSON(cmd.OutOrStdout(), answer)
		},
	}
	clientFlags(c, &o.client)
	f := c.Flags()
	f.StringVar(&o.merchant, "merchant", "", "the merchant (required)")
	f.Int64Var(&o.amount, "amount", 0, "amount in minor units (required)")
	f.StringVar(&o.currency, "currency", "EUR", "ISO 4217 code")
	f.StringVar(&o.channel, "channel", "moto", "ecommerce, moto, pay_by_link, card_present, recurring or instalment")
	f.StringVar(&o.reference, "reference", "command line", "the merchant's reference")
	f.StringVar(&o.brand, "brand", "", "the cardholder's choice on a co-badged card")
	f.StringVar(&o.request, "idempotency-key", "", "repeat an earlier request (default: a fresh key)")
	_ = c.MarkFlagRequired("merchant")
	_ = c.MarkFlagRequired("amount")
	return c
}

// maxCardLine is longer than any card's line.
const maxCardLine = 64

// readCard reads number, expiry and security code. Its errors never repeat
// what was typed.
func readCard(in io.Reader) (map[string]string, error) {
	line, err := bufio.NewReader(io.LimitReader(in, maxCardLine)).ReadString('\n')
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("read card: %w", err)
	}
	words := strings.Fields(line)
	if len(words) != 2 && len(words) != 3 {
		return nil, fmt.Errorf("%w: standard input: a line with card number, expiry (YYMM) and perhaps a security code is needed", errUsage)
	}
	card := map[string]string{"number": words[0], "expiry": words[1]}
	if len(words) == 3 {
		card["cvv"] = words[2]
	}
	return card, nil
}
