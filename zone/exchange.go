package zone

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"authswitch/hsm"
	"authswitch/payment"
)

// Exchange is the security module's side of a key exchange.
type Exchange interface {
	Generate(a hsm.Attributes, bytes int, deadline int64) (hsm.Key, error)
	Import(kek, sent []byte, r hsm.ImportRequest, deadline int64) (hsm.Key, error)
	Export(kek, block []byte, form hsm.Form, deadline int64) (hsm.Exported, error)
}

// Keeper makes keys durable, on a quorum.
type Keeper interface {
	PutKey(k *payment.Key) (*payment.Key, error)
	AdvanceKey(a *payment.KeyAdvance) (*payment.Key, error)
	MarkKey(id payment.KeyID, marks payment.KeyMarks) (*payment.Key, error)
}

// Errors of a key exchange. What the peer is told is only that it is refused.
var (
	ErrExchange = errors.New("zone: the key cannot be exchanged")
	ErrNotOurs  = errors.New("zone: a key that no link of this kind uses")
)

// doubts are the keys of which it is not known whether the peer took them.
type doubts [payment.KeyUsages]atomic.Pointer[payment.Key]

// inDoubt says whether a key of a usage is in doubt: this node exchanged it, or
// another did and told all through the journal. A key that became active since,
// of whatever exchange, ends it.
func (z *Zone) inDoubt(u payment.KeyUsage) bool {
	ring := z.deps.Ring()
	active := ring.ActiveKey(z.cfg.Link, u)
	over := func(k *payment.Key) bool { return active != nil && active.ID >= k.ID }
	if k := z.doubt[u].Load(); k != nil && !over(k) {
		return true
	}
	k := ring.Doubtful(z.cfg.Link, u)
	return k != nil && !over(k)
}

// overlap is how long the key before goes on verifying: longer than any answer
// to a message under it can take.
const overlap = payment.Instant(10 * 60 * 1e9)

// kek is the zone's key that keys travel under, and the form they have.
func (z *Zone) kek() (block []byte, form hsm.Form, err error) {
	rule := z.deps.Dialect.Security().KeyExchange
	usage := payment.KeyZoneBlock
	form = hsm.Block
	if rule.Raw() {
		usage, form = payment.KeyZone, hsm.Raw
	}
	if !rule.Possible() {
		return nil, form, fmt.Errorf("%w: the dialect has no place for it", ErrExchange)
	}
	block, _, ok := z.deps.Ring().Active(z.cfg.Link, usage)
	if !ok {
		return nil, form, z.missing(usage)
	}
	return block, form, nil
}

// hasKEK says whether keys can be exchanged at all: not before the zone's own
// key came in by ceremony.
func (z *Zone) hasKEK() bool {
	usage := payment.KeyZoneBlock
	if z.deps.Dialect.Security().KeyExchange.Raw() {
		usage = payment.KeyZone
	}
	return z.deps.Ring().ActiveKey(z.cfg.Link, usage) != nil
}

// Take imports a key that the peer sent and keeps it, pending. The peer's
// answer carries its check value; Settle makes it active once that has left.
func (z *Zone) Take(offered payment.OfferedKey) (*payment.Key, error) {
	k, err := z.take(offered)
	if err != nil {
		z.metrics.exchanges.WithLabelValues(offered.Usage, "refused").Inc()
	}
	return k, err
}

func (z *Zone) take(offered payment.OfferedKey) (*payment.Key, error) {
	kek, form, err := z.kek()
	if err != nil {
		return nil, err
	}
	want, err := z.wanted(offered, form)
	if err != nil {
		return nil, err
	}
	imported, err := z.deps.Exchange.Import(kek, offered.Key, hsm.ImportRequest{Form: form, Want: want, CheckValue: offered.Check}, z.until(0))
	if err != nil {
		return nil, fmt.Errorf("%w: import: %w", ErrExchange, err)
	}
	return z.keep(&imported)
}

// Place of the attributes in the header of a key block, ANSI X9.143:2021 clause
// 6.2: version, length (4), usage (2), algorithm, mode, key version (2),
// exportability.
const (
	headerUsage         = 5
	headerAlgorithm     = 7
	headerMode          = 8
	headerExportability = 11
)

