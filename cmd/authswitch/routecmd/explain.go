package routecmd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"authswitch/card"
	"authswitch/payment"
	"authswitch/routing"
)

// errNoRoute ends the program with 1 after the explanation is printed.
var errNoRoute = errors.New("the payment has no route")

// question is what explain is asked, in the words of the call.
type question struct {
	merchant, currency, channel, brand, bin string
	amount                                  int64
	noCVV, merchantInitiated, storedCard    bool
}

func explainCommand(o *options) *cobra.Command {
	var q question
	c := &cobra.Command{
		Use:   "explain",
		Short: "Say which routes a payment has, and why",
		Long: "Says which routes a payment has, and why. The card number is read from standard input,\n" +
			"so that it is in no shell history and no process list; --bin asks for any card of a BIN instead.",
		Example: "  authswitch route explain --config node.yaml --merchant parcels --bin 497010 --amount 1051",
		Args:    noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			t, err := o.table()
			if err != nil {
				return err
			}
			query, err := q.query(c.InOrStdin())
			if err != nil {
				return err
			}
			defer query.PAN.Wipe()
			if o.wantsJSON() {
				return explainJSON(c.OutOrStdout(), t, query)
			}
			return explainText(c.OutOrStdout(), t, query)
		},
	}
	f := c.Flags()
	f.StringVar(&q.merchant, "merchant", "", "the merchant (required)")
	f.StringVar(&q.bin, "bin", "", "first 6 to 8 digits of a card number, instead of one on standard input")
	f.Int64Var(&q.amount, "amount", 1000, "amount in minor units")
	f.StringVar(&q.currency, "currency", "EUR", "ISO 4217 code of the amount")
	f.StringVar(&q.channel, "channel", "ecommerce", "ecommerce, moto, pay_by_link, card_present, recurring or instalment")
	f.StringVar(&q.brand, "brand", "", "the scheme that the cardholder chose")
	f.BoolVar(&q.noCVV, "no-cvv", false, "the request has no security code")
	f.BoolVar(&q.merchantInitiated, "merchant-initiated", false, "no cardholder is present")
	f.BoolVar(&q.storedCard, "stored-card", false, "the card is on file")
	return c
}

// query reads the words and the card number.
func (q *question) query(in io.Reader) (*routing.Query, error) {
	usage := func(format string, args ...any) error {
		return fmt.Errorf("%w: %w", ErrUsage, fmt.Errorf(format, args...))
	}
	if q.merchant == "" {
		return nil, usage("--merchant is needed")
	}
	currency, err := payment.ParseCurrency([]byte(strings.ToUpper(q.currency)))
	if err != nil {
		return nil, usage("--currency: %w", err)
	}
	channel := payment.ParseChannel([]byte(q.channel))
	if channel == payment.NoChannel {
		return nil, usage("--channel %q is unknown", q.channel)
	}
	brand := payment.ParseScheme([]byte(q.brand))
	if brand == payment.NoScheme && q.brand != "" {
		return nil, usage("--brand %q is unknown", q.brand)
	}
	if q.amount <= 0 || q.amount > payment.MaxAmount {
		return nil, usage("--amount is not between 1 and %d", int64(payment.MaxAmount))
	}
	pan, err := q.card(in)
	if err != nil {
		return nil, err
	}
	return &routing.Query{
		Merchant: payment.MerchantID(q.merchant), PAN: &pan, Brand: brand, Channel: channel,
		Amount:     payment.Amount{Value: q.amount, Currency: currency},
		CVVPresent: !q.noCVV, MerchantInitiated: q.merchantInitiated, StoredCard: q.storedCard,
	}, nil
}

// Lengths of --bin: what may be shown of any card, and the index's least.
const (
	minBIN = 6
	maxBIN = 8
)

// card reads one line from in, or makes up the first number of a BIN: a
// 16-digit one of zeros with its check digit.
func (q *question) card(in io.Reader) (card.PAN, error) {
	if q.bin != "" {
		number := []byte(q.bin + strings.Repeat("0", max(0, 16-len(q.bin))))
		if len(q.bin) < minBIN || len(q.bin) > maxBIN {
			return card.PAN{}, fmt.Errorf("%w: --bin has %d digits; %d to %d are allowed", ErrUsage, len(q.bin), minBIN, maxBIN)
		}
		for ; number[15] <= '9'; number[15]++ {
			if pan, err := card.ParsePAN(number); !errors.Is(err, card.ErrLuhn) {
				return pan, wrap("--bin", err)
			}
		}
	}
	line, err := io.ReadAll(io.LimitReader(in, 64))
	defer clear(line)
	if err != nil {
		return card.PAN{}, fmt.Errorf("reading the card number: %w", err)
	}
	pan, err := card.ParsePAN(bytes.TrimSpace(line))
	return pan, wrap("card number on standard input", err)
}

// wrap makes a card fault one of usage.
func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %s: %w", ErrUsage, what, err)
}

func explainText(w io.Writer, t *routing.Table, q *routing.Query) error {
	t.Explain(w, q)
	var routes routing.Routes
	if t.Route(q, &routes) != nil {
		return errNoRoute
	}
	return nil
}

// explanationView is the explanation as JSON.
type explanationView struct {
	Routes      []routeView `json:"routes"`
	Error       string      `json:"error,omitempty"`
	Explanation []string    `json:"explanation"`
}

type routeView struct {
	Scheme string           `json:"scheme"`
	Link   payment.LinkName `json:"link"`
	Reason string           `json:"reason"`
}

func explainJSON(w io.Writer, t *routing.Table, q *routing.Query) error {
	var text bytes.Buffer
	t.Explain(&text, q)
	view := explanationView{
		Routes:      []routeView{},
		Explanation: strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n"),
	}
	var routes routing.Routes
	failed := t.Route(q, &routes)
	if failed != nil {
		view.Error = failed.Error()
	}
	for _, r := range routes.Route[:routes.N] {
		view.Routes = append(view.Routes, routeView{r.Scheme.String(), r.Link, r.Reason})
	}
	if err := printJSON(w, view); err != nil {
		return err
	}
	if failed != nil {
		return errNoRoute
	}
	return nil
}
