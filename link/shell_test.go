package link

import (
	"context"
	"errors"
	"net"
	"strings"
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

// TestSecondAnswer: an acquirer that declines and then approves holds money for
// what the gateway was told is declined. The journal must learn of it.
func TestSecondAnswer(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, r *rig, hosts <-chan net.Conn) {
		h := signedOn(t, hosts)
		p := r.pending(1)
		m := h.next()
		h.answer(m, "51")
		outcome(t, <-p)
		// A mere copy is nothing for the journal.
		h.answer(m, "51")
		if line := <-r.strange; !strings.Contains(line, "answered already") {
			t.Errorf("the line says %q", line)
		}
		h.answer(m, "00")
		synctest.Wait()
		if len(r.late) != 1 || len(r.strange) != 0 {
			t.Fatalf("%d late answers, %d that match nothing", len(r.late), len(r.strange))
		}
		if late := <-r.late; late.ID != (payment.ID{1}) || late.Attempt != 1 || late.Response.Code.String() != "00" || late.Response.Verdict.Action != payment.ActionApprove {
			t.Errorf("%+v", late)
		}
		h.answer(m, "00")
		if line := <-r.strange; !strings.Contains(line, "answered already") {
			t.Errorf("the third answer's line says %q", line)
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
