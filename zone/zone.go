// Package zone is what the switch does with the keys that a link shares with
// its acquirer: PIN blocks into the acquirer's zone, MACs onto what leaves and
// off what arrives, and the exchange of those keys.
//
// A zone is a link's. It holds key blocks, never keys: every operation is the
// security module's, under the block that the ring has at that moment. It
// decides nothing about a payment and writes to no socket. Called by switching
// (requests), outbox (reversals) and link (what arrives), each through its own
// small interface; cmd puts it together.
package zone

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"authswitch/hsm"
	"authswitch/iso8583"
	"authswitch/payment"
)

// Module is the security module's side of a payment.
type Module interface {
	TranslatePIN(dst []byte, in hsm.In, out hsm.Out, deadline int64) (int, error)
	GenerateMAC(dst, key []byte, p hsm.Padding, length int, message []byte, deadline int64) error
	VerifyMAC(current, previous []byte, p hsm.Padding, message, mac []byte, deadline int64) error
}

// Config is a link's own part: what it has turned on, and how long the security
// module may take.
type Config struct {
	Link payment.LinkName
	PIN  bool
	// InOrder refuses a DUKPT counter that was seen before or goes backward.
	// Otherwise such a one is only counted: terminals that store and forward, two
	// nodes, and a request that takes another route reorder honest traffic.
	InOrder bool
	// Timeout of one operation of the security module. Default 1 s: far beyond
	// what one takes, and short enough that a gateway is told at once.
	Timeout time.Duration
}

// Deps are the parts a zone is built from.
type Deps struct {
	Dialect  *iso8583.Dialect // as the link speaks it: Secure
	Module   Module
	Exchange Exchange
	Keys     Keeper
	Ring     func() *payment.KeyRing
	// Leads says whether this node leads: one node at a time asks for keys that
	// are wanted. nil: it is alone.
	Leads      func() bool
	Now        func() payment.Instant
	Log        *slog.Logger
	Registerer prometheus.Registerer // nil: not registered
	// Trouble is told when keys must be exchanged: too many PIN answers that
	// mean a wrong key. It must not block.
	Trouble func(payment.KeyUsage)
}

// Zone is safe for concurrent use.
type Zone struct {
	cfg     Config
	deps    Deps
	rule    iso8583.MACRule
	letters [2]byte // of the MAC key that the rule's algorithm wants
	format  hsm.PINFormat
	pan     hsm.PANRule
	metrics *metrics
	scratch sync.Pool // of *scratch

	// The PIN key whose use was stopped, 0: none. Another active key ends it.
	stopped atomic.Uint32
	doubt   doubts
	answers answers
}

// scratch is the memory of one operation: what the module writes into would
// otherwise be a fresh allocation each.
type scratch struct {
	mac     [8]byte
	pin     [hsm.PINBytes]byte
	message []byte // where what is authenticated is not what travels
}

// ErrSetup means that a link asks for something its dialect does not have.
var ErrSetup = errors.New("zone: the link asks for what its dialect does not have")

const defaultTimeout = time.Second

// New checks that the dialect has what the link turns on.
func New(cfg Config, deps Deps) (*Zone, error) {
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	deps.Log = deps.Log.With("link", string(cfg.Link))
	s := deps.Dialect.Security()
	z := &Zone{cfg: cfg, deps: deps, rule: s.MAC, letters: [2]byte{'M', '3'}}
	switch s.MAC.Algorithm {
	case "1":
		z.letters[1] = '1'
	case "5":
		z.letters[1] = '6'
	}
	switch s.PIN.Format {
	case "iso0":
		z.format = hsm.ISO0
	case "iso3":
		z.format = hsm.ISO3
	case "iso4":
		z.format = hsm.ISO4
	default:
		if cfg.PIN {
			return nil, fmt.Errorf("%w: link %s, dialect %s: no PIN format", ErrSetup, cfg.Link, deps.Dialect.Name())
		}
	}
	if s.PIN.PAN == "rightmost12" {
		z.pan = hsm.Rightmost12
	}
	z.scratch.New = func() any { return new(scratch) }
	var err error
	if z.metrics, err = newMetrics(deps.Registerer); err != nil {
		return nil, err
	}
	return z, nil
}

// Link is whose zone it is.
func (z *Zone) Link() payment.LinkName { return z.cfg.Link }

// until is when an operation must be over.
func (z *Zone) until(by payment.Instant) int64 {
	latest := z.deps.Now() + payment.Instant(z.cfg.Timeout)
	if by == 0 || by > latest {
		by = latest
	}
	return int64(by)
}

func (z *Zone) give(s *scratch) {
	clear(s.pin[:])
	clear(s.message)
	z.scratch.Put(s)
}

