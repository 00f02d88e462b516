package link

import (
	"context"
	"hash/crc32"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"authswitch/iso8583"
	"authswitch/payment"
)

// checksum stands for a MAC in these tests: what holds and what does not is all
// that a link sees.
func checksum(message []byte) []byte {
	n := crc32.ChecksumIEEE(message)
	return []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n), 0, 0, 0, 0}
}

// guard is the keys' side, with a security module that can be away.
type guard struct {
	dialect *iso8583.Dialect
	asked   atomic.Int64
	away    atomic.Bool
	key     atomic.Uint32
}

func (g *guard) Check(frame []byte, _ payment.Instant) error {
	g.asked.Add(1)
	if g.away.Load() {
		return payment.ErrSecurity
	}
	message, mac, _, ok := g.dialect.Authenticated(frame, nil)
	if !ok || string(mac) != string(checksum(message)) {
		return payment.ErrBadMAC
	}
	return nil
}

func (g *guard) Protect(_ iso8583.MTI, frame []byte, _ payment.Instant) error {
	message, _, _, _ := g.dialect.Authenticated(frame, nil)
	g.dialect.PutMAC(frame, checksum(message))
	return nil
}

func (g *guard) MACKey() uint32 { return g.key.Load() }

// keyring takes keys and gives them.
type keyring struct {
	mu      sync.Mutex
	settled []payment.KeyResult
	taken   []payment.OfferedKey
	refuse  bool
	wanted  []payment.KeyUsage
}

func (k *keyring) Take(o payment.OfferedKey) (*payment.Key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	o.Key = append([]byte(nil), o.Key...) // it is wiped with its message
	k.taken = append(k.taken, o)
	if k.refuse {
		return nil, payment.ErrSecurity
	}
	return &payment.Key{ID: 7, CheckValue: []byte{0xAB, 0xCD, 0xEF}}, nil
}

func (k *keyring) Make(u payment.KeyUsage) (payment.OfferedKey, *payment.Key, error) {
	return payment.OfferedKey{Usage: u.String(), Key: []byte("D0032M3TC00E0000AABBCCDDEEFF0011"), Check: []byte{1, 2, 3}}, &payment.Key{ID: 8}, nil
}

func (k *keyring) Settle(_ *payment.Key, r payment.KeyResult) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.settled = append(k.settled, r)
	k.wanted = nil
	return nil
}

func (k *keyring) Wanted(bool) []payment.KeyUsage {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.wanted
}

func (k *keyring) results() []payment.KeyResult {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]payment.KeyResult(nil), k.settled...)
}

// secureRig is a link of dialect cb with MACs and keys.
func secureRig(t *testing.T, f func(t *testing.T, r *rig, g *guard, k *keyring, hosts <-chan net.Conn)) {
	t.Helper()
	d, err := loadDialect(t, "cb").Secure(true, iso8583.Security{})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		hosts := make(chan net.Conn, 100)
		g, k := &guard{dialect: d}, &keyring{}
		r := newRigWith(t, Config{}, d, func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			hosts <- far
			return near, nil
		}, func(deps *Deps) { deps.Guard, deps.Keys = g, k })
		f(t, r, g, k, hosts)
		r.close()
	})
}

// accept takes the link's connection and its sign-on.
func (r *rig) accept(hosts <-chan net.Conn) *host {
	h := newHostOf(r.t, <-hosts, r.dialect)
	h.answer(h.raw(), "00")
	synctest.Wait()
	return h
}

// authentic answers with a MAC: one that holds, or with a flipped bit.
func (h *host) authentic(m *iso8583.Message, code string, holds bool) {
	h.t.Helper()
	frame := h.response(m, code, func(b *iso8583.Builder) { b.Set(64, make([]byte, 8)) })
	at := len(frame) - 8
	copy(frame[at:], checksum(frame[:at]))
	if !holds {
		frame[at] ^= 1
	}
	h.write(h.framer.append(nil, frame))
}

