package link

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"authswitch/iso8583"
	"authswitch/payment"
)

// The life of a link in a bubble: sign-on, echoes, drains, numbers.

func TestNoSignOnAnswer(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, r *rig, hosts <-chan net.Conn) {
		begin := time.Now()
		h := newHost(t, <-hosts)
		h.raw()
		if got := r.pay(1); !errors.Is(got.err, payment.ErrUnavailable) {
			t.Errorf("connected is not ready: %v", got.err)
		}
		if m := h.raw(); m != nil {
			t.Errorf("%s after a sign-on without answer", m.MTI())
		}
		if d := time.Since(begin); d < 10*time.Second || d > 11*time.Second {
			t.Errorf("closed after %s", d)
		}
		h = newHost(t, <-hosts)
		h.answer(h.raw(), "91")
		if m := h.raw(); m != nil {
			t.Errorf("%s after a refused sign-on", m.MTI())
		}
		signedOn(t, hosts)
		if s := r.link.Status(); s.State != Ready {
			t.Errorf("%+v", s)
		}
		if n := strings.Count(r.logs.String(), "link trouble"); n != 2 {
			t.Errorf("%d alarms", n)
		}
	})
}

// TestPeerAsks: the peer's requests are never met with silence.
func TestPeerAsks(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, r *rig, hosts <-chan net.Conn) {
		h := newHost(t, <-hosts)
		signOn := h.raw()
		ask := func(function string) *iso8583.Message {
			frame, err := h.dialect.EncodeNetwork(nil, payment.NetworkRequest{Function: payment.Echo, STAN: 77, Transmitted: 1123035512})
			if err != nil {
				t.Fatal(err)
			}
			h.write(h.framer.append(nil, []byte(strings.Replace(string(frame), "301", function, 1))))
			return h.raw()
		}
		// Before sign-on, too; a function nobody knows, too.
		for _, function := range []string{"301", "001", "201", "999"} {
			m := ask(function)
			if m == nil || m.MTI() != 0x0810 || string(m.Bytes(39)) != "00" || string(m.Bytes(11)) != "000077" || string(m.Bytes(70)) != function {
				t.Fatalf("function %s got %v", function, m)
			}
		}
		h.answer(signOn, "00")
		// An 0810 nobody asked for is not answered.
		h.answer(signOn, "00")
		// A request no acquirer should send gets a format error.
		var b iso8583.Builder
		b.Start(0x0100)
		b.SetUint(7, 1123035512)
		b.SetUint(11, 5)
		frame, err := h.dialect.Pack(nil, &b)
		if err != nil {
			t.Fatal(err)
		}
		h.write(h.framer.append(nil, frame))
		m := h.raw()
		if m == nil || m.MTI() != 0x0110 || string(m.Bytes(39)) != "30" {
			t.Fatalf("an 0100 of the peer got %v", m)
		}
		p := r.pending(1)
		h.answer(h.next(), "00")
		outcome(t, <-p)
	})
}

func TestEcho(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, r *rig, hosts <-chan net.Conn) {
		h := signedOn(t, hosts)
		begin := time.Now()
		m := h.raw()
		if string(m.Bytes(deNetwork)) != "301" || time.Since(begin) < 30*time.Second {
			t.Fatalf("%s after %s", m.Bytes(deNetwork), time.Since(begin))
		}
		time.Sleep(120 * time.Millisecond)
		h.answer(m, "00")
		synctest.Wait()
		if rtt := r.link.Status().Connections[0].EchoRTT; rtt < 120*time.Millisecond || rtt > 140*time.Millisecond {
			t.Errorf("round trip %s", rtt)
		}
		r.link.Echo()
		if m := h.raw(); string(m.Bytes(deNetwork)) != "301" {
			t.Errorf("%s", m.Bytes(deNetwork))
		}
	})
}

