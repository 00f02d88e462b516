package routing

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"authswitch/card"
	"authswitch/payment"
)

const (
	eur = payment.Currency(978)
	usd = payment.Currency(840)
	jpy = payment.Currency(392)
)

var testTerms = payment.Terms{Terminal: "T1", Acceptor: "PARCELS", MCC: "5942", Acquirer: "97001"}

func contract(scheme payment.Scheme, priority int, links ...payment.LinkName) Contract {
	return Contract{Merchant: "parcels", Scheme: scheme, Priority: priority, Links: links, Terms: testTerms}
}

func newTable(t testing.TB, contracts []Contract, rules ...Rule) *Table {
	t.Helper()
	table, err := NewTable(DefaultRanges(), contracts, rules)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// routed is the answer of Route in one line.
func routed(t *Table, q *Query) string {
	var r Routes
	if err := t.Route(q, &r); err != nil {
		return err.Error()
	}
	var words []string
	for _, one := range r.Route[:r.N] {
		words = append(words, one.Scheme.String()+":"+string(one.Link))
	}
	return strings.Join(words, " ")
}

func testContracts() []Contract {
	cb, visa, amex := contract(payment.CB, 0, "cb-a", "cb-b"), contract(payment.Visa, 0, "visa-a"), contract(payment.Amex, 0, "amex")
	visa.Currencies = []payment.Currency{eur, usd}
	visa.MaxAmount = 100_000
	visa.CVV = CVVEverywhere(CVVRequired)
	amex.Channels = []payment.Channel{payment.Ecommerce, payment.CardPresent}
	other := contract(payment.CB, 5, "cb-a")
	other.Merchant = "books"
	both := contract(payment.Visa, 1, "visa-b", "cb-b", "visa-a")
	both.Merchant = "books"
	return []Contract{cb, visa, amex, other, both}
}

func TestRoute(t *testing.T) {
	table := newTable(t, testContracts())
	cb, visa, amex, mastercard := pan(t, "4970100000000154"), pan(t, "4111111111111111"), pan(t, "378282246310005"), pan(t, "5555555555554444")
	type q = Query
	for _, c := range []struct {
		query q
		want  string
	}{
		{q{PAN: visa}, "visa:visa-a"},
		{q{PAN: cb}, "cb:cb-a cb:cb-b visa:visa-a"},
		{q{PAN: cb, Brand: payment.CB}, "cb:cb-a cb:cb-b"},
		{q{PAN: cb, Brand: payment.Visa}, "visa:visa-a"},
		{q{PAN: cb, Brand: payment.Mastercard}, ErrBrand.Error()},
		{q{PAN: visa, Brand: payment.CB}, ErrBrand.Error()},
		{q{PAN: visa, Brand: payment.Visa}, "visa:visa-a"},
		{q{PAN: cb, Merchant: "books"}, "visa:visa-b visa:cb-b visa:visa-a cb:cb-a"},
		{q{PAN: cb, Merchant: "books", Brand: payment.CB}, "cb:cb-a"},
		{q{PAN: cb, Merchant: "nobody"}, ErrUnknownMerchant.Error()},
		{q{PAN: mastercard}, ErrNoContract.Error()},
		{q{PAN: mastercard, Brand: payment.Mastercard}, ErrNoContract.Error()},
		{q{PAN: firstCard(t, "999999")}, ErrUnknownCard.Error()},
		{q{PAN: &card.PAN{}}, ErrUnknownCard.Error()},

		{q{PAN: amex, Channel: payment.CardPresent}, "amex:amex"},
		{q{PAN: amex, Channel: payment.MOTO}, ErrChannel.Error()},
		{q{PAN: cb, Channel: payment.NoChannel}, ErrChannel.Error()},
		{q{PAN: cb, Channel: 77}, ErrChannel.Error()},
		{q{PAN: visa, Amount: payment.Amount{Value: 1, Currency: jpy}}, ErrCurrency.Error()},
		{q{PAN: cb, Amount: payment.Amount{Value: 1, Currency: jpy}}, "cb:cb-a cb:cb-b"},
		{q{PAN: visa, Amount: payment.Amount{Value: 100_000, Currency: usd}}, "visa:visa-a"},
		{q{PAN: visa, Amount: payment.Amount{Value: 100_001, Currency: usd}}, ErrAmountLimit.Error()},
		{q{PAN: cb, Amount: payment.Amount{Value: payment.MaxAmount, Currency: eur}}, "cb:cb-a cb:cb-b"},
		{q{PAN: cb, Amount: payment.Amount{Value: payment.MaxAmount + 1, Currency: eur}}, ErrAmountLimit.Error()},
	} {
		query := c.query
		query.Merchant = cmpOr(query.Merchant, "parcels")
		if c.query.Channel == payment.NoChannel && c.want != ErrChannel.Error() {
			query.Channel = payment.Ecommerce
		}
		if query.Amount == (payment.Amount{}) {
			query.Amount = payment.Amount{Value: 1000, Currency: eur}
		}
		query.CVVPresent = true
		if got := routed(table, &query); got != c.want {
			t.Errorf("%v %s %s %v: %s, want %s", query.PAN, query.Merchant, query.Brand, query.Amount, got, c.want)
		}
	}
}

func cmpOr[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

func TestCVVPolicy(t *testing.T) {
	table := newTable(t, testContracts())
	for _, c := range []struct {
		channel                          payment.Channel
		present, merchantInitiated, file bool
		refused                          bool
	}{
		{payment.Ecommerce, true, false, false, false},
		{payment.Ecommerce, false, false, false, true},
		{payment.MOTO, false, false, false, true},
		{payment.PayByLink, false, false, false, true},
		{payment.CardPresent, false, false, false, false},
		{payment.Recurring, false, false, false, false},
		{payment.Instalment, false, false, false, false},
		{payment.Ecommerce, false, true, false, false},
		{payment.Ecommerce, false, false, true, false},
	} {
		q := Query{
			Merchant: "parcels", PAN: pan(t, "4111111111111111"), Amount: payment.Amount{Value: 1, Currency: eur},
			Channel: c.channel, CVVPresent: c.present, MerchantInitiated: c.merchantInitiated, StoredCard: c.file,
		}
		var r Routes
		if err := table.Route(&q, &r); errors.Is(err, ErrCVV) != c.refused || !c.refused && err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// Callers tell the errors of the merchant and the card apart, or not.
func TestErrorsNest(t *testing.T) {
	for _, err := range []error{ErrUnknownMerchant, ErrUnknownCard} {
		if !errors.Is(err, ErrNoContract) {
			t.Errorf("%v is not ErrNoContract", err)
		}
	}
	if errors.Is(ErrUnknownMerchant, ErrUnknownCard) || errors.Is(ErrNoContract, ErrUnknownCard) {
		t.Error("errors are one")
	}
}

func TestRules(t *testing.T) {
	bin := func(text string) []BIN {
		b, err := ParseBIN(text)
		if err != nil {
			t.Fatal(err)
		}
		return []BIN{b}
	}
	for _, c := range []struct {
		name  string
		rules []Rule
		want  string // of 10.00 EUR, e-commerce, 4970100000000154
	}{
		{"none", nil, "a b c d"},
		{"prefer", []Rule{{Action: Prefer, Links: links("c")}}, "c a b d"},
		{"prefer two: the contract's order among them", []Rule{{Action: Prefer, Links: links("d", "c")}}, "c d a b"},
		{"avoid", []Rule{{Action: Avoid, Links: links("a")}}, "b c d a"},
		{"deny", []Rule{{Action: Deny, Links: links("a", "c")}}, "b d"},
		{"deny all", []Rule{{Action: Deny, Links: links("a", "b", "c", "d")}}, ErrNoRoute.Error()},
		{"all three", []Rule{{Action: Deny, Links: links("b")}, {Action: Avoid, Links: links("a")}, {Action: Prefer, Links: links("d")}}, "d c a"},
		{"the first decides", []Rule{{Action: Prefer, Links: links("b")}, {Action: Deny, Links: links("b", "c")}}, "b a d"},
		{"the first that matches", []Rule{{Action: Prefer, Links: links("b"), Channels: []payment.Channel{payment.MOTO}}, {Action: Deny, Links: links("b")}}, "a c d"},
		{"channel", []Rule{{Action: Deny, Links: links("a"), Channels: []payment.Channel{payment.MOTO, payment.Ecommerce}}}, "b c d"},
		{"other currency", []Rule{{Action: Deny, Links: links("a"), Currencies: []payment.Currency{usd}}}, "a b c d"},
		{"currency", []Rule{{Action: Deny, Links: links("a"), Currencies: []payment.Currency{usd, eur}}}, "b c d"},
		{"from", []Rule{{Action: Deny, Links: links("a"), Currencies: []payment.Currency{eur}, AmountFrom: 1000}}, "b c d"},
		{"from above", []Rule{{Action: Deny, Links: links("a"), Currencies: []payment.Currency{eur}, AmountFrom: 1001}}, "a b c d"},
		{"to", []Rule{{Action: Deny, Links: links("a"), Currencies: []payment.Currency{eur}, AmountTo: 1000}}, "b c d"},
		{"to below", []Rule{{Action: Deny, Links: links("a"), Currencies: []payment.Currency{eur}, AmountTo: 999}}, "a b c d"},
		{"bin", []Rule{{Action: Deny, Links: links("a"), BINs: bin("497010")}}, "b c d"},
		{"bins", []Rule{{Action: Deny, Links: links("a"), BINs: bin("49700-49701")}}, "b c d"},
		{"one digit", []Rule{{Action: Deny, Links: links("a"), BINs: bin("4")}}, "b c d"},
		{"other bin", []Rule{{Action: Deny, Links: links("a"), BINs: bin("497011-497019")}}, "a b c d"},
		{"one of two bins", []Rule{{Action: Deny, Links: links("a"), BINs: append(bin("5"), bin("49701000")...)}}, "b c d"},
		{"scheme", []Rule{{Action: Deny, Links: links("a"), Schemes: []payment.Scheme{payment.CB}}}, "b c d"},
		{"other scheme", []Rule{{Action: Deny, Links: links("a"), Schemes: []payment.Scheme{payment.Visa}}}, "a b c d"},
		{"merchant", []Rule{{Action: Deny, Links: links("a"), Merchants: []payment.MerchantID{"books", "parcels"}}}, "b c d"},
		{"other merchant", []Rule{{Action: Deny, Links: links("a"), Merchants: []payment.MerchantID{"books"}}}, "a b c d"},
		{"more links than routes", []Rule{{Action: Prefer, Links: links("e")}}, "e a b c"},
	} {
		for i := range c.rules {
			c.rules[i].Name = fmt.Sprint("rule ", i)
		}
		names := links("a", "b", "c", "d")
		if strings.HasPrefix(c.name, "more") {
			names = links("a", "b", "c", "d", "e")
		}
		books := contract(payment.CB, 0, "a")
		books.Merchant = "books"
		table := newTable(t, []Contract{contract(payment.CB, 0, names...), books}, c.rules...)
		q := Query{
			Merchant: "parcels", PAN: pan(t, "4970100000000154"), Amount: payment.Amount{Value: 1000, Currency: eur}, Channel: payment.Ecommerce,
		}
		if got := strings.ReplaceAll(routed(table, &q), "cb:", ""); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func links(names ...payment.LinkName) []payment.LinkName { return names }

// The op table decides as the rules do when read as they were written.
func TestOpTableAgreesWithRules(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	all := links("a", "b", "c", "d")
	currencies := []payment.Currency{eur, usd, jpy, 826}
	channels := []payment.Channel{payment.Ecommerce, payment.MOTO, payment.CardPresent}
	bins := []string{"4", "497", "497010", "49701-49709", "41111111111", "5", "411110-411112"}
	cards := []*card.PAN{pan(t, "4970100000000154"), pan(t, "4111111111111111")}
	for table := range 50 {
		rules := make([]Rule, random.IntN(12))
		for i := range rules {
			r := &rules[i]
			*r = Rule{
				Name: fmt.Sprintf("r%d", i), Action: Action(1 + random.IntN(3)), Links: some(random, all),
				Channels: some(random, channels), Currencies: some(random, currencies),
				Schemes: some(random, []payment.Scheme{payment.CB, payment.Visa}), Merchants: some(random, []payment.MerchantID{"parcels", "books"}),
			}
			if len(r.Links) == 0 {
				r.Links = all[:1]
			}
			for _, text := range some(random, bins) {
				b, err := ParseBIN(text)
				if err != nil {
					t.Fatal(err)
				}
				r.BINs = append(r.BINs, b)
			}
			if len(r.Currencies) > 0 {
				r.AmountFrom = random.Int64N(5)
				r.AmountTo = random.Int64N(2) * (r.AmountFrom + random.Int64N(5))
			}
		}
		books := contract(payment.CB, 0, all...)
		books.Merchant = "books"
		built := newTable(t, []Contract{contract(payment.CB, 0, all...), contract(payment.Visa, 0, all...), books}, rules...)
		for range 200 {
			q := Query{
				Merchant: "parcels", PAN: cards[random.IntN(2)], Channel: channels[random.IntN(3)],
				Amount: payment.Amount{Value: random.Int64N(10), Currency: append(currencies, 756)[random.IntN(5)]},
			}
			if q.Brand = payment.Visa; random.IntN(2) == 0 && q.PAN == cards[0] {
				q.Brand = payment.CB
			}
			if got, want := routed(built, &q), naive(built, rules, &q, all); got != want {
				t.Fatalf("table %d, %+v: %s, want %s\n%+v", table, q, got, want, rules)
			}
		}
	}
}

func some[T any](random *rand.Rand, from []T) []T {
	var chosen []T
	for _, v := range from {
		if random.IntN(3) == 0 {
			chosen = append(chosen, v)
		}
	}
	return chosen
}

// naive walks the rules as written.
func naive(t *Table, rules []Rule, q *Query, all []payment.LinkName) string {
	c := t.Contract(q.Merchant, q.Brand)
	rank := map[payment.LinkName]Action{}
	for i := range rules {
		if rules[i].mismatch(c, q, padded(q.PAN)) != "" {
			continue
		}
		for _, link := range rules[i].Links {
			if _, decided := rank[link]; !decided {
				rank[link] = rules[i].Action
			}
		}
	}
	var words []string
	for _, action := range []Action{Prefer, 0, Avoid} {
		for _, link := range all {
			if rank[link] == action {
				words = append(words, q.Brand.String()+":"+string(link))
			}
		}
	}
	if len(words) == 0 {
		return ErrNoRoute.Error()
	}
	return strings.Join(words, " ")
}

// Everything wrong with contracts and rules is said at once.
func TestNewTableFaults(t *testing.T) {
	overlapping := []Range{mustRange(1, 5, payment.Visa, 0), mustRange(5, 9, payment.Visa, 0)}
	bad := Contract{
		Merchant: "", Links: links("a", "a", ""), Currencies: []payment.Currency{959}, Channels: []payment.Channel{0}, MaxAmount: -1,
		Terms: payment.Terms{Terminal: "123456789", AcceptorName: "é", MCC: "12", Acquirer: "x", Forwarder: "123456789012", Country: "FR"},
	}
	many := contract(payment.Amex, 0, "1", "2", "3", "4", "5", "6", "7", "8", "9")
	_, err := NewTable(overlapping, []Contract{bad, contract(payment.CB, 0, "cb"), contract(payment.CB, 1, "cb"), many}, []Rule{
		{Name: "", Action: 9, AmountFrom: -1},
		{Name: "r", Action: Deny, Links: links("nowhere"), Merchants: []payment.MerchantID{"nobody"}, AmountFrom: 5, AmountTo: 4},
		{Name: "r", Action: Deny, Links: links("cb"), Currencies: []payment.Currency{1}, Channels: []payment.Channel{0}, Schemes: []payment.Scheme{0}},
	})
	got := strings.Split(errorText(err), "\n")
	want := strings.Split(`routing table: 000000000005-000000000009 overlaps 000000000001-000000000005; two schemes on the same cards are declared in co_badged
merchant "", scheme "": merchant is missing
merchant "", scheme "": scheme is missing
merchant "", scheme "": link "a" is empty or named twice
merchant "", scheme "": link "" is empty or named twice
merchant "", scheme "": currency 959 cannot be paid in
merchant "", scheme "": a channel is empty
merchant "", scheme "": max_amount -1 is not between 0 and 999999999999
merchant "", scheme "": terminal "123456789" is not 1 to 8 printable ASCII characters
merchant "", scheme "": acceptor "" is not 1 to 15 printable ASCII characters
merchant "", scheme "": acceptor_name "é" is not 1 to 40 printable ASCII characters
merchant "", scheme "": mcc "12" is not 4 to 4 digits
merchant "", scheme "": acquirer "x" is not 1 to 11 digits
merchant "", scheme "": forwarder "123456789012" is not 1 to 11 digits
merchant "", scheme "": country "FR" is not 3 to 3 digits
merchant parcels: two contracts for cb
merchant "parcels", scheme "amex": 9 links; 1 to 8 are needed
rule "": the name is not 1 to 40 printable characters
rule "": neither prefer, avoid nor deny
rule "": names no link
rule "": amounts -1 to 0 hold nothing
rule "": an amount needs currencies: 10000 is 100.00 EUR and 10,000 JPY
rule "r": amounts 5 to 4 hold nothing
rule "r": an amount needs currencies: 10000 is 100.00 EUR and 10,000 JPY
rule "r": no contract uses link "nowhere"
rule "r": merchant "nobody" has no contract
rule "r": currency 1 cannot be paid in
rule "r": a channel or scheme is empty
rule "r": two rules have this name`, "\n")
	if !slices.Equal(got, want) {
		t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Each limit of a table refuses one more.
func TestTableLimits(t *testing.T) {
	var everyCurrency []payment.Currency
	for c := payment.Currency(1); len(everyCurrency) <= otherCurrency; c++ {
		if c.Exponent() >= 0 {
			everyCurrency = append(everyCurrency, c)
		}
	}
	bins := make([]BIN, maxOps+1)
	one := []Contract{contract(payment.CB, 0, "cb")}
	rule := Rule{Name: "r", Action: Deny, Links: links("cb")}
	for _, c := range []struct {
		name      string
		ranges    []Range
		contracts []Contract
		rules     []Rule
		change    func(*Rule)
	}{
		{name: "2000001 BIN ranges", ranges: make([]Range, maxRanges+1)},
		{name: "100001 contracts", contracts: make([]Contract, maxContracts+1)},
		{name: "1001 rules", contracts: one, rules: make([]Rule, maxRules+1)},
		{name: "64 currencies", contracts: one, change: func(r *Rule) { r.Currencies = everyCurrency }},
		{name: "10001 rows", contracts: one, change: func(r *Rule) { r.BINs = bins }},
	} {
		if c.change != nil {
			r := rule
			c.change(&r)
			c.rules = []Rule{r}
		}
		_, err := NewTable(c.ranges, c.contracts, c.rules)
		if !strings.Contains(errorText(err), c.name) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// A table keeps nothing of what it was built from, and fills in what is left
// out.
func TestTableIsItsOwn(t *testing.T) {
	contracts := testContracts()
	ranges := DefaultRanges()
	table, err := NewTable(ranges, contracts, nil)
	if err != nil {
		t.Fatal(err)
	}
	contracts[0].Links[0], contracts[0].Merchant = "changed", "changed"
	clear(ranges)
	q := Query{Merchant: "parcels", PAN: pan(t, "4970100000000154"), Channel: payment.MOTO, Amount: payment.Amount{Value: 1, Currency: eur}}
	if got := routed(table, &q); got != "cb:cb-a cb:cb-b" {
		t.Error(got)
	}
	c := table.Contract("parcels", payment.CB)
	if c == nil || c.TimeZone != time.UTC || c.Terms != testTerms {
		t.Errorf("%+v", c)
	}
	if table.Contract("parcels", payment.JCB) != nil || table.Contract("nobody", payment.CB) != nil {
		t.Error("a contract out of nowhere")
	}
	if got := fmt.Sprint(table.Links()); got != "[amex cb-a cb-b visa-a visa-b]" {
		t.Error(got)
	}
}

func TestRouteDoesNotAllocate(t *testing.T) {
	table, q := benchmarkTable(t, 1000)
	var r Routes
	if n := testing.AllocsPerRun(1000, func() {
		if err := table.Route(q, &r); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// benchmarkTable has n ranges and a contract to which all of 100 rules apply,
// none of which matches: every row is looked at.
func benchmarkTable(t testing.TB, n uint64) (*Table, *Query) {
	t.Helper()
	ranges := make([]Range, 0, n)
	width := uint64(1_000_000_000_000) / n
	for i := range n {
		ranges = append(ranges, mustRange(i*width, i*width+width-1, payment.Visa, payment.NoScheme))
	}
	var rules []Rule
	for i := range 100 {
		r := Rule{Name: fmt.Sprint("rule ", i), Action: Prefer, Links: links("visa-b")}
		switch i % 4 {
		case 0:
			r.Currencies, r.AmountFrom = []payment.Currency{eur}, int64(100_000+i)
		case 1:
			r.Channels = []payment.Channel{payment.MOTO, payment.Recurring}
		case 2:
			r.Currencies = []payment.Currency{usd, jpy}
		case 3:
			bin, err := ParseBIN(fmt.Sprint(520000 + i))
			if err != nil {
				t.Fatal(err)
			}
			r.BINs = []BIN{bin}
		}
		rules = append(rules, r)
	}
	table, err := NewTable(ranges, []Contract{contract(payment.Visa, 0, "visa-a", "visa-b")}, rules)
	if err != nil {
		t.Fatal(err)
	}
	return table, &Query{
		Merchant: "parcels", PAN: pan(t, "4111111111111111"), Amount: payment.Amount{Value: 1051, Currency: eur}, Channel: payment.Ecommerce,
	}
}

// BenchmarkRoute is routing.lookup_ns: 350,000 ranges, 100 rules, cards all
// over the table so that its cache misses count.
func BenchmarkRoute(b *testing.B) {
	table, q := benchmarkTable(b, 350_000)
	cards := make([]card.PAN, 4096)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range cards {
		cards[i] = *firstCard(b, fmt.Sprintf("%011d", random.Uint64N(100_000_000_000)))
	}
	var r Routes
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		q.PAN = &cards[i%len(cards)]
		if err := table.Route(q, &r); err != nil {
			b.Fatal(err)
		}
	}
}