// A frame whose MAC does not hold is counted and dropped; the request waits on
// and gets the answer that does.
func TestBadMACDecidesNothing(t *testing.T) {
	secureRig(t, func(t *testing.T, r *rig, _ *guard, _ *keyring, hosts <-chan net.Conn) {
		h := r.accept(hosts)
		p := r.pending(1)
		m := h.next()
		h.authentic(m, "05", false)
		h.answer(m, "05") // without any
		synctest.Wait()
		if s := r.link.Status(); s.Counters.BadMACs != 2 || s.InFlight != 1 {
			t.Fatalf("%+v", s)
		}
		h.authentic(m, "00", true)
		got := <-p
		outcome(t, got)
		if code := string(got.answer.Bytes(39)); code != "00" {
			t.Errorf("answered %s", code)
		}
	})
}

// Only bad MACs: the timer makes the outcome unknown.
func TestBadMACThenSilence(t *testing.T) {
	secureRig(t, func(t *testing.T, r *rig, _ *guard, _ *keyring, hosts <-chan net.Conn) {
		h := r.accept(hosts)
		p := r.pending(1)
		h.authentic(h.next(), "00", false)
		outcome(t, <-p, payment.ErrUnknownOutcome, ErrTimeout)
	})
}

// Five in a row: no new work, and keys are exchanged. Reversals go on, and one
// that is answered with a MAC that holds ends it; so does another key.
func TestFiveBadMACs(t *testing.T) {
	for _, cure := range []string{"a good answer", "another key", "a person"} {
		t.Run(cure, func(t *testing.T) {
			secureRig(t, func(t *testing.T, r *rig, g *guard, k *keyring, hosts <-chan net.Conn) {
				h := r.accept(hosts)
				p := r.pending(1)
				m := h.next()
				for range 4 {
					h.authentic(m, "00", false)
				}
				synctest.Wait()
				if r.link.Status().Distrusted {
					t.Fatal("after four")
				}
				h.authentic(m, "00", false)
				exchange := h.raw() // the 0800 that brings a new key
				if n, ok := r.dialect.DecodeNetwork(exchange); !ok || n.Function != payment.KeyExchange || len(n.Key) == 0 {
					t.Fatalf("no key exchange: %v", exchange.MTI())
				}
				var s payment.Slot
				s.Link = "cb-a"
				if err := r.link.Reserve(&s, payment.ID{2}, 1); !strings.Contains(err.Error(), "bad MACs") {
					t.Errorf("new work: %v", err)
				}
				synctest.Wait()
				if !strings.Contains(r.logs.String(), "five bad MACs in a row") {
					t.Error("no alarm")
				}
				o := payment.Owed{Link: "cb-a", Seq: 1, ID: payment.ID{3}, Attempt: 1}
				if err := r.link.ReserveOwed(&s, &o, payment.RRN{'6'}); err != nil {
					t.Errorf("what is owed must go on: %v", err)
				}
				r.link.Release(&s)
				switch cure {
				case "a good answer":
					h.authentic(m, "00", true)
				case "another key":
					h.answer(exchange, "00")
					synctest.Wait()
					if got := k.results(); len(got) != 1 || got[0] != payment.KeyTaken {
						t.Errorf("settled: %v", got)
					}
					g.key.Store(2)
				default:
					r.link.Hold(NoHold)
				}
				synctest.Wait()
				if r.link.Status().Distrusted {
					t.Error("still distrusted")
				}
				if cure != "a good answer" {
					h.authentic(m, "00", true)
				}
				outcome(t, <-p)
			})
		})
	}
}

// While the security module is away for a moment an answer waits for it.
func TestUnverifiedWaits(t *testing.T) {
	secureRig(t, func(t *testing.T, r *rig, g *guard, _ *keyring, hosts <-chan net.Conn) {
		h := r.accept(hosts)
		g.away.Store(true)
		p := r.pending(1)
		h.authentic(h.next(), "00", true)
		time.Sleep(time.Second)
		g.away.Store(false)
		outcome(t, <-p)

		g.away.Store(true)
		p = r.pending(2)
		h.authentic(h.next(), "00", true)
		outcome(t, <-p, payment.ErrUnknownOutcome, ErrTimeout)
		if n := r.link.Status().Counters.Unverified; n != 1 {
			t.Errorf("%d unverified", n)
		}
	})
}

