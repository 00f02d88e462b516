package zone_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"authswitch/iso8583"
	"authswitch/iso8583/dialects"
	"authswitch/link"
	"authswitch/payment"
	"authswitch/sim"
	"authswitch/zone"
)

// These tests put a zone's real parts together over TCP: link, zone, the security
// module's engine, and at the other end a simulator with its own end of the keys
// and its own codec.

// everyMAC has MACs on network messages too.
func everyMAC() iso8583.Security {
	return iso8583.Security{MAC: iso8583.MACRule{Sent: []string{"0100", "0220", "0400", "0800", "0810"}, Received: []string{"0110", "0230", "0410", "0800", "0810"}}}
}

// wire is a link of dialect cb and its peer.
type wire struct {
	*rig
	link *link.Link
	sim  *sim.Simulator
	id   atomic.Uint32
}

func newWire(t *testing.T, own iso8583.Security, host sim.Security, hostMAC string, faults ...sim.Fault) *wire {
	t.Helper()
	w := &wire{rig: newRig(t, own).keys()}
	w.now = 0
	said := w.logs()
	w.zoned()
	w.journal.commit = 5 * time.Millisecond // what an active key costs: a commit
	dir := t.TempDir()
	host.Keys = filepath.Join(dir, "keys")
	text := fmt.Sprintf("zone: %s\nmac: %s\npin: %s\n", kekKey, hostMAC, pinKey)
	if err := os.WriteFile(host.Keys, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	host.MAC = true
	listening := make(chan net.Addr, 1)
	var err error
	w.sim, err = sim.New(sim.Config{
		Name: "cb-b", Dialect: "cb", Listen: "127.0.0.1:0", Ledger: filepath.Join(dir, "ledger"), LedgerSync: sim.SyncNone, Security: host, Faults: faults,
	}, sim.Deps{
		Now: time.Now, Dialects: dialects.FS, Log: said.With("of", "host"), Listening: func(a net.Addr) { listening <- a },
		Listen: func(ctx context.Context, network, address string) (net.Listener, error) {
			return (&net.ListenConfig{}).Listen(ctx, network, address)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(func() {
		stop()
		all.Wait()
	})
	all.Go(func() {
		if err := w.sim.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	w.link, err = link.New(link.Config{
		Name: "cb-b", Scheme: "cb", Dialect: "cb", Address: (<-listening).String(), SignOnTimeout: 2 * time.Second, AnswerTimeout: 5 * time.Second,
	}, w.dialect, link.Deps{
		Now: wallNow, Dial: (&net.Dialer{}).DialContext, Guard: w.Zone, Keys: w.Zone, Log: said.With("of", "link"),
		Lease: func(context.Context, payment.LinkName) (payment.Numbers, error) {
			n := payment.STAN(w.id.Add(1)) * 10_000
			return payment.Numbers{FirstSTAN: n, LastSTAN: n + 9_999, FirstRRN: uint64(n), LastRRN: uint64(n) + 9_999}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	all.Go(func() {
		if err := w.link.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	return w
}

// logs is a logger whose words are shown when the test has failed.
func (w *wire) logs() *slog.Logger {
	b := &logBuffer{}
	w.t.Cleanup(func() {
		if b.mu.Lock(); w.t.Failed() {
			w.t.Logf("%s", b.text.String())
		}
		b.mu.Unlock()
	})
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func wallNow() payment.Instant { return payment.Instant(time.Now().UnixNano()) }

func (w *wire) until(what string, ok func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) { // real sockets: there is nothing to wait on
		if time.Now().After(deadline) {
			w.t.Fatalf("never %s: %+v, the host %+v", what, w.link.Status(), w.sim.Stats())
		}
	}
}

func (w *wire) ready() {
	w.t.Helper()
	w.until("ready", func() bool { s := w.link.Status(); return s.State == link.Ready && s.NumbersLeft > 0 })
}

// pay sends an authorization with its MAC and wants an approval.
func (w *wire) pay(id byte) error {
	var s payment.Slot
	if err := w.link.Reserve(&s, payment.ID{id}, 1); err != nil {
		return err
	}
	i := &payment.Intent{
		MTI: 0x0100, STAN: s.STAN, RRN: s.RRN, Transmitted: s.Transmitted, Link: s.Link, Local: payment.LocalTime([]byte("261123045512")), Attempt: 1,
		Amount: payment.Amount{Value: 1000, Currency: 978}, Channel: payment.Ecommerce,
		Terms: payment.Terms{Terminal: "10000001", Acceptor: "970001000000001", AcceptorName: "PARCELS/PARIS/FR", MCC: "5942", Acquirer: "970001", Country: "250"},
	}
	a := request(w.t, "", 0, make([]byte, 8), nil)
	a.PIN = payment.PIN{}
	a.Amount, a.Channel = i.Amount, i.Channel
	frame, err := w.dialect.EncodeAuthorization(nil, a, i)
	if err == nil {
		err = w.Protect(0x0100, frame, 0)
	}
	if err != nil {
		w.link.Release(&s)
		return err
	}
	var answer iso8583.Message
	if err := w.link.Exchange(&s, i, frame, &answer); err != nil {
		return err
	}
	if code := string(answer.Bytes(39)); code != "00" {
		return fmt.Errorf("answered %s", code)
	}
	return nil
}

// Network messages with MACs, both ways: sign-on, the host's key exchange and
// ours, each under the keys of its moment, while payments run; none is lost and no
// MAC is bad.
func TestNetworkMACs(t *testing.T) {
	w := newWire(t, everyMAC(), sim.Security{Network: true, Advices: true, Exchange: sim.KeyExchange{Function: "101", Key: "48.0020", Check: "48.0021", Send: []string{"mac"}}}, macKey)
	w.ready()
	first := w.MACKey()
	w.until("a key of the host's is active", func() bool { return w.MACKey() != first })
	var all sync.WaitGroup
	stop := make(chan struct{})
	var paid [8]atomic.Int64
	for terminal := range paid {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := w.pay(byte(terminal)); err != nil {
					t.Error(err)
					return
				}
				paid[terminal].Add(1)
			}
		})
	}
	// Both ends keep one key before: nothing may be on its way for two exchanges.
	goOn := func() {
		var from [len(paid)]int64
		for i := range paid {
			from[i] = paid[i].Load()
		}
		w.until("every terminal has begun and ended a payment", func() bool {
			for i := range paid {
				if paid[i].Load() < from[i]+2 && !t.Failed() {
					return false
				}
			}
			return true
		})
	}
	for range 5 {
		was := w.MACKey()
		if err := w.link.ExchangeKeys(t.Context(), payment.KeyMAC, payment.KeyPIN); err != nil {
			t.Error(err)
		}
		if w.MACKey() == was {
			t.Error("the exchange brought no key")
		}
		goOn()
		was = w.MACKey()
		w.link.SignOn() // after which the host sends a key of its own
		w.until("a key of the host's is active", func() bool { return w.MACKey() != was })
		goOn()
	}
	close(stop)
	all.Wait()
	if s := w.link.Status(); s.Counters.BadMACs != 0 || s.Counters.Unverified != 0 || s.Distrusted {
		t.Errorf("%+v", s.Counters)
	}
	if n := w.sim.Stats(); n.BadMACs != 0 || n.Unreadable != 0 || n.Unsendable != 0 {
		t.Errorf("the host: %+v", n)
	}
	total := int64(0)
	for i := range paid {
		total += paid[i].Load()
	}
	t.Logf("%d payments over ten exchanges", total)
}

// The answer to a key of the host's leaves before anything is under that key,
// however long the module takes for its MAC: the host takes the key in use when it
// sees the answer.
func TestNetworkMACsSlow(t *testing.T) {
	w := newWire(t, everyMAC(), sim.Security{Network: true, Advices: true, Exchange: sim.KeyExchange{Function: "101", Key: "48.0020", Check: "48.0021", Send: []string{"mac"}}}, macKey)
	answers := 0
	slow := func(message []byte) {
		if bytes.HasPrefix(message, []byte("0810")) || bytes.HasPrefix(message, []byte{0x08, 0x10}) || bytes.HasPrefix(message, []byte("\xf0\xf8\xf1\xf0")) {
			answers++
			time.Sleep(50 * time.Millisecond) // ten commits
		}
	}
	w.ready()
	first := w.MACKey()
	w.until("a key of the host's is active", func() bool { return w.MACKey() != first })
	w.module.generating.Store(&slow)
	for range 3 {
		was := w.MACKey()
		w.link.SignOn()
		w.until("a key of the host's is active", func() bool { return w.MACKey() != was })
		for range 5 {
			if err := w.pay(1); err != nil {
				t.Error(err)
			}
		}
	}
	if n := w.sim.Stats(); n.BadMACs != 0 {
		t.Errorf("the host: %+v", n)
	}
	if answers == 0 {
		t.Error("no answer had a MAC: the test shows nothing")
	}
}

// An exchange whose answer never comes. Where the host took the key, its next MAC
// shows it; where it did not, the old key goes on. No PIN leaves in between, and
// no payment is lost.
func TestExchangeUnanswered(t *testing.T) {
	exchange := sim.KeyExchange{Function: "101", Key: "48.0020", Check: "48.0021"}
	for fault, taken := range map[string]bool{"lose_answer": true, "no_0810": false} {
		t.Run(fault, func(t *testing.T) {
			// Both keys of this exchange; the link tries again by itself at once, and
			// where the host took nothing that must fail too, or there is nothing to see.
			var faults []sim.Fault
			for n := range map[bool]int{true: 2, false: 4}[taken] {
				faults = append(faults, sim.Fault{Fault: fault, On: "key_exchange", At: n + 1})
			}
			w := newWire(t, iso8583.Security{}, sim.Security{Exchange: exchange}, macKey, faults...)
			w.ready()
			was := w.MACKey()
			err := w.link.ExchangeKeys(t.Context(), payment.KeyMAC, payment.KeyPIN)
			if !errors.Is(err, link.ErrKeyUnknown) {
				t.Fatalf("%v", err)
			}
			pin := func() error {
				return w.TranslatePIN(request(t, "pos", payment.PINFormat0, block(t, unhex(t, posKey), "1234"), nil), 0)
			}
			if err := pin(); !taken && !errors.Is(err, payment.ErrSecurity) {
				t.Errorf("a PIN left under a key in doubt: %v", err)
			}
			for id := range 5 {
				if err := w.pay(byte(id)); err != nil {
					t.Errorf("payment %d: %v", id, err)
				}
			}
			if settled := w.MACKey() != was; settled != taken {
				t.Errorf("the new key is active: %v", settled)
			}
			if err := w.link.ExchangeKeys(t.Context(), payment.KeyMAC, payment.KeyPIN); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(pin(), w.pay(9)); err != nil {
				t.Errorf("after an exchange: %v", err)
			}
			if s := w.link.Status(); s.Counters.BadMACs != 0 {
				t.Errorf("%+v", s.Counters)
			}
		})
	}
}

// A host with another key does not answer a sign-on, and one that answers
// without a MAC is not believed: in neither case is anybody signed on.
func TestNetworkMACsDiffer(t *testing.T) {
	for _, c := range []struct {
		name string
		host sim.Security
		mac  string
		seen func(w *wire) bool
	}{
		{"another key", sim.Security{Network: true}, posKey, func(w *wire) bool { return w.sim.Stats().BadMACs > 0 }},
		{"no MAC in the answer", sim.Security{}, macKey, func(w *wire) bool { return w.link.Status().Counters.BadMACs > 0 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWire(t, everyMAC(), c.host, c.mac)
			w.until("noticed", func() bool { return c.seen(w) })
			if s := w.link.Status(); s.State == link.Ready || s.SignedOn {
				t.Errorf("signed on: %+v", s)
			}
			var s payment.Slot
			if err := w.link.Reserve(&s, payment.ID{1}, 1); !errors.Is(err, payment.ErrUnavailable) {
				t.Errorf("takes work: %v", err)
			}
		})
	}
}

var _ link.Guard = (*zone.Zone)(nil)
