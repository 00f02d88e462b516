package merchant

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"authswitch/payment"
	"authswitch/routing"
)

// Document is a merchant with its contracts, as the configuration file and the
// API have it.
type Document struct {
	Config    `yaml:",inline"`
	TimeZone  string           `yaml:"time_zone" json:"time_zone,omitempty"` // IANA name; UTC when empty
	Contracts []ContractConfig `yaml:"contracts" json:"contracts"`
}

// ContractConfig is a merchant's contract for one scheme.
type ContractConfig struct {
	Scheme          string             `yaml:"scheme" json:"scheme"`
	Priority        int                `yaml:"priority" json:"priority,omitempty"` // among the merchant's schemes on a co-badged card, the lowest first; equal ones in the order they stand
	Links           []payment.LinkName `yaml:"links" json:"links"`                 // in order of preference
	Terminal        string             `yaml:"terminal" json:"terminal"`
	Acceptor        string             `yaml:"acceptor" json:"acceptor"`
	AcceptorName    string             `yaml:"acceptor_name" json:"acceptor_name,omitempty"` // name/city/country
	MCC             string             `yaml:"mcc" json:"mcc"`
	Acquirer        string             `yaml:"acquirer" json:"acquirer"`
	Forwarder       string             `yaml:"forwarder" json:"forwarder,omitempty"`
	Country         string             `yaml:"country" json:"country,omitempty"`       // ISO 3166 numeric
	Currencies      []string           `yaml:"currencies" json:"currencies,omitempty"` // ISO 4217 alphabetic
	Channels        []string           `yaml:"channels" json:"channels,omitempty"`
	MinAmount       int64              `yaml:"min_amount" json:"min_amount,omitempty"` // minor units; 0: none
	MaxAmount       int64              `yaml:"max_amount" json:"max_amount,omitempty"` // minor units; 0: no limit of ours
	PartialApproval bool               `yaml:"partial_approval" json:"partial_approval,omitempty"`
	CaptureWithin   Duration           `yaml:"capture_within" json:"capture_within,omitempty"` // then what was not captured is reversed; 0: never

	// CaptureBy is how captures reach the acquirer: advice, file or batch_upload.
	// Empty: an advice where every link's dialect has one, else a clearing file.
	CaptureBy   string `yaml:"capture_by,omitempty" json:"capture_by,omitempty"`
	FreeRefunds bool   `yaml:"unreferenced_refunds,omitempty" json:"unreferenced_refunds,omitempty"` // refunds that name no payment of this switch

	// What becomes of the security code: optional (default), required or never.
	// CVV is for every channel where a cardholder types the number in, never for
	// all; a channel's own word goes before it. CVVStored is for cards on file.
	CVV                string            `yaml:"cvv" json:"cvv,omitempty"`
	CVVByChannel       map[string]string `yaml:"cvv_by_channel" json:"cvv_by_channel,omitempty"`
	CVVStored          string            `yaml:"cvv_stored" json:"cvv_stored,omitempty"`
	CVVStoredByChannel map[string]string `yaml:"cvv_stored_by_channel" json:"cvv_stored_by_channel,omitempty"`
}

// Duration is a time.Duration in words such as 168h, in YAML and JSON alike.
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = Duration(v)
	return err
}

// Fault is something wrong with a document: where, in words for a program, and
// in words for a person.
type Fault struct {
	Pointer string // JSON pointer from the document's root
	Code    string
	Detail  string
	scheme  string // of the contract, as it was given; "" where none is meant
}

// faults collects them for one contract, or for the merchant.
type faults struct {
	all    []Fault
	at     string // pointer of the contract, "" of the merchant
	scheme string
}

func (f *faults) add(pointer, code, format string, args ...any) {
	f.all = append(f.all, Fault{Pointer: f.at + pointer, Code: code, Detail: fmt.Sprintf(format, args...), scheme: f.scheme})
}

