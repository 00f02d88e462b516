package routing

import (
	"fmt"
	"slices"
	"strings"

	"authswitch/payment"
)

// Action is what a rule does with a link.
type Action uint8

// The actions.
const (
	Prefer Action = iota + 1 // before the others
	Avoid                    // after the others
	Deny                     // not at all
)

// String is the action's name in configuration.
func (a Action) String() string {
	switch a {
	case Prefer:
		return "prefer"
	case Avoid:
		return "avoid"
	case Deny:
		return "deny"
	}
	return "none"
}

// BIN is a range of first digits in a rule, filled up as Range is.
type BIN struct {
	Low, High uint64
	text      string
}

// maxRuleBIN is the longest prefix in a rule. More would make card numbers of
// prefixes, and configuration is no place for card numbers.
const maxRuleBIN = 11

// ParseBIN reads a prefix such as "497010" or two such as "497010-497019".
func ParseBIN(text string) (BIN, error) {
	low, high, two := strings.Cut(text, "-")
	if !two {
		high = low
	}
	var r Range
	if len(low) > maxRuleBIN || len(low) < 1 || len(low) != len(high) || !digits(low) || !digits(high) {
		return BIN{}, fmt.Errorf("%q is not a prefix of 1 to %d digits, or two of equal length with '-' between", text, maxRuleBIN)
	}
	fill := max(0, minPrefix-len(low))
	if err := r.setPrefixes(low+strings.Repeat("0", fill), high+strings.Repeat("9", fill)); err != nil {
		return BIN{}, err
	}
	return BIN{r.Low, r.High, text}, nil
}

// String is the text it was parsed from.
func (b BIN) String() string { return b.text }

// Rule moves or removes links for the payments it matches. An empty condition
// matches all. Rules are read from first to last, and for each link the first
// that matches decides.
type Rule struct {
	Name       string
	Merchants  []payment.MerchantID
	Schemes    []payment.Scheme
	Channels   []payment.Channel
	Currencies []payment.Currency
	AmountFrom int64 // minor units of one of Currencies, included
	AmountTo   int64 // included; 0: no upper end
	BINs       []BIN
	Action     Action
	Links      []payment.LinkName
}

// Validate reports everything wrong with one rule by itself.
func (r *Rule) Validate() []error {
	var f faults
	name := fmt.Sprintf("rule %q", r.Name)
	if r.Name == "" || len(r.Name) > maxProduct || !printable(r.Name) {
		f.addf("%s: the name is not 1 to %d printable characters", name, maxProduct)
	}
	if r.Action < Prefer || r.Action > Deny {
		f.addf("%s: neither prefer, avoid nor deny", name)
	}
	if len(r.Links) == 0 {
		f.addf("%s: names no link", name)
	}
	if r.AmountFrom < 0 || r.AmountTo < 0 || r.AmountTo != 0 && r.AmountTo < r.AmountFrom {
		f.addf("%s: amounts %d to %d hold nothing", name, r.AmountFrom, r.AmountTo)
	}
	if (r.AmountFrom != 0 || r.AmountTo != 0) && len(r.Currencies) == 0 {
		f.addf("%s: an amount needs currencies: 10000 is 100.00 EUR and 10,000 JPY", name)
	}
	for _, currency := range r.Currencies {
		if currency.Exponent() < 0 {
			f.addf("%s: currency %d cannot be paid in", name, currency)
		}
	}
	if slices.Contains(r.Channels, payment.NoChannel) || slices.Contains(r.Schemes, payment.NoScheme) {
		f.addf("%s: a channel or scheme is empty", name)
	}
	return f.all
}

// op is one row of a contract's op table: a rule, one of its links and one of
// its BIN ranges, with every condition a subtraction or a shift. Merchant and
// scheme are not in it: rows that could not match are not in the contract's
// table. 64 bytes, one cache line.
type op struct {
	binLow, binSpan       uint64
	amountLow, amountSpan uint64
	currencies            uint64 // bits of Table.currencies
	channels              uint16
	link                  uint8 // place in Contract.Links
	action                Action
	reason                string
}

// facts are a query in the form that ops compare with.
type facts struct {
	number   uint64
	amount   uint64
	currency uint64 // a single bit
	channel  payment.Channel
}

// otherCurrency is the bit of every currency that no rule names.
const otherCurrency = 63

func (t *Table) facts(q *Query, number uint64) facts {
	place := slices.Index(t.currencies, q.Amount.Currency)
	if place < 0 {
		place = otherCurrency
	}
	return facts{number, uint64(max(0, q.Amount.Value)), 1 << place, q.Channel}
}

