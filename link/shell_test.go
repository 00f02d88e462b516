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

// bubble runs a test of the shells in a bubble: time is fake, connections are
// pipes, and nothing of the link may be left behind.
func bubble(t *testing.T, cfg Config, f func(t *testing.T, r *rig, hosts <-chan net.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		hosts := make(chan net.Conn, 100)
		r := newRig(t, cfg, func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			hosts <- far
			return near, nil
		})
		f(t, r, hosts)
		r.close()
	})
}

// pending starts an authorization and hands over its result.
func (r *rig) pending(id byte) <-chan result {
	c := make(chan result, 1)
	go func() { c <- r.pay(id) }()
	return c
}

// signedOn accepts the next connection and its sign-on.
func signedOn(t *testing.T, hosts <-chan net.Conn) *host {
	t.Helper()
	h := newHost(t, <-hosts)
	m := h.raw()
	if m == nil || m.MTI().Class() != iso8583.ClassNetwork || string(m.Bytes(deNetwork)) != "001" {
		t.Fatal("the first message is no sign-on")
	}
	h.answer(m, "00")
	synctest.Wait()
	return h
}

// outcome checks what an exchange came to.
func outcome(t *testing.T, got result, wants ...error) {
	t.Helper()
	for _, want := range wants {
		if !errors.Is(got.err, want) {
			t.Errorf("got %v, want %v", got.err, want)
		}
	}
	if len(wants) == 0 && got.err != nil {
		t.Errorf("got %v", got.err)
	}
	if errors.Is(got.err, payment.ErrNotSent) && errors.Is(got.err, payment.ErrUnknownOutcome) {
		t.Errorf("%v says both", got.err)
	}
}

func TestRoundTrip(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, r *rig, hosts <-chan net.Conn) {
		h := signedOn(t, hosts)
		p := r.pending(1)
		m := h.next()
		time.Sleep(40 * time.Millisecond)
		h.answer(m, "00")
		got := <-p
		outcome(t, got)
		if string(got.answer.Bytes(38)) != "A00001" || string(m.Bytes(11)) != got.slot.STAN.String() {
			t.Errorf("answer %q to STAN %s", got.answer.Bytes(38), got.slot.STAN)
		}
		s := r.link.Status()
		if s.State != Ready || !s.SignedOn || s.InFlight != 0 || s.Counters != (Counters{}) {
			t.Errorf("%+v", s)
		}
	})
}

func TestDeadlinesOfSlot(t *testing.T) {
	bubble(t, Config{SendWithin: 2 * time.Second, AnswerTimeout: 7 * time.Second, UserTimeout: time.Second, MaxOriginalLife: 90 * time.Second},
		func(t *testing.T, r *rig, hosts <-chan net.Conn) {
			signedOn(t, hosts)
			now := wallNow()
			var s payment.Slot
			if err := r.link.Reserve(&s, payment.ID{1}, 1); err != nil {
				t.Fatal(err)
			}
			after := func(d time.Duration) payment.Instant { return now + payment.Instant(d) }
			if s.SendBy != after(2*time.Second) || s.AnswerBy != after(9*time.Second) || s.LifeOver != after(93*time.Second) {
				t.Errorf("send by %d, answer by %d, life over %d from %d", s.SendBy, s.AnswerBy, s.LifeOver, now)
			}
			if s.Transmitted != payment.TransmittedAt(now) || s.STAN == 0 || s.Link != "cb-a" {
				t.Errorf("%+v", s)
			}
			// The caller may leave itself less time, never more.
			s.SendBy = after(-1)
			outcome(t, r.exchange(s), payment.ErrNotSent, ErrExpired)
		})
}

