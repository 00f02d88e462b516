// Package merchant is who may ask for what: merchants, the gateways that act
// for them, and the gateways' API keys, which exist here only as keyed hashes.
//
// It is a typed, immutable view over configuration: built once, read by every
// request without a lock. It decides nothing about a payment (contracts and
// routes are routing's) and never holds a clear key longer than one call.
// Called by: cmd (builds it), api (authenticates and scopes every request).
package merchant

import (
	"errors"
	"fmt"
	"regexp"
	"slices"

	"authswitch/payment"
)

// Errors of a directory's parts. Each is wrapped with the name at fault.
var (
	ErrName           = errors.New("must be 1 to 64 of a-z, 0-9, '.', '_' and '-'")
	ErrDuplicate      = errors.New("named twice")
	ErrUnknown        = errors.New("no such merchant")
	ErrUnknownGateway = errors.New("no such gateway")
	ErrScope          = errors.New("acts for no merchant")
	ErrNoKey          = errors.New("has no key hash")
	ErrHash           = errors.New("not a key hash: 64 hexadecimal digits")
	ErrRate           = errors.New("must not be negative, and a rate needs a burst of at least 1")
)

// Config is one merchant.
type Config struct {
	ID   payment.MerchantID `yaml:"id" json:"id"`
	Name string             `yaml:"name" json:"name,omitempty"` // for people; "" is the id
	// CardGroup names merchants that pay with each other's stored cards; "": nobody.
	CardGroup string `yaml:"card_group" json:"card_group,omitempty"`
	// Gateways act for the merchant, besides those whose own list names it.
	Gateways []payment.GatewayID `yaml:"gateways" json:"gateways,omitempty"`
}

// GatewayConfig is one caller of the API. Two key hashes let a gateway change
// its key without a gap.
type GatewayConfig struct {
	ID            payment.GatewayID    `yaml:"id"`
	KeyHashes     []string             `yaml:"key_hashes"` // hexadecimal, as HashKey prints them
	Merchants     []payment.MerchantID `yaml:"merchants"`
	RatePerSecond float64              `yaml:"rate_per_second"` // how many requests a second the gateway may make; 0 is no limit
	Burst         int                  `yaml:"burst"`           // how many at once on top; 0 is one second's worth
	// PINZones are the zones of terminals whose keys this gateway's PIN blocks may
	// be under; none: it sends no PINs.
	PINZones []payment.LinkName `yaml:"pin_zones"`
}

// name is what merchants and gateways may be called: it stands in URLs, logs
// and metrics.
var name = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// Validate reports everything wrong with one merchant.
func (c *Config) Validate() []error {
	var faults []error
	if !name.MatchString(string(c.ID)) {
		faults = append(faults, fmt.Errorf("merchant %q: id %w", c.ID, ErrName))
	}
	if c.CardGroup != "" && !name.MatchString(c.CardGroup) {
		faults = append(faults, fmt.Errorf("merchant %q: card_group %w", c.ID, ErrName))
	}
	return faults
}

// Validate reports everything wrong with one gateway by itself; whether its
// merchants exist is New's to say.
func (c *GatewayConfig) Validate() []error {
	var faults []error
	fault := func(err error) { faults = append(faults, fmt.Errorf("gateway %q: %w", c.ID, err)) }
	if !name.MatchString(string(c.ID)) {
		fault(fmt.Errorf("id %w", ErrName))
	}
	if len(c.KeyHashes) == 0 {
		fault(ErrNoKey)
	}
	for i, h := range c.KeyHashes {
		if _, err := ParseHash(h); err != nil {
			fault(fmt.Errorf("key_hashes[%d]: %w", i, err))
		}
	}
	if c.RatePerSecond < 0 || c.Burst < 0 || c.RatePerSecond > 0 && c.RatePerSecond < 1 && c.Burst == 0 {
		fault(fmt.Errorf("rate_per_second, burst: %w", ErrRate))
	}
	return faults
}

// AdministratorConfig is a person, or a tool of one, who may change merchants
// and their contracts through the API.
type AdministratorConfig struct {
	ID        string   `yaml:"id"`         // stands in every change's record
	KeyHashes []string `yaml:"key_hashes"` // hexadecimal, as those of a gateway
}

// Directory knows every merchant, gateway and key.
type Directory struct {
	hasher    *Hasher
	merchants map[payment.MerchantID]Config
	// keys is indexed by a hash's first bytes: who has no pepper cannot steer a
	// hash to a bucket, and the whole hash is compared in constant time.
	keys map[[8]byte][]credential
}

type credential struct {
	hash    Hash
	gateway *Gateway // nil: an administrator's
	person  string
}