// wanted is what a key must be: a PIN key that encrypts, or a MAC key of the
// link's algorithm that makes and checks.
func (z *Zone) wanted(offered payment.OfferedKey, form hsm.Form) (hsm.Attributes, error) {
	var a hsm.Attributes
	if form == hsm.Raw {
		a = z.ours(offered.Usage, 'N')
	} else {
		if len(offered.Key) <= headerExportability {
			return a, fmt.Errorf("%w: no key block", ErrExchange)
		}
		a = hsm.Attributes{
			Usage:     [2]byte(offered.Key[headerUsage:]),
			Algorithm: offered.Key[headerAlgorithm], Mode: offered.Key[headerMode], Exportability: offered.Key[headerExportability],
		}
	}
	var modes string
	switch {
	case a.Usage == [2]byte{'P', '0'} && z.cfg.PIN:
		modes = "BEN"
	case a.Usage == z.letters && z.deps.Dialect.HasMAC():
		modes = "CN"
	default:
		return a, fmt.Errorf("%w: %s", ErrNotOurs, a.Usage)
	}
	if !slices.Contains([]byte(modes), a.Mode) {
		return a, fmt.Errorf("%w: usage %s, mode %c", ErrNotOurs, a.Usage, a.Mode)
	}
	return a, nil
}

// ours is what a key for this link is when it says nothing of itself, or is
// made here: double-length TDES, AES-128 for PIN blocks of format 4.
func (z *Zone) ours(usage string, exportability byte) hsm.Attributes {
	a := hsm.Attributes{Usage: [2]byte{'P', '0'}, Algorithm: 'T', Mode: 'B', Exportability: exportability}
	if usage == payment.KeyMAC.String() {
		a.Usage, a.Mode = z.letters, 'C'
		return a
	}
	if z.format == hsm.ISO4 {
		a.Algorithm = 'A'
	}
	return a
}

// madeBytes is the length of keys that are made here.
const madeBytes = 16

// Make makes a key for the peer and keeps it, pending.
func (z *Zone) Make(usage payment.KeyUsage) (payment.OfferedKey, *payment.Key, error) {
	offered := payment.OfferedKey{Usage: usage.String()}
	kek, form, err := z.kek()
	if err != nil {
		return offered, nil, err
	}
	exportability := byte('E')
	if form == hsm.Raw {
		exportability = 'S' // X9.143:2021 table 6: exportable keys leave in a block only
	}
	made, err := z.deps.Exchange.Generate(z.ours(offered.Usage, exportability), madeBytes, z.until(0))
	if err != nil {
		return offered, nil, fmt.Errorf("%w: generate: %w", ErrExchange, err)
	}
	sent, err := z.deps.Exchange.Export(kek, made.Block, form, z.until(0))
	if err != nil {
		return offered, nil, fmt.Errorf("%w: export: %w", ErrExchange, err)
	}
	offered.Key, offered.Check = sent.Sent, sent.KCV
	k, err := z.keep(&made)
	return offered, k, err
}

// keep puts a key into the journal.
func (z *Zone) keep(k *hsm.Key) (*payment.Key, error) {
	letters := k.Attributes.String()
	record := &payment.Key{
		Link: z.cfg.Link, Usage: payment.KeyUsageOf(k.Attributes.Usage, k.Attributes.Mode), State: payment.KeyPending,
		Letters: [5]byte([]byte(letters)), Bits: 8 * madeBytes, CheckValue: k.KCV, Block: k.Block, Master: uint32(k.Master),
	}
	kept, err := z.deps.Keys.PutKey(record)
	if err != nil {
		return nil, fmt.Errorf("%w: keep: %w", ErrExchange, err)
	}
	return kept, nil
}

// Settle ends an exchange. Taken: the peer has the key, it becomes active, and
// every doubt about the usage ends. In doubt: both keys stay; the old one goes
// on, what arrives is believed under either, and no PIN leaves.
func (z *Zone) Settle(k *payment.Key, r payment.KeyResult) error {
	advance := payment.KeyAdvance{ID: k.ID, To: payment.KeyRetired}
	switch r {
	case payment.KeyInDoubt:
		z.forget(z.doubt[k.Usage].Swap(k))
		if _, err := z.deps.Keys.MarkKey(k.ID, payment.KeyDoubtful); err != nil {
			z.deps.Log.Warn("only this node knows of the doubt", "key", k.ID.String(), "error", err)
		}
		z.metrics.exchanges.WithLabelValues(k.Usage.String(), "unknown").Inc()
		z.deps.Log.Error("it is not known whether the peer took the new key", "usage", k.Usage.String(), "key", k.ID.String())
		return nil
	case payment.KeyTaken:
		advance.To, advance.Overlap = payment.KeyActive, overlap
	}
	if _, err := z.deps.Keys.AdvanceKey(&advance); err != nil {
		return fmt.Errorf("%w: %s to %s: %w", ErrExchange, k.ID, advance.To, err)
	}
	if r != payment.KeyTaken {
		z.metrics.exchanges.WithLabelValues(k.Usage.String(), "refused").Inc()
		return nil
	}
	was := z.doubt[k.Usage].Swap(nil)
	if was == nil {
		was = z.deps.Ring().Doubtful(k.Link, k.Usage) // another node's
	}
	if was != nil && was.ID != k.ID {
		z.forget(was)
	}
	z.metrics.exchanges.WithLabelValues(k.Usage.String(), "active").Inc()
	z.deps.Log.Info("key exchanged", "usage", k.Usage.String(), "key", k.ID.String(), "kcv", fmt.Sprintf("%X", k.CheckValue))
	return nil
}