// The peer's key: durable first, then its 0810 with the check value, then
// active. One that is not taken is refused.
func TestKeyFromPeer(t *testing.T) {
	secureRig(t, func(t *testing.T, r *rig, _ *guard, k *keyring, hosts <-chan net.Conn) {
		h := r.accept(hosts)
		send := func(stan payment.STAN) payment.NetworkMessage {
			frame, err := r.dialect.EncodeNetwork(nil, payment.NetworkRequest{
				Function: payment.KeyExchange, STAN: stan, Transmitted: 1126080000, Key: []byte("D0032M3TC00E0000AABBCCDDEEFF0011"), Check: []byte{0xAB, 0xCD, 0xEF},
			})
			if err != nil {
				t.Fatal(err)
			}
			h.write(h.framer.append(nil, frame))
			n, ok := r.dialect.DecodeNetwork(h.raw())
			if !ok || n.STAN != stan {
				t.Fatalf("%+v", n)
			}
			synctest.Wait()
			return n
		}
		if n := send(77); !n.Accepted || string(n.Check) != "\xAB\xCD\xEF" || n.Key != nil {
			t.Errorf("%+v", n)
		}
		if got := k.results(); len(got) != 1 || got[0] != payment.KeyTaken || string(k.taken[0].Key[:8]) != "D0032M3T" {
			t.Errorf("settled: %v", got)
		}
		k.refuse = true
		if n := send(78); n.Accepted || n.Check != nil {
			t.Errorf("%+v", n)
		}
	})
}

// An exchange that starts here: accepted, refused, and unanswered, which leaves
// it unknown whether the peer took the key.
func TestKeyToPeer(t *testing.T) {
	for _, c := range []struct {
		code   string
		result payment.KeyResult
		err    error
	}{{"00", payment.KeyTaken, nil}, {"05", payment.KeyNotTaken, ErrKeyRefused}, {"", payment.KeyInDoubt, ErrKeyUnknown}} {
		secureRig(t, func(t *testing.T, r *rig, _ *guard, k *keyring, hosts <-chan net.Conn) {
			h := r.accept(hosts)
			done := make(chan error, 1)
			go func() { done <- r.link.ExchangeKeys(t.Context(), payment.KeyPIN) }()
			m := h.raw()
			if c.code != "" {
				h.answer(m, c.code)
			}
			outcome(t, result{err: <-done}, errorsOf(c.err)...)
			if got := k.results(); len(got) != 1 || got[0] != c.result {
				t.Errorf("%q: settled %v", c.code, got)
			}
		})
	}
}

func errorsOf(err error) []error {
	if err == nil {
		return nil
	}
	return []error{err}
}

// A link without the keys it needs asks for them once it is signed on.
func TestKeysWanted(t *testing.T) {
	secureRig(t, func(t *testing.T, r *rig, _ *guard, k *keyring, hosts <-chan net.Conn) {
		k.mu.Lock()
		k.wanted = []payment.KeyUsage{payment.KeyMAC}
		k.mu.Unlock()
		h := r.accept(hosts)
		m := h.raw()
		if n, ok := r.dialect.DecodeNetwork(m); !ok || n.Function != payment.KeyExchange {
			t.Fatalf("%v", m.MTI())
		}
		h.answer(m, "00")
		synctest.Wait()
		if got := k.results(); len(got) != 1 || got[0] != payment.KeyTaken {
			t.Errorf("settled %v", got)
		}
	})
}

// A link whose dialect has MACs, and which has them off, asks for nothing.
func TestNoMACNoCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hosts := make(chan net.Conn, 100)
		d := loadDialect(t, "cb")
		g := &guard{dialect: d}
		r := newRigWith(t, Config{}, d, func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			hosts <- far
			return near, nil
		}, func(deps *Deps) { deps.Guard = g })
		h := r.accept(hosts)
		p := r.pending(1)
		h.answer(h.next(), "00")
		outcome(t, <-p)
		if n := g.asked.Load(); n != 0 {
			t.Errorf("%d checks", n)
		}
		r.close()
	})
}