// TestShortTimer: an acquirer's timer shorter than send_by's is kept to the
// tick, and a place that its owner forgot comes back.
func TestShortTimer(t *testing.T) {
	bubble(t, Config{Window: 1, SendWithin: 20 * time.Second, AnswerTimeout: time.Second}, func(t *testing.T, r *rig, hosts <-chan net.Conn) {
		h := signedOn(t, hosts)
		begin := time.Now()
		p := r.pending(1)
		h.next()
		outcome(t, <-p, ErrTimeout)
		if d := time.Since(begin); d < time.Second || d > time.Second+2*time.Duration(wheelTick) {
			t.Errorf("gave up after %s", d)
		}
		var forgotten payment.Slot
		if err := r.link.Reserve(&forgotten, payment.ID{2}, 1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(21 * time.Second)
		var s payment.Slot
		if err := r.link.Reserve(&s, payment.ID{3}, 1); err != nil {
			t.Errorf("a forgotten place is lost: %v", err)
		}
		outcome(t, r.exchange(forgotten), payment.ErrNotSent, ErrExpired)
		r.link.Release(&s)
	})
}

func TestSilence(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, r *rig, hosts <-chan net.Conn) {
		h := signedOn(t, hosts)
		begin := time.Now()
		p := r.pending(7)
		m := h.next()
		outcome(t, <-p, payment.ErrUnknownOutcome, ErrTimeout)
		if d := time.Since(begin); d < 10*time.Second || d > 10*time.Second+20*time.Millisecond {
			t.Errorf("gave up after %s", d)
		}
		h.answer(m, "00")
		synctest.Wait()
		late := <-r.late
		if late.ID != (payment.ID{7}) || late.Attempt != 1 || late.Link != "cb-a" || late.Response.ApprovalCode.String() != "A00001" {
			t.Errorf("%+v", late)
		}
		if !strings.Contains(r.logs.String(), "late answer") {
			t.Error("nothing is logged")
		}
		h.answer(m, "00")
		synctest.Wait()
		if len(r.late) != 0 {
			t.Error("a second late answer is told again")
		}
	})
}

func TestWrongSTAN(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, r *rig, hosts <-chan net.Conn) {
		h := signedOn(t, hosts)
		p := r.pending(1)
		m := h.next()
		h.answerWith(m, "00", func(b *iso8583.Builder) { b.SetUint(11, 999) })
		line := <-r.strange
		if !strings.Contains(line, "differs: DE 11") || !strings.Contains(line, "stan=000999") || !strings.Contains(line, "stan=000001") {
			t.Errorf("the line says %q", line)
		}
		if strings.Contains(r.logs.String(), "4970100000000154") {
			t.Error("a card number in the log")
		}
		h.answer(m, "00")
		outcome(t, <-p)
	})
}

func TestDuplicateAnswer(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, r *rig, hosts <-chan net.Conn) {
		h := signedOn(t, hosts)
		p := r.pending(1)
		m := h.next()
		h.answer(m, "51")
		outcome(t, <-p)
		h.answer(m, "00")
		if line := <-r.strange; !strings.Contains(line, "answered already") {
			t.Errorf("the line says %q", line)
		}
		// The next request is not given the second answer.
		p = r.pending(2)
		m = h.next()
		h.answer(m, "05")
		if got := <-p; string(got.answer.Bytes(39)) != "05" {
			t.Errorf("got %q", got.answer.Bytes(39))
		}
	})
}

// TestFlood: a peer that sends nothing but strange answers costs lines and
// looks up to a limit, and keeps nobody from being answered.
func TestFlood(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, r *rig, hosts <-chan net.Conn) {
		h := signedOn(t, hosts)
		p := r.pending(1)
		m := h.next()
		frame := h.framer.append(nil, h.response(m, "00", func(b *iso8583.Builder) { b.SetUint(11, 999) }))
		go func() {
			for range r.strange {
			}
		}()
		for range 3 * logBurst {
			h.write(frame)
		}
		h.answer(m, "00")
		outcome(t, <-p)
		synctest.Wait()
		close(r.strange)
		c := r.link.Status().Counters
		if c.Unmatched != 3*logBurst || c.Dropped != 2*logBurst {
			t.Errorf("%+v", c)
		}
		if n := strings.Count(r.logs.String(), "matches nothing"); n > logBurst {
			t.Errorf("%d lines", n)
		}
	})
}

