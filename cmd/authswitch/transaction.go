package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// money is an amount as the API shows it.
type money struct {
	Value    int64  `json:"value"`
	Currency string `json:"currency"`
}

// listed is what the tables show of a payment; --json prints the API's own.
type listed struct {
	ID           string `json:"id"`
	CreatedAt    string `json:"created_at"`
	State        string `json:"state"`
	Status       string `json:"status"`
	Amount       money  `json:"amount"`
	ResponseCode string `json:"response_code"`
	Link         string `json:"link"`
	STAN         string `json:"stan"`
	RRN          string `json:"rrn"`
	Reference    string `json:"reference"`
}

func transactionCommand() *cobra.Command {
	var api client
	var asJSON bool
	c := &cobra.Command{Use: "transaction", Short: "List, follow, show and reverse payments"}
	clientFlags(c, &api)
	c.PersistentFlags().BoolVar(&asJSON, "json", false, "print the API's JSON")
	c.AddCommand(transactionList(&api, &asJSON), transactionShow(&api, &asJSON), transactionReverse(&api), transactionExport(&api), transactionTail(&api, &asJSON), writeOffCommand())
	return c
}

func transactionList(api *client, asJSON *bool) *cobra.Command {
	var merchant string
	var limit int
	c := &cobra.Command{
		Use: "list", Short: "List a merchant's payments", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{"merchant": {merchant}, "limit": {strconv.Itoa(limit)}}
			var page struct {
				Data []json.RawMessage `json:"data"`
			}
			if err := api.get(cmd.Context(), "/v1/authorizations?"+query.Encode(), &page); err != nil {
				return err
			}
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), page.Data)
			}
			return printPayments(cmd.OutOrStdout(), page.Data)
		},
	}
	c.Flags().StringVar(&merchant, "merchant", "", "the merchant (required)")
	c.Flags().IntVar(&limit, "limit", 50, "how many, newest first")
	_ = c.MarkFlagRequired("merchant")
	return c
}

// transactionExport pages through everything, oldest page last, a payment a
// line.
func transactionExport(api *client) *cobra.Command {
	var merchant string
	c := &cobra.Command{
		Use: "export", Short: "Write all of a merchant's payments as JSON lines", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{"merchant": {merchant}, "limit": {"1000"}}
			for {
				var page struct {
					Data    []json.RawMessage `json:"data"`
					HasMore bool              `json:"has_more"`
					Next    string            `json:"next"`
				}
				if err := api.get(cmd.Context(), "/v1/authorizations?"+query.Encode(), &page); err != nil {
					return err
				}
				for _, row := range page.Data {
					if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\n", row); err != nil {
						return err
					}
				}
				if !page.HasMore {
					return nil
				}
				query.Set("cursor", page.Next)
			}
		},
	}
	c.Flags().StringVar(&merchant, "merchant", "", "the merchant (required)")
	_ = c.MarkFlagRequired("merchant")
	return c
}

func printPayments(w io.Writer, rows []json.RawMessage) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "CREATED\tID\tSTATE\tANSWER\tAMOUNT\tCODE\tLINK\tSTAN\tRRN\tREFERENCE")
	for _, row := range rows {
		var p listed
		if err := json.Unmarshal(row, &p); err != nil {
			return fmt.Errorf("read answer: %w", err)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d %s\t%s\t%s\t%s\t%s\t%s\n",
			p.CreatedAt, p.ID, p.State, p.Status, p.Amount.Value, p.Amount.Currency, p.ResponseCode, p.Link, p.STAN, p.RRN, p.Reference)
	}
	return t.Flush()
}

func transactionShow(api *client, asJSON *bool) *cobra.Command {
	var wire bool
	c := &cobra.Command{
		Use: "show ID", Short: "Show a payment and its history", Args: cobra.ExactArgs(1),
		Long: `Shows a payment, and each step of its history. --wire adds the ISO 8583 messages that went out for it and what was
answered, masked, as the simulators of authswitch dev saw them (50 requests a second of each link are kept).`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var payment json.RawMessage
			var events struct {
				Data []map[string]any `json:"data"`
			}
			id := url.PathEscape(args[0])
			if err := api.get(cmd.Context(), "/v1/authorizations/"+id, &payment); err != nil {
				return err
			}
			if err := api.get(cmd.Context(), "/v1/payments/"+id+"/events", &events); err != nil {
				return err
			}
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), map[string]any{"payment": payment, "events": events.Data})
			}
			if err := printPayments(cmd.OutOrStdout(), []json.RawMessage{payment}); err != nil {
				return err
			}
			if err := printEvents(cmd.OutOrStdout(), events.Data); err != nil || !wire {
				return err
			}
			var p listed
			if err := json.Unmarshal(payment, &p); err != nil {
				return fmt.Errorf("read answer: %w", err)
			}
			return printWire(cmd.Context(), api, cmd.OutOrStdout(), p.RRN)
		},
	}
	c.Flags().BoolVar(&wire, "wire", false, "and the messages on the wire, masked; simulators only")
	return c
}

func printEvents(w io.Writer, events []map[string]any) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nAT\tWHAT\tEVENT\tSTATE\tCODE\tSTAN")
	for _, e := range events {
		what, event := cell(e["kind"]), cell(e["event"])
		if o, ok := e["operation"].(map[string]any); ok { // which one, and where it stands
			what, event = cell(o["kind"]), cell(o["state"])
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", cell(e["at"]), what, event, cell(e["state"]), within(e, "response_code"), within(e, "stan"))
	}
	return t.Flush()
}

// within finds a field in whichever part of an event carries it.
func within(event map[string]any, field string) string {
	for _, part := range []string{"outcome", "response", "operation", "reversal", "attempt"} {
		if m, ok := event[part].(map[string]any); ok && m[field] != nil {
			return cell(m[field])
		}
	}
	return ""
}

func cell(v any) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

func transactionReverse(api *client) *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: "reverse ID", Short: "Reverse a payment", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var answer json.RawMessage
			path := "/v1/authorizations/" + url.PathEscape(args[0]) + "/reversals"
			if err := api.post(cmd.Context(), path, map[string]string{"reason": reason}, "", &answer); err != nil {
				return err
			}
			return printJSON(cmd.OutOrStdout(), answer)
		},
	}
	c.Flags().StringVar(&reason, "reason", "customer_cancellation", "customer_cancellation, suspected_fraud or malfunction")
	return c
}