// Errors are the faults as errors that name the merchant, for a file.
func Errors(id payment.MerchantID, list []Fault) []error {
	var errs []error
	for i := range list {
		f := &list[i]
		if f.scheme != "" {
			errs = append(errs, fmt.Errorf("merchant %q, scheme %q: %s", id, f.scheme, f.Detail))
			continue
		}
		errs = append(errs, fmt.Errorf("merchant %q: %s", id, f.Detail))
	}
	return errs
}

// Read makes routing's contracts of a document, without those that cannot be
// read, and says everything that is wrong with it by itself.
func (d *Document) Read() ([]routing.Contract, []Fault) {
	var f faults
	zone, err := time.LoadLocation(d.TimeZone)
	if err != nil {
		f.add("/time_zone", "invalid_value", "time_zone: %v", err)
		zone = time.UTC
	}
	var contracts []routing.Contract
	for n := range d.Contracts {
		contract, bad := d.Contracts[n].read(d.ID, n)
		if len(bad) > 0 {
			f.all = append(f.all, bad...)
			continue // what was not read would be reported again as missing
		}
		contract.TimeZone = zone
		contracts = append(contracts, contract)
	}
	return contracts, f.all
}

// read reads one contract's names into codes. Priorities are spread so that
// contracts of one priority keep their order.
func (c *ContractConfig) read(m payment.MerchantID, place int) (routing.Contract, []Fault) {
	f := faults{at: fmt.Sprintf("/contracts/%d", place), scheme: c.Scheme}
	r := routing.Contract{
		Merchant:  m,
		Scheme:    payment.ParseScheme([]byte(c.Scheme)),
		Priority:  c.Priority*maxContracts + place,
		Links:     slices.Clone(c.Links),
		Terms:     *c.Terms(),
		MinAmount: c.MinAmount, MaxAmount: c.MaxAmount,
		PartialApproval: c.PartialApproval, CaptureWithin: time.Duration(c.CaptureWithin), FreeRefunds: c.FreeRefunds,
	}
	by, known := routing.ParseCaptureBy(c.CaptureBy)
	if !known {
		f.add("/capture_by", "invalid_value", "capture_by: %q is neither advice, file nor batch_upload", c.CaptureBy)
	}
	r.CaptureBy = by
	if r.Scheme == payment.NoScheme {
		f.add("/scheme", "invalid_value", "unknown scheme")
	}
	if c.Priority < 0 || c.Priority > maxPriority {
		f.add("/priority", "invalid_value", "priority: %d is not between 0 and %d", c.Priority, maxPriority)
	}
	if c.CaptureWithin < 0 {
		f.add("/capture_within", "invalid_value", "capture_within: must not be negative")
	}
	for n, name := range c.Currencies {
		currency, err := payment.ParseCurrency([]byte(name))
		if err != nil {
			f.add(fmt.Sprintf("/currencies/%d", n), "unknown_currency", "currencies: %q: %v", name, err)
		}
		r.Currencies = append(r.Currencies, currency)
	}
	for n, name := range c.Channels {
		channel := payment.ParseChannel([]byte(name))
		if channel == payment.NoChannel {
			f.add(fmt.Sprintf("/channels/%d", n), "invalid_value", "channels: %q is unknown", name)
		}
		r.Channels = append(r.Channels, channel)
	}
	c.readCVV(&f, &r.CVV)
	return r, f.all
}

// Terms are what a contract puts into its payments' messages.
func (c *ContractConfig) Terms() *payment.Terms {
	return &payment.Terms{
		Terminal: c.Terminal, Acceptor: c.Acceptor, AcceptorName: c.AcceptorName, MCC: c.MCC,
		Acquirer: c.Acquirer, Forwarder: c.Forwarder, Country: c.Country,
	}
}

// maxContracts of a merchant, more than there are schemes, and the greatest
// priority a contract may have.
const (
	maxContracts = 64
	maxPriority  = 1000
)