// forget retires a doubtful key for which another came.
func (z *Zone) forget(k *payment.Key) {
	if k == nil {
		return
	}
	if _, err := z.deps.Keys.AdvanceKey(&payment.KeyAdvance{ID: k.ID, To: payment.KeyRetired}); err != nil {
		z.deps.Log.Warn("a key that was exchanged in vain is still pending", "key", k.ID.String(), "error", err)
	}
}

// Wanted are the keys that the link has turned on and has no active one of, or
// one in doubt; with all, those that it has turned on. Of a cluster one node
// asks: two exchanges at once could end in another order at each end.
func (z *Zone) Wanted(all bool) []payment.KeyUsage {
	if all {
		return z.lacking(func(payment.KeyUsage) bool { return true })
	}
	if z.deps.Leads != nil && !z.deps.Leads() || !z.hasKEK() {
		return nil
	}
	wanted := z.Lacking()
	for _, usage := range []payment.KeyUsage{payment.KeyPIN, payment.KeyMAC} {
		if z.inDoubt(usage) && !slices.Contains(wanted, usage) {
			wanted = append(wanted, usage)
		}
	}
	return wanted
}

// Lacking are the keys that the link has turned on and has no active one of.
func (z *Zone) Lacking() []payment.KeyUsage {
	return z.lacking(func(u payment.KeyUsage) bool { return z.deps.Ring().ActiveKey(z.cfg.Link, u) == nil })
}

func (z *Zone) lacking(lacks func(payment.KeyUsage) bool) (usages []payment.KeyUsage) {
	if z.cfg.PIN && lacks(payment.KeyPIN) {
		usages = append(usages, payment.KeyPIN)
	}
	if z.deps.Dialect.HasMAC() && lacks(payment.KeyMAC) {
		usages = append(usages, payment.KeyMAC)
	}
	return usages
}

// checkNext verifies under the key that follows the active one of a ring: in
// doubt, pending, or active since. The peer uses it from the moment it takes it,
// and what it sends then arrives before the end of the exchange is durable here
// — at another node of the cluster later still.
func (z *Zone) checkNext(ring *payment.KeyRing, message, mac []byte, by payment.Instant) error {
	now := z.deps.Ring()
	doubtful := z.doubt[payment.KeyMAC].Load()
	tried := ring.ActiveKey(z.cfg.Link, payment.KeyMAC).ID
	for _, k := range []*payment.Key{
		doubtful, ring.Pending(z.cfg.Link, payment.KeyMAC), now.Pending(z.cfg.Link, payment.KeyMAC), now.ActiveKey(z.cfg.Link, payment.KeyMAC),
	} {
		if k == nil || k.ID == tried {
			continue
		}
		tried = k.ID
		err := z.deps.Module.VerifyMAC(k.Block, nil, hsm.Padding(z.rule.Padding), message, mac, z.until(by))
		if err == nil && k == doubtful {
			z.undoubt(k)
		}
		if !errors.Is(err, hsm.ErrRefused) {
			return err
		}
	}
	return hsm.ErrRefused
}

// undoubt settles a doubtful key: a MAC that holds shows that the peer has it.
func (z *Zone) undoubt(k *payment.Key) {
	if !z.doubt[payment.KeyMAC].CompareAndSwap(k, nil) {
		return
	}
	if err := z.Settle(k, payment.KeyTaken); err != nil {
		z.doubt[payment.KeyMAC].Store(k) // the next one settles it
		z.deps.Log.Warn("the new MAC key holds and is not active yet", "error", err)
	}
}