// New builds a directory, or reports all that is wrong with it.
func New(merchants []Config, gateways []GatewayConfig, administrators []AdministratorConfig, hasher *Hasher) (*Directory, error) {
	d := &Directory{
		hasher:    hasher,
		merchants: make(map[payment.MerchantID]Config, len(merchants)),
		keys:      make(map[[8]byte][]credential),
	}
	var faults []error
	for _, m := range merchants {
		faults = append(faults, m.Validate()...)
		if _, twice := d.merchants[m.ID]; twice {
			faults = append(faults, fmt.Errorf("merchant %q: %w", m.ID, ErrDuplicate))
		}
		if m.Name == "" {
			m.Name = string(m.ID)
		}
		d.merchants[m.ID] = m
	}
	named := make(map[payment.GatewayID]bool, len(gateways))
	for i := range gateways {
		g := &gateways[i]
		faults = append(faults, g.Validate()...)
		if named[g.ID] {
			faults = append(faults, fmt.Errorf("gateway %q: %w", g.ID, ErrDuplicate))
		}
		named[g.ID] = true
		faults = append(faults, d.add(g)...)
	}
	for id, m := range d.merchants {
		for _, g := range m.Gateways {
			if !named[g] {
				faults = append(faults, fmt.Errorf("merchant %q: gateway %q: %w", id, g, ErrUnknownGateway))
			}
		}
	}
	for i := range administrators {
		faults = append(faults, d.addPerson(&administrators[i])...)
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return d, nil
}

// add takes one gateway with its keys.
func (d *Directory) add(c *GatewayConfig) []error {
	var faults []error
	merchants := slices.Clone(c.Merchants)
	for id, m := range d.merchants {
		if slices.Contains(m.Gateways, c.ID) {
			merchants = append(merchants, id)
		}
	}
	g := newGateway(c, merchants)
	for _, m := range g.merchants {
		if scope := d.CardScope(m); scope != "" {
			g.scopes[scope] = true
		}
	}
	for _, m := range c.Merchants {
		if _, known := d.merchants[m]; !known {
			faults = append(faults, fmt.Errorf("gateway %q: merchant %q: %w", c.ID, m, ErrUnknown))
		}
	}
	if len(merchants) == 0 {
		faults = append(faults, fmt.Errorf("gateway %q: %w", c.ID, ErrScope))
	}
	for i, text := range c.KeyHashes {
		hash, err := ParseHash(text)
		if err != nil {
			continue // Validate said so
		}
		if !d.keep(hash, credential{gateway: g}) {
			faults = append(faults, fmt.Errorf("gateway %q: key_hashes[%d]: %w", c.ID, i, ErrDuplicate))
		}
	}
	return faults
}

// keep takes a key in, unless it is known already.
func (d *Directory) keep(hash Hash, c credential) bool {
	if d.find(hash) != nil {
		return false
	}
	c.hash = hash
	bucket := [8]byte(hash[:8])
	d.keys[bucket] = append(d.keys[bucket], c)
	return true
}

// addPerson takes one administrator with their keys.
func (d *Directory) addPerson(c *AdministratorConfig) []error {
	var faults []error
	if !name.MatchString(c.ID) {
		faults = append(faults, fmt.Errorf("administrator %q: id %w", c.ID, ErrName))
	}
	if len(c.KeyHashes) == 0 {
		faults = append(faults, fmt.Errorf("administrator %q: %w", c.ID, ErrNoKey))
	}
	for i, text := range c.KeyHashes {
		hash, err := ParseHash(text)
		if err == nil && !d.keep(hash, credential{person: c.ID}) {
			err = ErrDuplicate
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("administrator %q: key_hashes[%d]: %w", c.ID, i, err))
		}
	}
	return faults
}

// Authenticate is the gateway a key belongs to, nil when it is no key of ours.
func (d *Directory) Authenticate(key []byte) *Gateway {
	if c := d.find(d.hasher.Hash(key)); c != nil {
		return c.gateway
	}
	return nil
}

// Administrator is who a key belongs to, "" when it is no administrator's.
func (d *Directory) Administrator(key []byte) string {
	if c := d.find(d.hasher.Hash(key)); c != nil {
		return c.person
	}
	return ""
}

func (d *Directory) find(hash Hash) *credential {
	bucket := d.keys[[8]byte(hash[:8])]
	for i := range bucket {
		if bucket[i].hash.Equal(hash) {
			return &bucket[i]
		}
	}
	return nil
}

// Merchant is one merchant's configuration.
func (d *Directory) Merchant(id payment.MerchantID) (Config, bool) {
	m, ok := d.merchants[id]
	return m, ok
}

// CardScope is the scope of the cards that a merchant shares with others, ""
// where it shares none.
func (d *Directory) CardScope(id payment.MerchantID) string {
	return payment.GroupScope(d.merchants[id].CardGroup)
}

// Merchants are all merchants, by id.
func (d *Directory) Merchants() []Config {
	all := make([]Config, 0, len(d.merchants))
	for _, m := range d.merchants {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b Config) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return all
}
