// Package routing decides which links an authorization may take, in which
// order, under which contract, and can say why.
//
// A Table is built from BIN ranges, merchants' contracts and rules, and never
// changes: whoever holds it swaps the whole by an atomic pointer. The package
// has no clock, no lock, no goroutine and no I/O but reading a table of ranges
// from a reader; whether a link is up is not its business. Called by: switching
// (Route), cmd (build, explain).
package routing

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"authswitch/card"
	"authswitch/payment"
)

// Errors of Route: why there is no way to send this payment. The first two
// also answer to ErrNoContract.
var (
	ErrNoContract      = errors.New("no contract for the card's scheme")
	ErrUnknownMerchant = fmt.Errorf("unknown merchant: %w", ErrNoContract)
	ErrUnknownCard     = fmt.Errorf("card number in no known range: %w", ErrNoContract)
	ErrBrand           = errors.New("the card does not carry this brand")
	ErrChannel         = errors.New("channel not in the contract")
	ErrCurrency        = errors.New("currency not in the contract")
	ErrAmountLimit     = errors.New("amount above the contract's limit")
	ErrAmountBelow     = errors.New("amount below the contract's least")
	ErrCVV             = errors.New("the contract requires a security code")
	ErrCVVForbidden    = errors.New("the contract takes no security code here")
	ErrNoRoute         = errors.New("every link is denied by rules")
)

// Limits of a table. A contract's links fit the bits of a word; the others
// bound memory and start-up time.
const (
	maxLinks     = 8
	maxRules     = 1000
	maxContracts = 100_000
	maxRanges    = 2_000_000
	maxOps       = 10_000 // of one contract, after a rule's lists are multiplied out
	maxFaults    = 100    // reported at once
)

// MaxRoutes is how many routes one payment gets at most.
const MaxRoutes = 4

// Query is what is known of a payment when its route is chosen.
type Query struct {
	Merchant          payment.MerchantID
	PAN               *card.PAN
	Brand             payment.Scheme // the cardholder's choice, NoScheme when none was made
	Amount            payment.Amount
	Channel           payment.Channel
	CVVPresent        bool
	MerchantInitiated bool // no cardholder is there to give a security code
	StoredCard        bool // the card is on file; its security code is not
}

// Route is one way to send a payment.
type Route struct {
	Link     payment.LinkName
	Scheme   payment.Scheme
	Contract *Contract // belongs to the table; read only
	Reason   string    // why it stands where it stands; made when the table was built
}

// Routes are the ways in the order to try them.
type Routes struct {
	N     int
	Route [MaxRoutes]Route
}

// Table is immutable and safe for concurrent use.
type Table struct {
	ranges     rangeIndex
	merchants  map[payment.MerchantID][]plan // by priority
	contracts  []Contract
	rules      []Rule
	currencies []payment.Currency // those that rules name; the place is the bit
}

// plan is a contract with the rules that can matter to it.
type plan struct {
	contract   *Contract
	currencies []payment.Currency
	channels   uint16 // bit set of payment.Channel
	ops        []op
}

// NewTable checks everything and builds a table, or reports all faults.
func NewTable(ranges []Range, contracts []Contract, rules []Rule) (*Table, error) {
	var f faults
	t := &Table{merchants: make(map[payment.MerchantID][]plan), rules: slices.Clone(rules)}
	t.ranges = buildIndex(ranges, &f)
	t.addContracts(contracts, &f)
	t.addRules(&f)
	if err := f.err(); err != nil {
		return nil, fmt.Errorf("routing table: %w", err)
	}
	return t, nil
}

func (t *Table) addContracts(contracts []Contract, f *faults) {
	if len(contracts) > maxContracts {
		f.addf("%d contracts; at most %d are supported", len(contracts), maxContracts)
		return
	}
	// A fixed array: the plans point into it.
	t.contracts = make([]Contract, len(contracts))
	for i := range contracts {
		c := &t.contracts[i]
		*c = contracts[i].clone()
		if c.TimeZone == nil {
			c.TimeZone = time.UTC
		}
		for _, err := range c.Validate() {
			f.add(err)
		}
		plans := t.merchants[c.Merchant]
		for j := range plans {
			if plans[j].contract.Scheme == c.Scheme {
				f.addf("merchant %s: two contracts for %s", c.Merchant, c.Scheme)
			}
		}
		t.merchants[c.Merchant] = append(plans, plan{contract: c, currencies: c.Currencies, channels: channelBits(c.Channels)})
	}
	for _, plans := range t.merchants {
		slices.SortStableFunc(plans, func(a, b plan) int { return a.contract.Priority - b.contract.Priority })
	}
}

