package payment

import (
	"errors"
	"math"
	"strconv"
	"testing"
)

// The whole of ISO 4217, both ways.
func TestCurrencies(t *testing.T) {
	all := rows(t, "testdata/iso4217.txt")
	if len(all) != len(currencies) {
		t.Errorf("%d currencies, want %d", len(currencies), len(all))
	}
	before := ""
	for _, row := range all {
		name, number, unit := row[0], row[1], row[2]
		if name <= before {
			t.Fatalf("%s after %s", name, before)
		}
		before = name
		code, err := strconv.Atoi(number)
		if err != nil {
			t.Fatal(err)
		}
		exponent := -1
		if unit != "-" {
			if exponent, err = strconv.Atoi(unit); err != nil {
				t.Fatal(err)
			}
		}
		c := Currency(code)
		if c.String() != name || c.Exponent() != exponent || string(c.Append(nil)) != number {
			t.Errorf("%s: %s, exponent %d, %s", name, c, c.Exponent(), c.Append(nil))
		}
		parsed, err := ParseCurrency([]byte(name))
		if exponent < 0 {
			if !errors.Is(err, ErrUnknownCurrency) {
				t.Errorf("%s has no minor unit and can be paid in", name)
			}
		} else if err != nil || parsed != c {
			t.Errorf("%s: %d %v", name, parsed, err)
		}
	}
	for _, bad := range []string{"", "E", "EU", "EURO", "eur", "Eur", "AAA", "ZZZ", "978", "EU\x00", "BGN"} {
		if c, err := ParseCurrency([]byte(bad)); !errors.Is(err, ErrUnknownCurrency) || c != 0 {
			t.Errorf("%q: %d %v", bad, c, err)
		}
	}
	if c := Currency(0); c.String() != "" || c.Exponent() != -1 {
		t.Error("no currency has a name")
	}
}

func TestAmounts(t *testing.T) {
	const eur, usd = 978, 840
	for _, c := range []struct {
		a, b     int64
		sum, dif int64
		sumErr   error
		difErr   error
	}{
		{0, 0, 0, 0, nil, nil},
		{1051, 49, 1100, 1002, nil, nil},
		{5, 7, 12, -2, nil, nil},
		{MaxAmount, 1, MaxAmount + 1, MaxAmount - 1, nil, nil},
		{math.MaxInt64, 0, math.MaxInt64, math.MaxInt64, nil, nil},
		{math.MaxInt64, 1, 0, math.MaxInt64 - 1, ErrOverflow, nil},
		{math.MaxInt64, -1, math.MaxInt64 - 1, 0, nil, ErrOverflow},
		{math.MinInt64, 1, math.MinInt64 + 1, 0, nil, ErrOverflow},
		{math.MinInt64, -1, 0, math.MinInt64 + 1, ErrOverflow, nil},
		{0, math.MinInt64, math.MinInt64, 0, nil, ErrOverflow},
		{-1, math.MinInt64, 0, 0, ErrOverflow, ErrOverflow},
		{math.MaxInt64, math.MaxInt64, 0, 0, ErrOverflow, nil},
		{math.MinInt64, math.MinInt64, 0, 0, ErrOverflow, ErrOverflow},
	} {
		a, b := Amount{c.a, eur}, Amount{c.b, eur}
		sum, err := a.Add(b)
		if !errors.Is(err, c.sumErr) || err == nil && sum != (Amount{c.sum, eur}) {
			t.Errorf("%d + %d: %v %v", c.a, c.b, sum, err)
		}
		dif, err := a.Sub(b)
		if !errors.Is(err, c.difErr) || err == nil && dif != (Amount{c.dif, eur}) {
			t.Errorf("%d - %d: %v %v", c.a, c.b, dif, err)
		}
	}
	for _, f := range []func(Amount) (Amount, error){Amount{1, eur}.Add, Amount{1, eur}.Sub} {
		if _, err := f(Amount{1, usd}); !errors.Is(err, ErrCurrencyMismatch) {
			t.Errorf("two currencies: %v", err)
		}
	}
}

func FuzzParseCurrency(f *testing.F) {
	f.Add([]byte("EUR"))
	f.Add([]byte("XAU"))
	f.Fuzz(func(t *testing.T, name []byte) {
		c, err := ParseCurrency(name)
		if err == nil && (c.String() != string(name) || c.Exponent() < 0) {
			t.Errorf("%q: %s, exponent %d", name, c, c.Exponent())
		}
	})
}