func (o *op) matches(f *facts) bool {
	return f.amount-o.amountLow <= o.amountSpan && f.number-o.binLow <= o.binSpan &&
		o.currencies&f.currency != 0 && o.channels>>f.channel&1 != 0
}

// inOrder is the reason of a link that no rule moved.
const inOrder = "in the contract's order"

// order appends the contract's links to the routes as its rules say.
func (p *plan) order(f *facts, out *Routes) {
	links := p.contract.Links
	var by [maxLinks]*op // what decided each link
	undecided := len(links)
	for i := range p.ops {
		o := &p.ops[i]
		if by[o.link] != nil || !o.matches(f) {
			continue
		}
		by[o.link] = o
		if undecided--; undecided == 0 {
			break
		}
	}
	for _, action := range [...]Action{Prefer, 0, Avoid} {
		for i, link := range links {
			reason, does := inOrder, Action(0)
			if by[i] != nil {
				reason, does = by[i].reason, by[i].action
			}
			if does == action && out.N < MaxRoutes {
				out.Route[out.N] = Route{link, p.contract.Scheme, p.contract, reason}
				out.N++
			}
		}
	}
}

// addRules checks the rules against the contracts and compiles them.
func (t *Table) addRules(f *faults) {
	if len(t.rules) > maxRules {
		f.addf("%d rules; at most %d are supported", len(t.rules), maxRules)
		return
	}
	links := t.Links()
	names := make(map[string]bool, len(t.rules))
	for i := range t.rules {
		r := &t.rules[i]
		for _, err := range r.Validate() {
			f.add(err)
		}
		if names[r.Name] {
			f.addf("rule %q: two rules have this name", r.Name)
		}
		names[r.Name] = true
		for _, link := range r.Links {
			if _, found := slices.BinarySearch(links, link); !found {
				f.addf("rule %q: no contract uses link %q", r.Name, link)
			}
		}
		for _, merchant := range r.Merchants {
			if _, found := t.merchants[merchant]; !found {
				f.addf("rule %q: merchant %q has no contract", r.Name, merchant)
			}
		}
		for _, currency := range r.Currencies {
			if !slices.Contains(t.currencies, currency) {
				t.currencies = append(t.currencies, currency)
			}
		}
	}
	if len(t.currencies) > otherCurrency {
		f.addf("rules name %d currencies; at most %d are supported", len(t.currencies), otherCurrency)
		return
	}
	for _, plans := range t.merchants {
		for i := range plans {
			t.compile(&plans[i], f)
		}
	}
}

// compile writes the op table of one contract.
func (t *Table) compile(p *plan, f *faults) {
	c := p.contract
	for i := range t.rules {
		r := &t.rules[i]
		if !r.concerns(c) {
			continue
		}
		reason := r.reason()
		for _, link := range r.Links {
			place := slices.Index(c.Links, link)
			if place < 0 {
				continue
			}
			for _, bin := range r.bins() {
				p.ops = append(p.ops, op{
					binLow: bin.Low, binSpan: bin.High - bin.Low,
					amountLow: uint64(r.AmountFrom), amountSpan: r.amountSpan(),
					currencies: t.currencyBits(r.Currencies), channels: channelBits(r.Channels),
					link: uint8(place), action: r.Action, reason: reason,
				})
			}
		}
	}
	if len(p.ops) > maxOps {
		f.addf("merchant %s, %s: rules make %d rows; at most %d are supported", c.Merchant, c.Scheme, len(p.ops), maxOps)
	}
}

// concerns says whether the rule can match any payment under a contract.
func (r *Rule) concerns(c *Contract) bool {
	return (len(r.Merchants) == 0 || slices.Contains(r.Merchants, c.Merchant)) &&
		(len(r.Schemes) == 0 || slices.Contains(r.Schemes, c.Scheme))
}

func (r *Rule) bins() []BIN {
	if len(r.BINs) == 0 {
		return []BIN{{Low: 0, High: ^uint64(0)}}
	}
	return r.BINs
}

func (r *Rule) amountSpan() uint64 {
	if r.AmountTo == 0 {
		return ^uint64(0) - uint64(r.AmountFrom)
	}
	return uint64(r.AmountTo - r.AmountFrom)
}

// reason is what a route says that this rule moved.
func (r *Rule) reason() string {
	if r.Action == Prefer {
		return "preferred by rule " + r.Name
	}
	return "avoided by rule " + r.Name
}

func (t *Table) currencyBits(currencies []payment.Currency) uint64 {
	if len(currencies) == 0 {
		return ^uint64(0)
	}
	var bits uint64
	for _, c := range currencies {
		bits |= 1 << slices.Index(t.currencies, c)
	}
	return bits
}
