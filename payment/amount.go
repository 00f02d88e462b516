package payment

import (
	"errors"
	"math"
)

// Amount is money in minor units of its currency.
type Amount struct {
	Value    int64
	Currency Currency
}

// Errors of amounts.
var (
	ErrOverflow         = errors.New("amount overflows")
	ErrCurrencyMismatch = errors.New("amounts in different currencies")
	ErrUnknownCurrency  = errors.New("unknown currency")
)

// MaxAmount is the largest amount that travels: DE 4 is n12.
const MaxAmount = 999_999_999_999

// Add is a + b in the same currency.
func (a Amount) Add(b Amount) (Amount, error) {
	if a.Currency != b.Currency {
		return Amount{}, ErrCurrencyMismatch
	}
	if b.Value > 0 && a.Value > math.MaxInt64-b.Value || b.Value < 0 && a.Value < math.MinInt64-b.Value {
		return Amount{}, ErrOverflow
	}
	return Amount{a.Value + b.Value, a.Currency}, nil
}

// Sub is a - b in the same currency.
func (a Amount) Sub(b Amount) (Amount, error) {
	if b.Value == math.MinInt64 {
		return Amount{}, ErrOverflow
	}
	return a.Add(Amount{-b.Value, b.Currency})
}

// Currency is an ISO 4217 numeric code. Zero is none.
type Currency uint16

// Append writes the n3 form, DE 49.
func (c Currency) Append(dst []byte) []byte { return appendPadded(dst, uint64(c), 3) }

// String is the alphabetic code, "" when unknown.
func (c Currency) String() string {
	if e := currencyByCode(c); e != nil {
		return e.name
	}
	return ""
}

// Exponent is the number of decimals of the minor unit: EUR 2, JPY 0, TND 3;
// -1 when the currency is unknown or has none (precious metals, test codes).
func (c Currency) Exponent() int {
	if e := currencyByCode(c); e != nil {
		return int(e.exponent)
	}
	return -1
}

// ParseCurrency reads an alphabetic code in upper case. Codes without a minor
// unit cannot be paid in and are refused.
func ParseCurrency(name []byte) (Currency, error) {
	if len(name) != 3 {
		return 0, ErrUnknownCurrency
	}
	low, high := 0, len(currencies)
	for low < high {
		middle := (low + high) / 2
		if currencies[middle].name < string(name) {
			low = middle + 1
		} else {
			high = middle
		}
	}
	if low == len(currencies) || currencies[low].name != string(name) || currencies[low].exponent < 0 {
		return 0, ErrUnknownCurrency
	}
	return currencies[low].code, nil
}

// currencyByCode scans 180 entries of 24 bytes; it is off the hot path except
// for one look-up per answer, which costs about 60 ns.
func currencyByCode(c Currency) *currencyEntry {
	for i := range currencies {
		if currencies[i].code == c {
			return &currencies[i]
		}
	}
	return nil
}

type currencyEntry struct {
	name     string
	code     Currency
	exponent int8
}