// TranslatePIN fills a.Card.PIN with the block as this link's acquirer takes
// it. Without a PIN it asks for nothing. payment.ErrPINRefused: the module does
// not take the block, and says no more. payment.ErrSecurity: there is no module,
// no key, or PIN traffic is stopped. An *iso8583.FieldError: this link takes no
// PIN.
func (z *Zone) TranslatePIN(a *payment.Authorization, by payment.Instant) error {
	a.Card.PIN.Wipe()
	if !a.PIN.Present() {
		return nil
	}
	if !z.cfg.PIN {
		return NoPIN()
	}
	out := z.deps.Ring().ActiveKey(z.cfg.Link, payment.KeyPIN)
	if out == nil {
		return z.missing(payment.KeyPIN)
	}
	if out.Marks&payment.KeyStopped != 0 || z.stopped.Load() == uint32(out.ID) || z.inDoubt(payment.KeyPIN) {
		z.metrics.pinStopped.Inc()
		return errPINStopped
	}
	in := hsm.In{KSN: a.PIN.Serial, Format: incoming(a.PIN.Format), Block: a.PIN.Block.RevealPINBlock(), PAN: &a.Card.PAN, InOrder: z.cfg.InOrder}
	usage := payment.KeyPIN
	if len(in.KSN) > 0 {
		usage = payment.KeyDerivation
	}
	var ok bool
	if in.Key, _, ok = z.deps.Ring().Active(a.PIN.Zone, usage); !ok {
		z.deps.Log.Error("no active key of the terminals' zone", "zone", string(a.PIN.Zone), "usage", usage.String())
		return errNoKey
	}
	s := z.scratch.Get().(*scratch)
	defer z.give(s)
	n, err := z.deps.Module.TranslatePIN(s.pin[:], in, hsm.Out{Key: out.Block, Format: z.format, Rule: z.pan}, z.until(by))
	z.metrics.translated.count(err)
	if err != nil {
		if errors.Is(err, hsm.ErrRefused) {
			return payment.ErrPINRefused
		}
		return z.unavailable(err)
	}
	a.Card.PIN, err = cardPIN(s.pin[:n])
	return err
}

// Protect writes the MAC into a frame that is about to leave. Where messages of
// its type carry none on this link it asks for nothing.
func (z *Zone) Protect(mti iso8583.MTI, frame []byte, by payment.Instant) error {
	if !z.deps.Dialect.SendsMAC(mti) {
		return nil
	}
	key := z.deps.Ring().ActiveKey(z.cfg.Link, payment.KeyMAC)
	if key == nil {
		return z.missing(payment.KeyMAC)
	}
	if key.Letters[0] != z.letters[0] || key.Letters[1] != z.letters[1] {
		z.deps.Log.Error("the MAC key is of another algorithm than the link's", "key", key.ID.String(), "letters", string(key.Letters[:]))
		return errNoKey
	}
	s := z.scratch.Get().(*scratch)
	defer z.give(s)
	message, _, grown, ok := z.deps.Dialect.Authenticated(frame, s.message)
	s.message = grown
	if !ok {
		return fmt.Errorf("%w: %s", iso8583.ErrNoMAC, mti)
	}
	mac := s.mac[:z.rule.Length]
	err := z.deps.Module.GenerateMAC(mac, key.Block, hsm.Padding(z.rule.Padding), len(mac), message, z.until(by))
	z.metrics.generated.count(err)
	if err != nil {
		return z.unavailable(err)
	}
	if !z.deps.Dialect.PutMAC(frame, mac) {
		return fmt.Errorf("%w: %s", iso8583.ErrNoMAC, mti)
	}
	return nil
}

// Check verifies the MAC of a frame that arrived. payment.ErrBadMAC: it does not
// hold, or there is none. payment.ErrSecurity: nobody can say.
func (z *Zone) Check(frame []byte, by payment.Instant) error {
	s := z.scratch.Get().(*scratch)
	defer z.give(s)
	message, mac, grown, ok := z.deps.Dialect.Authenticated(frame, s.message)
	s.message = grown
	if !ok {
		z.metrics.verified.count(hsm.ErrRefused)
		return payment.ErrBadMAC
	}
	ring := z.deps.Ring()
	current, previous, ok := ring.Active(z.cfg.Link, payment.KeyMAC)
	if !ok {
		return z.missing(payment.KeyMAC)
	}
	err := z.deps.Module.VerifyMAC(current, previous, hsm.Padding(z.rule.Padding), message, mac, z.until(by))
	if errors.Is(err, hsm.ErrRefused) {
		err = z.checkNext(ring, message, mac, by)
	}
	z.metrics.verified.count(err)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, hsm.ErrRefused):
		return payment.ErrBadMAC
	}
	return z.unavailable(err)
}

// MACKey is the number of the active MAC key: another number is another key.
func (z *Zone) MACKey() uint32 {
	if k := z.deps.Ring().ActiveKey(z.cfg.Link, payment.KeyMAC); k != nil {
		return uint32(k.ID)
	}
	return 0
}