// TestStreamFaults: whatever the peer does to the stream, a written request is
// ambiguous, and the link recovers by itself.
func TestStreamFaults(t *testing.T) {
	half := func(h *host, m *iso8583.Message) {
		frame := h.framer.append(nil, h.response(m, "00", nil))
		h.write(frame[:len(frame)/2])
		h.socket.Close()
	}
	for name, fault := range map[string]func(h *host, m *iso8583.Message){
		"half a frame, then close": half,
		"close":                    func(h *host, _ *iso8583.Message) { h.socket.Close() },
		"length beyond":            func(h *host, _ *iso8583.Message) { h.write([]byte{0xff, 0xff, '0'}) },
		"length zero":              func(h *host, _ *iso8583.Message) { h.write([]byte{0, 0}) },
		"half a frame, then silence": func(h *host, m *iso8583.Message) {
			h.write(h.framer.append(nil, h.response(m, "00", nil))[:20])
		},
		"one byte a second": func(h *host, m *iso8583.Message) {
			for _, b := range h.framer.append(nil, h.response(m, "00", nil)) {
				if !h.write([]byte{b}) {
					return
				}
				time.Sleep(time.Second)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, Config{}, func(t *testing.T, r *rig, hosts <-chan net.Conn) {
				h := signedOn(t, hosts)
				p := r.pending(1)
				m := h.next()
				over := make(chan struct{})
				go func() { defer close(over); fault(h, m) }()
				outcome(t, <-p, payment.ErrUnknownOutcome, ErrLost)
				<-over
				h.socket.Close()

				h = signedOn(t, hosts)
				p = r.pending(2)
				h.answer(h.next(), "00")
				outcome(t, <-p)
				s := r.link.Status()
				if s.Counters.Reconnects != 1 || s.Counters.Lost != 1 {
					t.Errorf("%+v", s.Counters)
				}
				// The old answer is known when it comes on the new connection.
				h.answer(m, "00")
				if late := <-r.late; late.ID != (payment.ID{1}) {
					t.Errorf("%+v", late)
				}
			})
		})
	}
}

// TestBadFrames: a frame that is no message costs a line in the log, not the
// connection.
func TestBadFrames(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, r *rig, hosts <-chan net.Conn) {
		h := signedOn(t, hosts)
		p := r.pending(1)
		m := h.next()
		h.write(h.framer.append(nil, []byte("garbage that is no message")))
		h.write(h.framer.append(nil, []byte("0")))
		h.write(h.framer.append(nil, []byte("0110\xff\xff\xff\xff\xff\xff\xff\xff"))) // a bitmap that lies
		h.answer(m, "00")
		outcome(t, <-p)
		if s := r.link.Status(); s.Counters.Unparsable != 3 || s.Counters.Reconnects != 0 {
			t.Errorf("%+v", s.Counters)
		}
	})
}

// TestUndecodableAnswer: the answer's key was read, the rest cannot be.
func TestUndecodableAnswer(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, r *rig, hosts <-chan net.Conn) {
		h := signedOn(t, hosts)
		p := r.pending(1)
		m := h.next()
		good := h.response(m, "00", nil)
		h.write(h.framer.append(nil, append(good, "trailing"...)))
		outcome(t, <-p, payment.ErrUnknownOutcome, ErrUnparsable)
	})
}

func TestByteAtATime(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, r *rig, hosts <-chan net.Conn) {
		h := signedOn(t, hosts)
		p := r.pending(1)
		for _, b := range h.framer.append(nil, h.response(h.next(), "00", nil)) {
			h.write([]byte{b})
		}
		outcome(t, <-p)
	})
}

// TestSlowReader: the peer stops reading. What was handed to the kernel call is
// ambiguous, what waited behind it never left.
func TestSlowReader(t *testing.T) {
	bubble(t, Config{WriteTimeout: time.Second}, func(t *testing.T, r *rig, hosts <-chan net.Conn) {
		h := signedOn(t, hosts)
		first := r.pending(1)
		synctest.Wait() // it stands in Write
		second := r.pending(2)
		synctest.Wait()
		outcome(t, <-first, payment.ErrUnknownOutcome, ErrLost)
		outcome(t, <-second, payment.ErrNotSent)
		h.socket.Close()
		h = signedOn(t, hosts)
		p := r.pending(3)
		h.answer(h.next(), "00")
		outcome(t, <-p)
	})
}

// TestSlowReaderExpires: send_by passes while the writer is held up.
func TestSlowReaderExpires(t *testing.T) {
	bubble(t, Config{WriteTimeout: 8 * time.Second, SendWithin: time.Second}, func(t *testing.T, r *rig, hosts <-chan net.Conn) {
		h := signedOn(t, hosts)
		first := r.pending(1)
		synctest.Wait()
		second := r.pending(2)
		outcome(t, <-second, payment.ErrNotSent, ErrExpired)
		m := h.next()
		h.answer(m, "00")
		outcome(t, <-first)
		third := r.pending(3)
		if m := h.next(); m.Bytes(11)[5] != '3' {
			t.Errorf("STAN %s left: its send_by was over", m.Bytes(11))
		} else {
			h.answer(m, "00")
		}
		outcome(t, <-third)
	})
}

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
		r.link.Enable()
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