// Route fills out with the routes of a payment in the order to try them. It
// allocates nothing. An error is one of this package's sentinels.
func (t *Table) Route(q *Query, out *Routes) error {
	*out = Routes{}
	number := padded(q.PAN)
	candidates, n, err := t.candidates(q, number)
	if err != nil {
		return err
	}
	facts := t.facts(q, number)
	for _, p := range candidates[:n] {
		if refusal := p.accepts(q); refusal != nil {
			if err == nil {
				err = refusal
			}
			continue
		}
		p.order(&facts, out)
	}
	switch {
	case out.N > 0:
		return nil
	case err != nil:
		return err
	}
	return ErrNoRoute
}

// candidates are the contracts that fit the card, the preferred one first: the
// cardholder's choice alone where one was made (Regulation (EU) 2015/751,
// article 8(6): the merchant may set a default but not override), else the
// merchant's priority, and with equal priority the card's own scheme before
// the one it is co-badged with.
func (t *Table) candidates(q *Query, number uint64) (found [2]*plan, n int, err error) {
	plans := t.merchants[q.Merchant]
	if len(plans) == 0 {
		return found, 0, ErrUnknownMerchant
	}
	brands := t.ranges.find(number)
	if brands == nil {
		return found, 0, ErrUnknownCard
	}
	if q.Brand != payment.NoScheme && q.Brand != brands.own && q.Brand != brands.other {
		return found, 0, ErrBrand
	}
	for _, scheme := range [2]payment.Scheme{brands.own, brands.other} {
		if scheme == payment.NoScheme || q.Brand != payment.NoScheme && q.Brand != scheme {
			continue
		}
		for i := range plans {
			if plans[i].contract.Scheme == scheme {
				found[n] = &plans[i]
				n++
			}
		}
	}
	if n == 0 {
		return found, 0, ErrNoContract
	}
	if n == 2 && found[1].contract.Priority < found[0].contract.Priority {
		found[0], found[1] = found[1], found[0]
	}
	return found, n, nil
}

// accepts says whether the contract covers the payment, nil when it does.
func (p *plan) accepts(q *Query) error {
	c := p.contract
	if p.channels>>q.Channel&1 == 0 {
		return ErrChannel
	}
	if len(p.currencies) > 0 && !slices.Contains(p.currencies, q.Amount.Currency) {
		return ErrCurrency
	}
	if q.Amount.Value > c.limit() {
		return ErrAmountLimit
	}
	if q.Amount.Value < c.MinAmount {
		return ErrAmountBelow
	}
	return c.CVV.refuses(q)
}

// Contract is a merchant's contract for a scheme, nil when there is none.
func (t *Table) Contract(merchant payment.MerchantID, scheme payment.Scheme) *Contract {
	for _, p := range t.merchants[merchant] {
		if p.contract.Scheme == scheme {
			return p.contract
		}
	}
	return nil
}

// Contracts are all contracts, in the order they were given. Read only.
func (t *Table) Contracts() []Contract { return t.contracts }

// Rules are all rules, in the order they are read. Read only.
func (t *Table) Rules() []Rule { return t.rules }

// Ranges are all BIN ranges, sorted. Read only.
func (t *Table) Ranges() []Range { return t.ranges.ranges }

// Links are the names of all links that any contract uses, sorted.
func (t *Table) Links() []payment.LinkName {
	var all []payment.LinkName
	for i := range t.contracts {
		all = append(all, t.contracts[i].Links...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Schemes are the card's own scheme and the one it is co-badged with; NoScheme
// where there is none.
func (t *Table) Schemes(p *card.PAN) (own, other payment.Scheme) {
	if b := t.ranges.find(padded(p)); b != nil {
		return b.own, b.other
	}
	return payment.NoScheme, payment.NoScheme
}

// faults collects what is wrong, so that everything is reported at once.
type faults struct {
	all     []error
	dropped int
}

func (f *faults) add(err error) {
	if len(f.all) == maxFaults {
		f.dropped++
		return
	}
	f.all = append(f.all, err)
}

func (f *faults) addf(format string, args ...any) { f.add(fmt.Errorf(format, args...)) }

func (f *faults) err() error {
	if f.dropped > 0 {
		return errors.Join(append(f.all, fmt.Errorf("and %d more", f.dropped))...)
	}
	return errors.Join(f.all...)
}
