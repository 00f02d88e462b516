package routing

import (
	"fmt"
	"slices"
	"time"

	"authswitch/payment"
)

// Contract is what a merchant agreed with the acquirers of one scheme.
type Contract struct {
	Merchant payment.MerchantID
	Scheme   payment.Scheme
	// Priority orders a merchant's schemes on a co-badged card when the
	// cardholder chose none: the lower goes first.
	Priority        int
	Links           []payment.LinkName // in the order to try them
	Terms           payment.Terms
	Currencies      []payment.Currency // empty: every currency
	Channels        []payment.Channel  // empty: every channel
	MinAmount       int64              // minor units of the payment's currency; 0: none
	MaxAmount       int64              // minor units of the payment's currency; 0: payment.MaxAmount
	PartialApproval bool               // the merchant can take a partial approval
	CVV             CVVRules
	CaptureWithin   time.Duration  // then what was not captured is reversed; 0: never
	CaptureBy       CaptureBy      // how captures reach the acquirer
	FreeRefunds     bool           // refunds that name no payment of ours are allowed
	TimeZone        *time.Location // of the terminal, DE 12 and 13; nil: UTC
}

// CaptureBy is how a merchant's captures reach the acquirer.
type CaptureBy uint8

// The ways.
const (
	// CaptureByLink is an advice where the link's dialect has one, else a file.
	CaptureByLink CaptureBy = iota
	CaptureByAdvice
	CaptureByFile
	CaptureByBatchUpload
)

// captureByNames are read-only.
var captureByNames = [...]string{"", "advice", "file", "batch_upload"}

// String is the way's name in configuration.
func (c CaptureBy) String() string {
	if int(c) >= len(captureByNames) {
		return "invalid"
	}
	return captureByNames[c]
}

// ParseCaptureBy reads a name as String writes it.
func ParseCaptureBy(name string) (CaptureBy, bool) {
	i := slices.Index(captureByNames[:], name)
	return CaptureBy(max(i, 0)), i >= 0
}

func (c *Contract) limit() int64 {
	if c.MaxAmount == 0 {
		return payment.MaxAmount
	}
	return c.MaxAmount
}

func (c *Contract) clone() Contract {
	d := *c
	d.Links = slices.Clone(c.Links)
	d.Currencies = slices.Clone(c.Currencies)
	d.Channels = slices.Clone(c.Channels)
	return d
}

// Validate reports everything wrong with one contract by itself.
func (c *Contract) Validate() []error {
	var f faults
	name := fmt.Sprintf("merchant %q, scheme %q", c.Merchant, c.Scheme)
	if c.Merchant == "" {
		f.addf("%s: merchant is missing", name)
	}
	if c.Scheme == payment.NoScheme {
		f.addf("%s: scheme is missing", name)
	}
	if len(c.Links) == 0 || len(c.Links) > maxLinks {
		f.addf("%s: %d links; 1 to %d are needed", name, len(c.Links), maxLinks)
	}
	for i, link := range c.Links {
		if link == "" || slices.Contains(c.Links[:i], link) {
			f.addf("%s: link %q is empty or named twice", name, link)
		}
	}
	for _, currency := range c.Currencies {
		if currency.Exponent() < 0 {
			f.addf("%s: currency %d cannot be paid in", name, currency)
		}
	}
	if slices.Contains(c.Channels, payment.NoChannel) {
		f.addf("%s: a channel is empty", name)
	}
	if c.MaxAmount < 0 || c.MaxAmount > payment.MaxAmount {
		f.addf("%s: max_amount %d is not between 0 and %d", name, c.MaxAmount, int64(payment.MaxAmount))
	}
	if c.MinAmount < 0 || c.MinAmount > 0 && c.MinAmount > c.limit() {
		f.addf("%s: min_amount %d is not between 0 and the limit, %d", name, c.MinAmount, c.limit())
	}
	for _, err := range validateTerms(&c.Terms) {
		f.addf("%s: %w", name, err)
	}
	return f.all
}

// validateTerms checks what the wire can carry: DE 41 ans8, DE 42 ans15, DE 43
// ans40, DE 18 n4, DE 32 and 33 n..11, DE 19 n3.
func validateTerms(t *payment.Terms) []error {
	var f faults
	text := func(name, value string, longest int, needed bool) {
		if len(value) > longest || needed && value == "" || !printable(value) {
			f.addf("%s %q is not 1 to %d printable ASCII characters", name, value, longest)
		}
	}
	number := func(name, value string, shortest, longest int, needed bool) {
		if value == "" && !needed {
			return
		}
		if len(value) < shortest || len(value) > longest || !digits(value) {
			f.addf("%s %q is not %d to %d digits", name, value, shortest, longest)
		}
	}
	text("terminal", t.Terminal, 8, true)
	text("acceptor", t.Acceptor, 15, true)
	text("acceptor_name", t.AcceptorName, 40, false)
	number("mcc", t.MCC, 4, 4, true)
	number("acquirer", t.Acquirer, 1, 11, true)
	number("forwarder", t.Forwarder, 1, 11, false)
	number("country", t.Country, 3, 3, false)
	return f.all
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// channelBits is the set of channels; an empty list is all of them.
func channelBits(channels []payment.Channel) uint16 {
	if len(channels) == 0 {
		return ^uint16(0) &^ 1 // all but NoChannel
	}
	var bits uint16
	for _, c := range channels {
		bits |= 1 << c
	}
	return bits
}
