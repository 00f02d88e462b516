package routing

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"authswitch/payment"
)

// Explain writes why a payment goes where it goes, line by line, the card
// masked. It walks the same steps as Route and ends with what Route answers.
func (t *Table) Explain(w io.Writer, q *Query) {
	e := explanation{w: w, t: t, q: q, number: padded(q.PAN)}
	e.card()
	e.merchant()
	candidates, n, err := t.candidates(q, e.number)
	if err == nil {
		for _, p := range candidates[:n] {
			e.plan(p)
		}
	}
	e.answer()
}

type explanation struct {
	w      io.Writer
	t      *Table
	q      *Query
	number uint64
}

func (e *explanation) say(format string, args ...any) { fmt.Fprintf(e.w, format+"\n", args...) }

func (e *explanation) card() {
	e.say("card %s", e.q.PAN.Masked())
	b := e.t.ranges.find(e.number)
	if b == nil {
		e.say("  is in no BIN range")
		return
	}
	own := &e.t.ranges.ranges[b.rangeOwn]
	e.say("  %s: %s%s", own.where(), own.Scheme, own.about())
	if b.rangeBase >= 0 {
		base := &e.t.ranges.ranges[b.rangeBase]
		e.say("  co-badged with %s: %s%s", base.Scheme, base.where(), base.about())
	}
	if e.q.Brand != payment.NoScheme {
		e.say("  the cardholder chose %s", e.q.Brand)
	}
}

// about is what else the table says of a range.
func (r *Range) about() string {
	var text string
	if r.Country != "" {
		text += ", issued in " + r.Country
	}
	if r.Product != "" {
		text += ", " + r.Product
	}
	return text
}

func (e *explanation) merchant() {
	plans := e.t.merchants[e.q.Merchant]
	if len(plans) == 0 {
		e.say("merchant %q has no contract", e.q.Merchant)
		return
	}
	var schemes []string
	for _, p := range plans {
		schemes = append(schemes, fmt.Sprintf("%s (priority %d)", p.contract.Scheme, p.contract.Priority))
	}
	e.say("merchant %s has contracts for %s", e.q.Merchant, strings.Join(schemes, ", "))
}

func (e *explanation) plan(p *plan) {
	c := p.contract
	e.say("%s contract", c.Scheme)
	if err := p.accepts(e.q); err != nil {
		e.say("  refuses: %v (%s)", err, e.refused(c, err))
		return
	}
	e.say("  accepts %s, %s", e.q.Channel, amountText(e.q.Amount))
	for i := range e.t.rules {
		r := &e.t.rules[i]
		if why := r.mismatch(c, e.q, e.number); why != "" {
			e.say("  rule %s does not match: %s", r.Name, why)
		} else {
			e.say("  rule %s matches: %s %s", r.Name, r.Action, joined(r.Links))
		}
	}
}

// refused is the term of the contract behind a refusal.
func (e *explanation) refused(c *Contract, err error) string {
	switch {
	case errors.Is(err, ErrChannel):
		return fmt.Sprintf("%s is not among %s", e.q.Channel, joined(c.Channels))
	case errors.Is(err, ErrCurrency):
		return fmt.Sprintf("%s is not among %s", e.q.Amount.Currency, joined(c.Currencies))
	case errors.Is(err, ErrAmountBelow):
		return fmt.Sprintf("the least is %s", amountText(payment.Amount{Value: c.MinAmount, Currency: e.q.Amount.Currency}))
	case errors.Is(err, ErrAmountLimit):
		return fmt.Sprintf("the limit is %s", amountText(payment.Amount{Value: c.limit(), Currency: e.q.Amount.Currency}))
	}
	return fmt.Sprintf("its CVV policy is %s", c.CVV.of(e.q))
}

func (e *explanation) answer() {
	var routes Routes
	if err := e.t.Route(e.q, &routes); err != nil {
		e.say("no route: %v", err)
		return
	}
	e.say("routes")
	for i, r := range routes.Route[:routes.N] {
		e.say("  %d. %s over %s: %s", i+1, r.Scheme, r.Link, r.Reason)
	}
}

// mismatch is the first condition of a rule that a payment under a contract
// does not meet, "" when it meets all. It reads the rule as it was written; the
// op table must agree with it, which a test holds.
func (r *Rule) mismatch(c *Contract, q *Query, number uint64) string {
	inBIN := func(b BIN) bool { return b.Low <= number && number <= b.High }
	sharesLink := func(l payment.LinkName) bool { return slices.Contains(c.Links, l) }
	switch {
	case len(r.Merchants) > 0 && !slices.Contains(r.Merchants, q.Merchant):
		return "it is for merchants " + joined(r.Merchants)
	case len(r.Schemes) > 0 && !slices.Contains(r.Schemes, c.Scheme):
		return "it is for " + joined(r.Schemes)
	case !slices.ContainsFunc(r.Links, sharesLink):
		return "the contract does not use " + joined(r.Links)
	case len(r.Channels) > 0 && !slices.Contains(r.Channels, q.Channel):
		return "it is for " + joined(r.Channels)
	case len(r.Currencies) > 0 && !slices.Contains(r.Currencies, q.Amount.Currency):
		return "it is for " + joined(r.Currencies)
	case q.Amount.Value < r.AmountFrom:
		return "it begins at " + amountText(payment.Amount{Value: r.AmountFrom, Currency: q.Amount.Currency})
	case r.AmountTo != 0 && q.Amount.Value > r.AmountTo:
		return "it ends at " + amountText(payment.Amount{Value: r.AmountTo, Currency: q.Amount.Currency})
	case len(r.BINs) > 0 && !slices.ContainsFunc(r.BINs, inBIN):
		return "it is for cards " + joined(r.BINs)
	}
	return ""
}

// Conditions are the rule's conditions in words, "always" when it has none.
func (r *Rule) Conditions() string {
	var parts []string
	add := func(name, list string) {
		if list != "" {
			parts = append(parts, name+" "+list)
		}
	}
	add("merchant", joined(r.Merchants))
	add("scheme", joined(r.Schemes))
	add("channel", joined(r.Channels))
	add("currency", joined(r.Currencies))
	if r.AmountFrom != 0 {
		add("amount from", fmt.Sprint(r.AmountFrom))
	}
	if r.AmountTo != 0 {
		add("amount to", fmt.Sprint(r.AmountTo))
	}
	add("card", joined(r.BINs))
	if len(parts) == 0 {
		return "always"
	}
	return strings.Join(parts, "; ")
}

// joined is a list in words.
func joined[T any](list []T) string {
	words := make([]string, len(list))
	for i, v := range list {
		words[i] = fmt.Sprint(v)
	}
	return strings.Join(words, ", ")
}

// amountText is money as a person writes it: 10.51 EUR.
func amountText(a payment.Amount) string {
	exponent := max(0, a.Currency.Exponent())
	text := fmt.Sprintf("%0*d", exponent+1, a.Value)
	if exponent > 0 {
		text = text[:len(text)-exponent] + "." + text[len(text)-exponent:]
	}
	return text + " " + a.Currency.String()
}
