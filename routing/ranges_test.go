package routing

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"authswitch/card"
	"authswitch/payment"
)

func pan(t testing.TB, digits string) *card.PAN {
	t.Helper()
	p, err := card.ParsePAN([]byte(digits))
	if err != nil {
		t.Fatal(err)
	}
	return &p
}

// firstCard is a 16-digit number that begins with these digits.
func firstCard(t testing.TB, prefix string) *card.PAN {
	t.Helper()
	b := []byte(prefix + strings.Repeat("0", 16-len(prefix)))
	for !card.Luhn(b) {
		b[15]++
	}
	return pan(t, string(b))
}

// The schemes' published test cards.
func TestDefaultRanges(t *testing.T) {
	table, err := NewTable(DefaultRanges(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		card       *card.PAN
		own, other payment.Scheme
	}{
		{pan(t, "4111111111111111"), payment.Visa, payment.NoScheme},
		{pan(t, "5555555555554444"), payment.Mastercard, payment.NoScheme},
		{pan(t, "378282246310005"), payment.Amex, payment.NoScheme},
		{pan(t, "4970100000000154"), payment.CB, payment.Visa},
		{pan(t, "6011111111111117"), payment.Discover, payment.NoScheme},
		{pan(t, "3530111333300000"), payment.JCB, payment.NoScheme},
		{pan(t, "6250941006528599"), payment.UnionPay, payment.NoScheme},
		{pan(t, "30569309025904"), payment.Discover, payment.NoScheme}, // Diners, 14 digits
		{firstCard(t, "222100"), payment.Mastercard, payment.NoScheme},
		{firstCard(t, "272099"), payment.Mastercard, payment.NoScheme},
		{firstCard(t, "222099"), payment.NoScheme, payment.NoScheme},
		{firstCard(t, "272100"), payment.NoScheme, payment.NoScheme},
		{firstCard(t, "513999"), payment.CB, payment.Mastercard},
		{firstCard(t, "514000"), payment.Mastercard, payment.NoScheme},
		{firstCard(t, "496999"), payment.Visa, payment.NoScheme},
		{firstCard(t, "498000"), payment.Visa, payment.NoScheme},
		{firstCard(t, "352799"), payment.NoScheme, payment.NoScheme},
		{firstCard(t, "358999"), payment.JCB, payment.NoScheme},
		{firstCard(t, "643999"), payment.NoScheme, payment.NoScheme},
		{firstCard(t, "100000"), payment.NoScheme, payment.NoScheme},
		{firstCard(t, "999999"), payment.NoScheme, payment.NoScheme},
		{&card.PAN{}, payment.NoScheme, payment.NoScheme},
	} {
		own, other := table.Schemes(c.card)
		if own != c.own || other != c.other {
			t.Errorf("%v: %v and %v, want %v and %v", c.card, own, other, c.own, c.other)
		}
	}
}

func TestReadRanges(t *testing.T) {
	ranges, err := ReadRanges(strings.NewReader("# comment\nproduct,scheme, high ,low,country,co_badged\r\n\n gold , visa,4999999,4000000,,\n\"x\",cb,497010,497010,FR,visa"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Range{
		{4000000e12, 4999999_999999999999, 7, payment.Visa, payment.NoScheme, "", "gold", 4},
		{497010e13, 497010_9999999999999, 6, payment.CB, payment.Visa, "FR", `"x"`, 5},
	}
	if fmt.Sprint(ranges) != fmt.Sprint(want) {
		t.Errorf("%+v\nwant\n%+v", ranges, want)
	}
	if ranges[1].String() != "497010-497010" {
		t.Error(ranges[1].String())
	}
}

// One line per case: the lines after the header, then every fault.
func TestReadRangesFaults(t *testing.T) {
	const header = "low,high,scheme,co_badged,country,product\n"
	for _, c := range []struct{ text, want string }{
		{"400000,499999,visa,,,", ""},
		{"", "no ranges"},
		{"400000,499999,visa", "line 2: 3 fields; the header has 6"},
		{"400000,499999,visa,,,,", "line 2: 7 fields; the header has 6"},
		{"40000,49999,visa,,,", "line 2: low and high are not 6 to 19 digits"},
		{"40000000000000000000,49999999999999999999,visa,,,", "line 2: low and high are not 6 to 19 digits"},
		{"4000000000000000000,9999999999999999999,visa,,,", ""},
		{"4000000,499999,visa,,,", "line 2: low has 7 digits and high has 6"},
		{"40000x,499999,visa,,,", "line 2: low and high are not 6 to 19 digits"},
		{"+40000,499999,visa,,,", "line 2: low and high are not 6 to 19 digits"},
		{"499999,400000,visa,,,", "line 2: low 499999 is above high 400000"},
		{"400000,499999,viza,,,", `line 2: unknown scheme "viza"`},
		{"400000,499999,,,,", `line 2: unknown scheme ""`},
		{"400000,499999,cb,viza,,", `line 2: unknown scheme "viza" in co_badged`},
		{"400000,499999,visa,visa,,", "line 2: co-badged with its own scheme visa"},
		{"400000,499999,visa,,fr,", `line 2: country "fr" is not two capital letters`},
		{"400000,499999,visa,,FRA,", `line 2: country "FRA" is not two capital letters`},
		{"400000,499999,visa,,," + strings.Repeat("p", 41), "line 2: product is longer than 40 printable characters"},
		{"400000,499999,visa,,,é", "line 2: product is longer than 40 printable characters"},
		{"400000,499999,visa,,,\n4,5,viza,,f,", "line 3: low and high are not 6 to 19 digits\nline 3: unknown scheme \"viza\"\nline 3: country \"f\" is not two capital letters"},
		{"400000,499999,visa,,,\n400000,499999,visa,,,", "line 3 (400000-499999) overlaps line 2 (400000-499999); two schemes on the same cards are declared in co_badged"},
		{"450000,550000,visa,,,\n400000,450000,visa,,,\n", "line 2 (450000-550000) overlaps line 3 (400000-450000); two schemes on the same cards are declared in co_badged"},
		{"400000,499999,visa,,,\n410000,410000,cb,,,\n420000,420000,cb,,,", "line 3 (410000-410000) overlaps line 2 (400000-499999); two schemes on the same cards are declared in co_badged\nline 4 (420000-420000) overlaps line 2 (400000-499999); two schemes on the same cards are declared in co_badged"},
		{"400000,499999,visa,,,\n410000,410000,cb,visa,,\n41000000,41000001,cb,visa,,", "line 4 (41000000-41000001) overlaps line 3 (410000-410000); two schemes on the same cards are declared in co_badged"},
		{"400000,499999,visa,,,\n410000,410000,cb,mastercard,,", "line 3 (410000-410000) is co-badged with mastercard but lies on line 2 (400000-499999) of visa"},
		{"400000,499999,visa,,,\n510000,510000,cb,mastercard,,", "line 3 (510000-510000) is co-badged with mastercard, of which no range covers it wholly"},
		{"400000,499999,visa,,,\n499999,500000,cb,visa,,", "line 3 (499999-500000) is co-badged with visa, of which no range covers it wholly"},
		{"400000,499999,visa,,,\n500001,510000,visa,,,\n490000,509999,cb,visa,,", "line 4 (490000-509999) is co-badged with visa, of which no range covers it wholly"},
		{"400000,499999,visa,,,\n500000,510000,visa,,,\n490000,509999,cb,visa,,", ""},
		{"400000,499999,visa,,,\n500000,510000,amex,,,\n490000,509999,cb,visa,,", "line 4 (490000-509999) is co-badged with visa but lies on line 3 (500000-510000) of amex"},
		{"410000,410000,cb,visa,,\n# below\n400000,499999,visa,,,", ""},
		{strings.Repeat("x", 300), "line 2: longer than 256 characters"},
	} {
		_, err := ReadRanges(strings.NewReader(header + c.text))
		if got := errorText(err); got != c.want {
			t.Errorf("%q:\n%s\nwant\n%s", c.text, got, c.want)
		}
	}
	for _, c := range []struct{ header, want string }{
		{"low,high", `line 1: the header has no column "scheme"`},
		{"low,high,scheme,low", `line 1: column "low" twice`},
		{"low,high,scheme,colour", `line 1: unknown column "colour"; columns are low, high, scheme, co_badged, country, product`},
		{"400000,499999,visa", `line 1: unknown column "400000"; columns are low, high, scheme, co_badged, country, product`},
		{"", "no ranges"},
	} {
		_, err := ReadRanges(strings.NewReader(c.header))
		if got := errorText(err); got != c.want {
			t.Errorf("%q: %s, want %s", c.header, got, c.want)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// A file of nothing but faults is reported up to a limit.
func TestFaultsAreLimited(t *testing.T) {
	_, err := ReadRanges(strings.NewReader("low,high,scheme\n" + strings.Repeat("x,y,z\n", 1000)))
	lines := strings.Split(errorText(err), "\n")
	if len(lines) != maxFaults+1 || lines[maxFaults] != "and 1900 more" {
		t.Errorf("%d lines, the last %q", len(lines), lines[len(lines)-1])
	}
}

func TestNewRange(t *testing.T) {
	r, err := NewRange("497010", "497019", payment.CB, payment.Visa)
	if err != nil || r.String() != "497010-497019" {
		t.Errorf("%v %v", r, err)
	}
	for _, c := range []struct{ low, high string }{{"", ""}, {"49701", "49702"}, {"497019", "497010"}, {"49701a", "49701b"}} {
		if _, err := NewRange(c.low, c.high, payment.CB, payment.Visa); err == nil {
			t.Errorf("%q to %q accepted", c.low, c.high)
		}
	}
	if _, err := NewRange("497010", "497019", payment.CB, payment.CB); err == nil {
		t.Error("co-badged with itself")
	}
}

// randomRanges are disjoint ranges of random widths and gaps, and co-badged
// ones on top of some, among the numbers below 10¹² (then filled up).
func randomRanges(random *rand.Rand, n int) []Range {
	var ranges []Range
	at := uint64(0)
	for range n {
		low := at + random.Uint64N(3)*random.Uint64N(1_000_000_000)
		high := low + random.Uint64N(2)*random.Uint64N(2_000_000_000)
		if high >= 1_000_000_000_000 {
			break
		}
		at = high + 1
		r := mustRange(low, high, payment.Visa, payment.NoScheme)
		ranges = append(ranges, r)
		if random.IntN(3) == 0 {
			from := low + random.Uint64N(high-low+1)
			to := from + random.Uint64N(high-from+1)
			ranges = append(ranges, mustRange(from, to, payment.CB, payment.Visa))
		}
	}
	return ranges
}

func mustRange(low, high uint64, scheme, coBadged payment.Scheme) Range {
	r, err := NewRange(fmt.Sprintf("%012d", low), fmt.Sprintf("%012d", high), scheme, coBadged)
	if err != nil {
		panic(err)
	}
	return r
}

// The index finds what a look at every range finds, at and around every edge.
func TestFindAgreesWithEveryRange(t *testing.T) {
	for seed := range uint64(8) {
		random := rand.New(rand.NewPCG(seed, 1))
		ranges := randomRanges(random, 300)
		random.Shuffle(len(ranges), func(i, j int) { ranges[i], ranges[j] = ranges[j], ranges[i] })
		var f faults
		x := buildIndex(ranges, &f)
		if err := f.err(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		var numbers []uint64
		for _, r := range ranges {
			numbers = append(numbers, r.Low-1, r.Low, r.Low+1, r.High-1, r.High, r.High+1, r.Low/2+r.High/2)
		}
		for range 1000 {
			numbers = append(numbers, random.Uint64N(1e19))
		}
		for _, number := range numbers {
			var own, other payment.Scheme
			for _, r := range ranges {
				if number < r.Low || number > r.High {
					continue
				}
				if r.CoBadged != payment.NoScheme {
					own, other = r.Scheme, r.CoBadged
				} else if own == payment.NoScheme {
					own = r.Scheme
				}
			}
			var got brands
			if b := x.find(number); b != nil {
				got = *b
			}
			if got.own != own || got.other != other {
				t.Fatalf("seed %d: %019d: %v and %v, want %v and %v", seed, number, got.own, got.other, own, other)
			}
		}
	}
}

// A co-badged range may span neighbours of the scheme beneath.
func TestCoBadgeOverSeveralRanges(t *testing.T) {
	ranges := []Range{
		mustRange(100, 199, payment.Visa, payment.NoScheme), mustRange(200, 299, payment.Visa, payment.NoScheme),
		mustRange(300, 399, payment.Visa, payment.NoScheme), mustRange(150, 350, payment.CB, payment.Visa),
		mustRange(360, 360, payment.CB, payment.Visa), mustRange(399, 399, payment.CB, payment.Visa),
	}
	var f faults
	x := buildIndex(ranges, &f)
	if err := f.err(); err != nil {
		t.Fatal(err)
	}
	const fill = 10_000_000
	for number := uint64(90); number < 410; number++ {
		cb := number >= 150 && number <= 350 || number == 360 || number == 399
		b := x.find(number*fill + 12345)
		switch {
		case number < 100 || number > 399:
			if b != nil {
				t.Errorf("%d: found", number)
			}
		case b == nil || cb != (b.own == payment.CB) || cb != (b.other == payment.Visa):
			t.Errorf("%d: %+v", number, b)
		case cb && (x.ranges[b.rangeBase].Low > number*fill || x.ranges[b.rangeBase].High < number*fill):
			t.Errorf("%d: explained by %v", number, x.ranges[b.rangeBase])
		}
	}
}

func FuzzReadRanges(f *testing.F) {
	f.Add(defaultBins)
	f.Add("low,high,scheme\n400000,499999,visa\n")
	f.Add("scheme,high,low,co_badged\nvisa,499999,400000,\ncb,410000,410000,visa\n")
	f.Fuzz(func(t *testing.T, text string) {
		ranges, err := ReadRanges(strings.NewReader(text))
		if err != nil {
			return
		}
		var wrong faults
		x := rangeIndex{ranges: ranges}
		checkRanges(ranges, &wrong)
		x.cut()
		if len(wrong.all) > 0 {
			t.Fatal(wrong.err())
		}
		for i := 1; i < len(x.stretch); i++ {
			if x.stretch[i-1].high >= x.stretch[i].low {
				t.Fatal("stretches overlap")
			}
		}
	})
}