func TestEchoMissed(t *testing.T) {
	bubble(t, Config{AnswerTimeout: time.Minute}, func(t *testing.T, r *rig, hosts <-chan net.Conn) {
		h := signedOn(t, hosts)
		h.silent = true
		p := r.pending(1)
		pending := h.next()
		go h.next()
		time.Sleep(41 * time.Second)
		synctest.Wait()
		if s := r.link.Status(); s.State != Suspect || s.InFlight != 1 {
			t.Fatalf("%+v", s)
		}
		if got := r.pay(2); !errors.Is(got.err, payment.ErrUnavailable) {
			t.Errorf("suspect takes new work: %v", got.err)
		}
		h.answer(pending, "00") // answers are still awaited
		outcome(t, <-p)
		synctest.Wait()
		if s := r.link.Status(); s.State != Down {
			t.Errorf("nothing is awaited any more: %+v", s)
		}
		signedOn(t, hosts)
	})
}

func TestDrain(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, r *rig, hosts <-chan net.Conn) {
		h := signedOn(t, hosts)
		p := r.pending(1)
		m := h.next()
		r.link.Drain()
		off := h.raw()
		if string(off.Bytes(deNetwork)) != "002" {
			t.Fatalf("%s", off.Bytes(deNetwork))
		}
		if got := r.pay(2); !errors.Is(got.err, payment.ErrUnavailable) {
			t.Errorf("draining takes new work: %v", got.err)
		}
		h.answer(off, "00")
		h.answer(m, "00")
		outcome(t, <-p)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := r.link.Drained(ctx); err != nil {
			t.Fatal(err)
		}
		if m := h.raw(); m != nil {
			t.Errorf("%s after the sign-off", m.MTI())
		}
		time.Sleep(time.Hour)
		if len(hosts) != 0 {
			t.Fatal("a drained link dials")
		}
		r.link.Hold(NoHold)
		signedOn(t, hosts)
	})
}

func TestDrainedGivesUp(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, r *rig, hosts <-chan net.Conn) {
		h := signedOn(t, hosts)
		p := r.pending(1)
		h.next()
		r.link.Drain()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.link.Drained(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		h.socket.Close()
		outcome(t, <-p, ErrLost)
	})
}

// TestRunEnds: what is in flight when the link stops has an outcome.
func TestRunEnds(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, r *rig, hosts <-chan net.Conn) {
		h := signedOn(t, hosts)
		p := r.pending(1)
		h.next()
		var held payment.Slot
		if err := r.link.Reserve(&held, payment.ID{2}, 1); err != nil {
			t.Fatal(err)
		}
		r.stop()
		outcome(t, <-p, payment.ErrUnknownOutcome, ErrLost)
		synctest.Wait()
		outcome(t, r.exchange(held), payment.ErrNotSent)
		if got := r.pay(3); !errors.Is(got.err, payment.ErrUnavailable) {
			t.Errorf("%v", got.err)
		}
		if err := r.link.Run(t.Context()); err == nil {
			t.Error("a link runs twice")
		}
	})
}