// readCVV reads the general word first, so that a channel's own goes over it.
func (c *ContractConfig) readCVV(f *faults, r *routing.CVVRules) {
	general, ok := routing.ParseCVVPolicy(c.CVV)
	if !ok {
		f.add("/cvv", "invalid_value", "cvv: %q is none of optional, required, never", c.CVV)
	}
	*r = routing.CVVEverywhere(general)
	stored, ok := routing.ParseCVVPolicy(c.CVVStored)
	if !ok {
		f.add("/cvv_stored", "invalid_value", "cvv_stored: %q is none of optional, required, never", c.CVVStored)
	}
	if c.CVVStored != "" {
		all := routing.CVVEverywhere(stored)
		r.Stored = all.Given
	}
	for _, part := range []struct {
		name string
		of   map[string]string
		into *[8]routing.CVVPolicy
	}{{"cvv_by_channel", c.CVVByChannel, &r.Given}, {"cvv_stored_by_channel", c.CVVStoredByChannel, &r.Stored}} {
		for _, name := range slices.Sorted(maps.Keys(part.of)) {
			word := part.of[name]
			channel := payment.ParseChannel([]byte(name))
			if channel == payment.NoChannel {
				f.add("/"+part.name, "invalid_value", "%s: channel %q is unknown", part.name, name)
				continue
			}
			policy, ok := routing.ParseCVVPolicy(word)
			if !ok {
				f.add("/"+part.name+"/"+name, "invalid_value", "%s: %q is none of optional, required, never", part.name, word)
				continue
			}
			part.into[channel] = policy
		}
	}
}

// Contracts reads all documents' contracts, with every fault as an error.
func Contracts(documents []Document) ([]routing.Contract, []error) {
	var all []routing.Contract
	var errs []error
	for i := range documents {
		contracts, bad := documents[i].Read()
		errs = append(errs, Errors(documents[i].ID, bad)...)
		all = append(all, contracts...)
	}
	return all, errs
}

// Configs are the documents without their contracts.
func Configs(documents []Document) []Config {
	all := make([]Config, len(documents))
	for i := range documents {
		all[i] = documents[i].Config
	}
	return all
}

// Check reports everything that is wrong with a document by itself, each fault
// with its place.
func (d *Document) Check() []Fault {
	var f faults
	if !name.MatchString(string(d.ID)) {
		f.add("/id", "invalid_value", "%v", ErrName)
	}
	if d.CardGroup != "" && !name.MatchString(d.CardGroup) {
		f.add("/card_group", "invalid_value", "%v", ErrName)
	}
	if len(d.Contracts) > maxContracts {
		f.add("/contracts", "too_many", "%d contracts; at most %d fit", len(d.Contracts), maxContracts)
		return f.all
	}
	contracts, bad := d.Read()
	f.all = append(f.all, bad...)
	seen := map[payment.Scheme]bool{}
	for i := range contracts {
		c := &contracts[i]
		f.at = fmt.Sprintf("/contracts/%d", c.Priority%maxContracts)
		if seen[c.Scheme] {
			f.add("/scheme", "duplicate", "two contracts for %s", c.Scheme)
		}
		seen[c.Scheme] = true
		for _, err := range c.Validate() {
			detail := err.Error()
			if _, after, ok := strings.Cut(detail, fmt.Sprintf("scheme %q: ", c.Scheme)); ok {
				detail = after
			}
			f.add(termPointer(detail), "invalid_value", "%s", detail)
		}
	}
	return f.all
}

// termPointer is the place of what routing names first in a fault.
func termPointer(detail string) string {
	word, rest, _ := strings.Cut(detail, " ")
	switch word {
	case "terminal", "acceptor", "acceptor_name", "mcc", "acquirer", "forwarder", "country", "min_amount", "max_amount":
		return "/" + word
	case "link":
		return "/links"
	case "currency":
		return "/currencies"
	}
	if strings.HasPrefix(rest, "links;") {
		return "/links"
	}
	return ""
}
