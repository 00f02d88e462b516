package session

import (
	"math/rand/v2"
	"testing"
	"time"

	"authswitch/payment"
)

const ms = Moment(time.Millisecond)

func TestLeaseIsCountedFromTheSending(t *testing.T) {
	l := NewLease(3 * time.Second)
	l.Begin(100 * ms)
	if !l.Valid(3099*ms) || l.Valid(3100*ms) {
		t.Error("a lease lasts its length from when its session was asked for")
	}
	l.Answered(500*ms, Answer{Quote: 7})
	if l.Valid(3100 * ms) {
		t.Error("an answer that grants nothing prolongs nothing")
	}
	if l.Quote() != 7 {
		t.Errorf("quotes %d", l.Quote())
	}
	l.Answered(1000*ms, Answer{Quote: 8, Granted: true})
	if !l.Valid(3999*ms) || l.Valid(4000*ms) {
		t.Error("a grant prolongs from the sending")
	}
	l.LeaderChanged()
	if l.Quote() != 0 || !l.Valid(3999*ms) {
		t.Error("a new leader changes the quote and not the lease")
	}
	l.Answered(1500*ms, Answer{Ended: true})
	if l.Valid(1600 * ms) {
		t.Error("an ended session is lost at once")
	}
}

func TestOneWayCutEndsTheSession(t *testing.T) {
	table := NewTable(3*time.Second, 500*time.Millisecond, 1)
	table.Sync(0, []payment.Session{5})
	first := table.Keepalive(100*ms, 5, 0, true)
	if first.Granted {
		t.Error("granted without a quote")
	}
	second := table.Keepalive(600*ms, 5, first.Quote, true)
	if !second.Granted {
		t.Fatal("not granted with one")
	}
	// The node hears nothing any more and repeats its old quote.
	for now := 1100 * ms; now < 4000*ms; now += 500 * ms {
		if a := table.Keepalive(now, 5, first.Quote, true); a.Granted {
			t.Fatalf("granted at %d to a node that does not hear", now)
		}
	}
	if len(table.Expired(4099*ms, nil)) != 0 || len(table.Expired(4100*ms, nil)) != 1 {
		t.Error("the session ends length and margin after the last grant")
	}
	table.Sync(4200*ms, nil)
	if len(table.Expired(9000*ms, nil)) != 0 {
		t.Error("what ended is forgotten")
	}
}

func TestNewLeaderStartsEveryLeaseAfresh(t *testing.T) {
	table := NewTable(3*time.Second, 500*time.Millisecond, 1000)
	table.Sync(10_000*ms, []payment.Session{5, 6})
	if len(table.Expired(13_499*ms, nil)) != 0 || len(table.Expired(13_500*ms, nil)) != 2 {
		t.Error("not a whole lease each")
	}
	if a := table.Keepalive(10_100*ms, 5, 7, true); a.Granted || a.Quote < 1000 {
		t.Errorf("another leader's quote: %+v", a)
	}
	if a := table.Keepalive(10_100*ms, 9, 7, false); !a.Ended {
		t.Errorf("a session the journal does not have: %+v", a)
	}
}

// TestNodeEndsBeforeItsLeader: whatever is delayed or lost, and with clocks of
// which one runs a tenth faster, a node whose lease is valid is never ended.
func TestNodeEndsBeforeItsLeader(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 1))
		lease, table := NewLease(3*time.Second), NewTable(3*time.Second, 500*time.Millisecond, 1)
		pace := 0.9 + 0.2*r.Float64() // of the node's clock
		node := func(at Moment) Moment { return 1_000_000*ms + Moment(float64(at)*pace) }
		lease.Begin(node(0))
		table.Sync(ms, []payment.Session{1})
		type message struct {
			at     Moment
			sent   Moment // node's clock
			answer *Answer
			quote  Quote
		}
		var flying []message
		for now := Moment(0); now < 30_000*ms; now += 50 * ms {
			if now%(500*ms) == 0 && r.IntN(3) > 0 {
				flying = append(flying, message{at: now + Moment(r.IntN(2000))*ms, sent: node(now), quote: lease.Quote()})
			}
			left := flying[:0:0]
			for _, m := range flying {
				switch {
				case m.at > now:
					left = append(left, m)
				case m.answer != nil:
					lease.Answered(m.sent, *m.answer)
				default:
					a := table.Keepalive(now, 1, m.quote, true)
					if r.IntN(3) > 0 {
						left = append(left, message{at: now + Moment(r.IntN(2000))*ms, sent: m.sent, answer: &a})
					}
				}
			}
			flying = left
			if len(table.Expired(now, nil)) > 0 {
				if lease.Valid(node(now)) {
					t.Fatalf("seed %d: ended at %d ms while its node works", seed, now/ms)
				}
				break
			}
		}
	}
}

func TestPulse(t *testing.T) {
	var p Pulse
	if p.Beat(5*ms) || p.Beat(105*ms) || p.Stopped(1105*ms) || !p.Stopped(1106*ms) || !p.Beat(1106*ms) || p.Beat(1206*ms) {
		t.Error("a pause of more than a second, and no other, counts")
	}
}

func TestClocks(t *testing.T) {
	var c Clocks
	c.Heard(0, 1, 0)
	c.Heard(0, 2, 3600_000*ms)
	if d := c.Deviation(0, 2); d != 0 {
		t.Errorf("two clocks cannot tell: %s", d)
	}
	c.Heard(0, 3, 10*ms)
	if d := c.Deviation(0, 2); d != time.Hour-10*time.Millisecond {
		t.Errorf("an hour ahead: %s", d)
	}
	if d := c.Deviation(0, 1); d != -10*time.Millisecond {
		t.Errorf("right: %s", d)
	}
	c.Heard(6000*ms, 1, 0)
	if d := c.Deviation(6000*ms, 1); d != 0 {
		t.Errorf("what was said long ago counts: %s", d)
	}
}
