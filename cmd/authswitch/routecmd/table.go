package routecmd

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"authswitch/payment"
	"authswitch/routing"
)

// shownRanges bounds the ranges that are printed without --ranges: a real BIN
// table has hundreds of thousands.
const shownRanges = 50

func tableCommand(o *options) *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "table",
		Short: "Show contracts, rules and BIN ranges",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			t, err := o.table()
			if err != nil {
				return err
			}
			if o.wantsJSON() {
				return printJSON(c.OutOrStdout(), describe(t))
			}
			return printTable(c.OutOrStdout(), t, all)
		},
	}
	c.Flags().BoolVar(&all, "ranges", false, fmt.Sprintf("show every BIN range, not the first %d", shownRanges))
	return c
}

// tableView is the table as JSON.
type tableView struct {
	Contracts []contractView `json:"contracts"`
	Rules     []ruleView     `json:"rules"`
	Ranges    []rangeView    `json:"ranges"`
}

type contractView struct {
	Merchant   payment.MerchantID `json:"merchant"`
	Scheme     string             `json:"scheme"`
	Priority   int                `json:"priority"`
	Links      []payment.LinkName `json:"links"`
	Acquirer   string             `json:"acquirer"`
	Terminal   string             `json:"terminal"`
	Currencies []string           `json:"currencies,omitempty"`
	Channels   []string           `json:"channels,omitempty"`
	MaxAmount  int64              `json:"max_amount,omitempty"`
	CVV        string             `json:"cvv"`
}

type ruleView struct {
	Name   string             `json:"name"`
	When   string             `json:"when"`
	Action string             `json:"action"`
	Links  []payment.LinkName `json:"links"`
}

type rangeView struct {
	Low      string `json:"low"`
	High     string `json:"high"`
	Scheme   string `json:"scheme"`
	CoBadged string `json:"co_badged,omitempty"`
	Country  string `json:"country,omitempty"`
	Product  string `json:"product,omitempty"`
}

func describe(t *routing.Table) tableView {
	view := tableView{Contracts: []contractView{}, Rules: []ruleView{}, Ranges: []rangeView{}}
	for _, c := range t.Contracts() {
		view.Contracts = append(view.Contracts, contractView{
			Merchant: c.Merchant, Scheme: c.Scheme.String(), Priority: c.Priority, Links: c.Links,
			Acquirer: c.Terms.Acquirer, Terminal: c.Terms.Terminal,
			Currencies: texts(c.Currencies), Channels: texts(c.Channels), MaxAmount: c.MaxAmount, CVV: c.CVV.String(),
		})
	}
	for _, r := range t.Rules() {
		view.Rules = append(view.Rules, ruleView{Name: r.Name, When: r.Conditions(), Action: r.Action.String(), Links: r.Links})
	}
	for _, r := range t.Ranges() {
		low, high := r.Prefixes()
		view.Ranges = append(view.Ranges, rangeView{low, high, r.Scheme.String(), r.CoBadged.String(), r.Country, r.Product})
	}
	return view
}

func texts[T fmt.Stringer](list []T) []string {
	words := make([]string, len(list))
	for i, v := range list {
		words[i] = v.String()
	}
	return words
}

func printTable(out io.Writer, t *routing.Table, all bool) error {
	view := describe(t)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MERCHANT\tSCHEME\tPRIORITY\tLINKS\tACQUIRER\tCURRENCIES\tCHANNELS\tCVV")
	for _, c := range view.Contracts {
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\n",
			c.Merchant, c.Scheme, c.Priority, list(c.Links), c.Acquirer, orAll(c.Currencies), orAll(c.Channels), c.CVV)
	}
	if len(view.Rules) > 0 {
		fmt.Fprintln(w, "\nRULE\tWHEN\tTHEN")
	}
	for _, r := range view.Rules {
		fmt.Fprintf(w, "%s\t%s\t%s %s\n", r.Name, r.When, r.Action, list(r.Links))
	}
	fmt.Fprintln(w, "\nFROM\tTO\tSCHEME\tCO-BADGED\tCOUNTRY\tPRODUCT")
	for i, r := range view.Ranges {
		if i == shownRanges && !all {
			fmt.Fprintf(w, "and %d more; --ranges shows all\n", len(view.Ranges)-shownRanges)
			break
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", r.Low, r.High, r.Scheme, r.CoBadged, r.Country, r.Product)
	}
	return w.Flush()
}

func list[T ~string](items []T) string {
	words := make([]string, len(items))
	for i, item := range items {
		words[i] = string(item)
	}
	return strings.Join(words, ", ")
}

func orAll(items []string) string {
	if len(items) == 0 {
		return "all"
	}
	return list(items)
}