func TestOwed(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, r *rig, hosts <-chan net.Conn) {
		h := signedOn(t, hosts)
		rrn := payment.RRN([]byte("632700000042"))
		o := &payment.Owed{Link: "cb-a", Seq: 3, ID: payment.ID{9}, Attempt: 1, Reason: payment.ReversalTimeout}
		reverse := func() <-chan error {
			var s payment.Slot
			if err := r.link.ReserveOwed(&s, o, rrn); err != nil {
				t.Fatal(err)
			}
			if s.RRN != rrn || o.STAN != 0 && s.STAN != o.STAN {
				t.Fatalf("%+v", s)
			}
			o.STAN, o.Transmitted, o.Tries = s.STAN, s.Transmitted, o.Tries+1
			i := intentFor(r.dialect, &s)
			i.Attempt, i.RRN = 1, rrn
			a := authorization(t)
			frame, err := r.dialect.EncodeReversal(nil, o, i, &a.Card)
			if err != nil {
				t.Fatal(err)
			}
			c := make(chan error, 1)
			go func() { c <- r.link.Exchange(&s, i, frame, new(iso8583.Message)) }()
			return c
		}
		p := reverse()
		one := h.next()
		if err := <-p; !errors.Is(err, ErrTimeout) {
			t.Fatalf("%v", err)
		}
		p = reverse()
		two := h.next()
		if string(one.Bytes(11)) != string(two.Bytes(11)) || string(one.Bytes(37)) != string(two.Bytes(37)) || string(one.Bytes(7)) == string(two.Bytes(7)) || !two.MTI().IsRepeat() {
			t.Errorf("%s %s %s %s, then %s %s %s %s", one.MTI(), one.Bytes(11), one.Bytes(37), one.Bytes(7), two.MTI(), two.Bytes(11), two.Bytes(37), two.Bytes(7))
		}
		h.answer(one, "00") // to the first transmission
		if err := <-p; err != nil {
			t.Fatal(err)
		}
		// A late acknowledgement is never told as a late answer of the payment.
		h.answer(one, "00")
		if seq := <-r.lateRev; seq != 3 || len(r.late) != 0 {
			t.Errorf("sequence %d, %d late answers", seq, len(r.late))
		}
		// That it was not found decides nothing: the original may have come since. It
		// takes the place of one transmission, and leaves the other's answer its own.
		var three [2]*iso8583.Message
		for n := range three {
			p = reverse()
			three[n] = h.next()
			if err := <-p; !errors.Is(err, ErrTimeout) {
				t.Fatalf("%v", err)
			}
		}
		h.answer(three[0], "25")
		synctest.Wait()
		if len(r.lateRev) != 0 {
			t.Error("a late \"not found\" was told")
		}
		h.answer(three[1], "00")
		if seq := <-r.lateRev; seq != 3 {
			t.Errorf("sequence %d", seq)
		}
	})
}

func TestSlots(t *testing.T) {
	bubble(t, Config{Window: 1}, func(t *testing.T, r *rig, hosts <-chan net.Conn) {
		signedOn(t, hosts)
		var s, other payment.Slot
		if err := r.link.Exchange(&s, nil, []byte("x"), nil); !errors.Is(err, ErrSlot) || !errors.Is(err, payment.ErrNotSent) {
			t.Errorf("an empty slot: %v", err)
		}
		r.link.Release(&s)
		if err := r.link.Reserve(&s, payment.ID{1}, 1); err != nil {
			t.Fatal(err)
		}
		if err := r.link.Reserve(&other, payment.ID{2}, 1); !errors.Is(err, payment.ErrBusy) {
			t.Errorf("a window of one holds two: %v", err)
		}
		stale := s
		r.link.Release(&s)
		if err := r.link.Exchange(&stale, nil, []byte("x"), nil); !errors.Is(err, ErrSlot) {
			t.Errorf("a slot given back: %v", err)
		}
		for _, frame := range [][]byte{nil, make([]byte, 5000)} {
			if err := r.link.Reserve(&s, payment.ID{1}, 1); err != nil {
				t.Fatal(err)
			}
			if err := r.link.Exchange(&s, nil, frame, nil); !errors.Is(err, ErrFrame) || !errors.Is(err, payment.ErrNotSent) {
				t.Errorf("a frame of %d bytes: %v", len(frame), err)
			}
		}
		if n := r.link.Status().InFlight; n != 0 {
			t.Errorf("%d in flight", n)
		}
	})
}

func TestNoLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hosts := make(chan net.Conn, 10)
		var refuse atomic.Bool
		var tries atomic.Int64
		refuse.Store(true)
		give := leases()
		d := loadDialect(t, "ascii87")
		l, err := New(Config{Name: "cb-a", Scheme: "cb", Dialect: "ascii87", Address: "127.0.0.1:1"}, d, Deps{
			Now: wallNow, Rand: zeros{},
			Dial: func(context.Context, string, string) (net.Conn, error) {
				near, far := net.Pipe()
				hosts <- far
				return near, nil
			},
			Lease: func(ctx context.Context, n payment.LinkName) (payment.Numbers, error) {
				if tries.Add(1); refuse.Load() {
					return payment.Numbers{}, payment.ErrUnavailable
				}
				return give(ctx, n)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- l.Run(ctx) }()
		signedOn(t, hosts)
		var s payment.Slot
		if err := l.Reserve(&s, payment.ID{1}, 1); !errors.Is(err, payment.ErrUnavailable) || !errors.Is(err, ErrNumbers) {
			t.Errorf("without numbers: %v", err)
		}
		time.Sleep(time.Second)
		if n := tries.Load(); n < 2 || n > 30 {
			t.Errorf("%d leases tried in a second", n)
		}
		refuse.Store(false)
		time.Sleep(time.Second)
		if err := l.Reserve(&s, payment.ID{1}, 1); err != nil {
			t.Error(err)
		}
		l.Release(&s)
		before := s.STAN
		l.DropNumbers()
		time.Sleep(time.Second)
		if err := l.Reserve(&s, payment.ID{1}, 1); err != nil || s.STAN <= before+1 {
			t.Errorf("after the session ended: STAN %s, %v", s.STAN, err)
		}
		l.Release(&s)
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}

// TestLeaseOfAnEndedSession: numbers asked for before the session ended are not
// used when they arrive after it; others are leased.
func TestLeaseOfAnEndedSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		give := leases()
		asked, go1 := make(chan struct{}, 1), make(chan struct{})
		var old payment.Numbers
		d := loadDialect(t, "ascii87")
		hosts := make(chan net.Conn, 10)
		l, err := New(Config{Name: "cb-a", Scheme: "cb", Dialect: "ascii87", Address: "127.0.0.1:1"}, d, Deps{
			Now: wallNow, Rand: zeros{},
			Dial: func(context.Context, string, string) (net.Conn, error) {
				near, far := net.Pipe()
				hosts <- far
				return near, nil
			},
			Lease: func(ctx context.Context, n payment.LinkName) (payment.Numbers, error) {
				r, err := give(ctx, n)
				if old.FirstSTAN == 0 {
					old = r
					asked <- struct{}{}
					<-go1
				}
				return r, err
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error)
		go func() { ran <- l.Run(ctx) }()
		<-asked
		l.DropNumbers()
		close(go1)
		signedOn(t, hosts)
		time.Sleep(time.Second)
		var s payment.Slot
		if err := l.Reserve(&s, payment.ID{1}, 1); err != nil || s.STAN >= old.FirstSTAN && s.STAN <= old.LastSTAN {
			t.Errorf("STAN %s of %s to %s, leased by a session that has ended (%v)", s.STAN, old.FirstSTAN, old.LastSTAN, err)
		}
		l.Release(&s)
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}

// TestDialBudget: an outage of everything is not followed by a storm.
func TestDialBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dials atomic.Int64
		budget := NewDialBudget(2, 1)
		ctx, cancel := context.WithCancel(t.Context())
		var links []*Link
		d := loadDialect(t, "ascii87")
		for _, name := range []payment.LinkName{"a", "b", "c"} {
			l, err := New(Config{Name: name, Scheme: "cb", Dialect: "ascii87", Address: "127.0.0.1:1", BackoffLongest: 100 * time.Millisecond}, d, Deps{
				Now: wallNow, Rand: zeros{}, Lease: leases(), Dials: budget,
				Dial: func(context.Context, string, string) (net.Conn, error) {
					dials.Add(1)
					return nil, errors.New("refused")
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			links = append(links, l)
		}
		set, err := NewSet(links...)
		if err != nil {
			t.Fatal(err)
		}
		ran := make(chan error)
		go func() { ran <- set.Run(ctx) }()
		time.Sleep(10 * time.Second)
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		if n := dials.Load(); n < 15 || n > 22 {
			t.Errorf("%d dials in 10 s at 2 a second", n)
		}
	})
}
