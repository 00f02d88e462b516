package api

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"authswitch/payment"
)

const (
	reversal = payment.PriorityReversal
	customer = payment.PriorityCustomer
	recurs   = payment.PriorityMerchant
	ofBatch  = payment.PriorityBatch
)

// TestAdmission: what the door says to one request after the other.
func TestAdmission(t *testing.T) {
	cfg := Config{QueueTarget: 200 * time.Millisecond, QueueInterval: 500 * time.Millisecond, Budget: 10 * time.Second, Requests: 80}
	type request struct {
		at     int // ms
		p      payment.Priority
		inWork int
		age    int // ms
		want   refusalReason
	}
	for _, c := range []struct {
		name  string
		comes []request
	}{
		{"young is let in", []request{{0, customer, 1, 0, admitted}, {0, customer, 1, 200, admitted}, {9000, customer, 1, 200, admitted}}},
		{"a burst is let in", []request{{0, customer, 1, 300, admitted}, {499, customer, 1, 600, admitted}}},
		{"what stands is not", []request{{0, customer, 1, 300, admitted}, {500, customer, 1, 201, refusedOld}, {501, customer, 1, 201, refusedOld}}},
		{"and has no second burst", []request{{0, customer, 1, 300, admitted}, {500, customer, 1, 201, refusedOld}, {510, customer, 1, 100, admitted}, {520, customer, 1, 201, refusedOld}}},
		{"before it was young for as long", []request{{0, customer, 1, 300, admitted}, {500, customer, 1, 201, refusedOld}, {510, customer, 1, 100, admitted}, {1000, customer, 1, 300, admitted}, {1500, customer, 1, 300, refusedOld}}},
		{"what must have stood for as long", []request{{0, customer, 1, 700, refusedOld}}},
		{"a dip begins anew", []request{{0, customer, 1, 300, admitted}, {400, customer, 1, 200, admitted}, {600, customer, 1, 300, admitted}, {1099, customer, 1, 300, admitted}, {1100, customer, 1, 300, refusedOld}}},
		{"one in two halfway to the target", []request{{0, customer, 1, 700, refusedOld}, {1, customer, 1, 150, admitted}, {2, customer, 1, 150, refusedOld}, {3, customer, 1, 150, admitted}, {4, customer, 1, 150, refusedOld}}},
		{"merchants before customers", []request{{0, recurs, 1, 160, admitted}, {125, recurs, 1, 160, refusedOld}, {125, customer, 1, 160, admitted}, {1100, customer, 1, 160, admitted}}},
		{"batches before merchants", []request{{0, ofBatch, 1, 110, admitted}, {63, ofBatch, 1, 110, refusedOld}, {63, recurs, 1, 110, admitted}, {1100, recurs, 1, 110, admitted}}},
		{"reversals never", []request{{0, reversal, 1, 4000, admitted}, {900, reversal, 1, 4999, admitted}}},
		{"but within the budget", []request{{0, reversal, 1, 5000, refusedTooLate}, {0, customer, 1, 5000, refusedTooLate}}},
		{"a share of the places", []request{{0, ofBatch, 50, 0, admitted}, {0, ofBatch, 51, 0, refusedFull}, {0, recurs, 60, 0, admitted}, {0, recurs, 61, 0, refusedFull}, {0, customer, 70, 0, admitted}, {0, customer, 71, 0, refusedFull}, {0, reversal, 80, 0, admitted}, {0, reversal, 81, 0, refusedFull}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newAdmission(&cfg)
			for i, r := range c.comes {
				got := a.decide(r.p, testInstant+payment.Instant(r.at)*payment.Instant(time.Millisecond), r.inWork, time.Duration(r.age)*time.Millisecond)
				if got != r.want {
					t.Errorf("request %d, a %s at %d ms: %q, want %q", i, r.p, r.at, refusalReasonNames[got], refusalReasonNames[r.want])
				}
			}
		})
	}
}

// TestAdmissionAllocates: the way in costs no memory.
func TestAdmissionAllocates(t *testing.T) {
	a := newAdmission(&Config{QueueTarget: time.Second, QueueInterval: time.Second, Budget: time.Minute, Requests: 10})
	if n := testing.AllocsPerRun(100, func() { a.decide(customer, testInstant, 1, 2*time.Second) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestOverloadedDoor: what is refused names nothing, costs no key, and comes to
// neither the switch nor the gateway's rate.
func TestOverloadedDoor(t *testing.T) {
	const quick = 90 * time.Millisecond
	age, recurring := time.Duration(0), strings.Replace(goodBody, `"ecommerce"`, `"recurring"`, 1)
	f, log, authorized := newFakes(), &bytes.Buffer{}, 0
	f.authorize = func(a *payment.Authorization, out *payment.Payment) error {
		authorized++
		*out = testPayment(a)
		return nil
	}
	deps := testDeps(t, f, log)
	deps.QueueAge = func(payment.Priority) time.Duration { return age }
	d := serveDoor(t, Config{}, f, deps, log)
	for _, c := range []struct {
		method, path, body string
		age                time.Duration
		status             int
		after              string // Retry-After
	}{
		{"POST", "/v1/authorizations", goodBody, quick, 201, ""},
		{"POST", "/v1/authorizations", recurring, quick / 2, 201, ""},
		{"POST", "/v1/authorizations", recurring, 690 * time.Millisecond, 503, "2"},
		{"POST", "/v1/authorizations", goodBody, 690 * time.Millisecond, 201, ""},
		{"POST", "/v1/authorizations", goodBody, time.Second, 503, "1"},
		{"POST", "/v1/reversals", `{"merchant":"parcels","idempotency_key":"k"}`, 2 * time.Second, 201, ""},
		{"POST", "/v1/refund-batches", "", 2 * time.Second, 503, "5"},
		{"GET", "/v1/whoami", "", 20 * time.Second, 200, ""},
		{"POST", "/v1/reversals", `{"merchant":"parcels","idempotency_key":"k"}`, 20 * time.Second, 503, "1"},
	} {
		age = c.age
		before := authorized
		a := d.ask(c.method, c.path, c.body)
		if a.status != c.status || a.header.Get("Retry-After") != c.after {
			t.Errorf("%s %s behind %s: %d, Retry-After %q, want %d, %q: %s", c.method, c.path, c.age, a.status, a.header.Get("Retry-After"), c.status, c.after, a.text)
		}
		if c.status == 503 && (a.json["code"] != "overloaded" || a.json["final"] != false || authorized != before) {
			t.Errorf("%s %s behind %s: %s, %d authorized", c.method, c.path, c.age, a.text, authorized-before)
		}
	}
}

// model is a node with a journal that commits so many commands every ten
// milliseconds, and nothing else: its door decides as the node's does.
type model struct {
	door    *admission
	lines   [payment.Priorities][]*visit
	inWork  int
	room    int // commands a tick
	now     int // ms
	results [payment.Priorities]struct {
		came, refused, done int
		took                []int // ms
	}
}

// visit is one request: two commits with an acquirer between, or one.
type visit struct {
	p         payment.Priority
	came      int
	queued    int
	committed int
}

const (
	tick     = 10 // ms from commit to commit
	acquirer = 40 // ms
)

// age is what Store.QueueAge says.
func (m *model) age(p payment.Priority) time.Duration {
	oldest := m.now
	for _, line := range m.lines[:p+1] {
		if len(line) > 0 {
			oldest = min(oldest, line[0].queued)
		}
	}
	return time.Duration(m.now-oldest) * time.Millisecond
}

func (m *model) arrive(p payment.Priority) {
	r := &m.results[p]
	r.came++
	if m.door != nil {
		m.inWork++
		if m.door.decide(p, testInstant+payment.Instant(m.now)*payment.Instant(time.Millisecond), m.inWork, m.age(p)) != admitted {
			m.inWork--
			r.refused++
			return
		}
	}
	m.lines[p] = append(m.lines[p], &visit{p: p, came: m.now, queued: m.now})
}

// commit ends what a tick has room for, in the order of the store's queue.
func (m *model) commit(back map[int][]*visit) {
	room := m.room
	for i := range 2 * len(m.lines) {
		p, most := i%len(m.lines), 4
		if i >= len(m.lines) {
			most = room
		}
		n := min(most, room, len(m.lines[p]))
		room -= n
		for _, v := range m.lines[p][:n] {
			if v.committed++; v.committed == 1 && v.p != reversal {
				back[m.now+acquirer] = append(back[m.now+acquirer], v)
				continue
			}
			m.inWork--
			r := &m.results[v.p]
			r.done++
			r.took = append(r.took, m.now-v.came)
		}
		m.lines[p] = m.lines[p][n:]
	}
}

// offer runs the model for some seconds at a rate and counts from the third on.
func offer(door *admission, rate float64, seconds int) *model {
	m := &model{door: door, room: 100} // 10,000 commands a second: some 5,000 authorizations
	random := rand.New(rand.NewPCG(1, 2))
	back := map[int][]*visit{}
	due := 0.0
	for m.now = 1; m.now <= 1000*seconds; m.now++ {
		if m.now == 2001 {
			for p := range m.results {
				m.results[p].came, m.results[p].refused, m.results[p].done, m.results[p].took = 0, 0, 0, nil
			}
		}
		for due += rate / 1000; due >= 1; due-- {
			switch n := random.IntN(100); {
			case n < 5:
				m.arrive(reversal)
			case n < 70:
				m.arrive(customer)
			case n < 85:
				m.arrive(recurs)
			default:
				m.arrive(ofBatch)
			}
		}
		for _, v := range back[m.now] {
			v.queued = m.now // what ends a payment leaves first, whatever began it
			m.lines[reversal] = append(m.lines[reversal], v)
		}
		delete(back, m.now)
		if m.now%tick == 0 {
			m.commit(back)
		}
	}
	return m
}

// done is what was answered a second; p99 of it, in milliseconds.
func (m *model) done(seconds int, ps ...payment.Priority) (goodput float64, p99 int) {
	var took []int
	for _, p := range ps {
		took = append(took, m.results[p].took...)
	}
	if len(took) == 0 {
		return 0, 0
	}
	slices.Sort(took)
	return float64(len(took)) / float64(seconds-2), took[len(took)*99/100]
}

// TestOverload: at twice the capacity as much is answered as at its peak, what
// is let in is answered soon, no reversal is refused or waits, and batches give
// way before merchants, merchants before customers. Without the door the same
// node answers nobody in time.
func TestOverload(t *testing.T) {
	const seconds = 22
	cfg := Config{}.WithDefaults()
	all := []payment.Priority{reversal, customer, recurs, ofBatch}
	peak, atPeak := 0.0, 0
	for rate := 4000.0; rate <= 6000; rate += 100 {
		if good, p99 := offer(newAdmission(&cfg), rate, seconds).done(seconds, all...); good > peak {
			peak, atPeak = good, p99
		}
	}
	twice := offer(newAdmission(&cfg), 2*peak, seconds)
	good, p99 := twice.done(seconds, all...)
	for p := range payment.Priorities {
		each, wait := twice.done(seconds, p)
		t.Logf("%s: %.0f/s, p99 %d ms", p, each, wait)
	}
	t.Logf("peak %.0f/s with p99 %d ms; at twice that %.0f/s with p99 %d ms", peak, atPeak, good, p99)
	if good < 0.9*peak {
		t.Errorf("%.0f/s at twice the peak of %.0f/s", good, peak)
	}
	if p99 > 500 {
		t.Errorf("the p99 of what is let in is %d ms", p99)
	}
	if r := twice.results[reversal]; r.refused != 0 || r.done < r.came*99/100 {
		t.Errorf("of %d reversals %d were refused and %d done", r.came, r.refused, r.done)
	}
	if _, p99 := twice.done(seconds, reversal); p99 > 2*tick {
		t.Errorf("a reversal waits %d ms", p99)
	}
	share := func(p payment.Priority) float64 {
		r := twice.results[p]
		return 1 - float64(r.refused)/float64(r.came)
	}
	said := fmt.Sprintf("let in: %.3f of customers, %.3f of merchants, %.3f of batches", share(customer), share(recurs), share(ofBatch))
	t.Log(said)
	if share(customer) < 0.55 || share(recurs) > 0.35 || share(ofBatch) > share(recurs) {
		t.Error(said)
	}
	if _, p99 := offer(nil, 2*peak, seconds).done(seconds, customer); p99 < 2000 {
		t.Errorf("without the door customers wait %d ms: the model is never overloaded", p99)
	}
}

// A wait for processors counts where many are in work, and never as one that has
// lasted: one look at it is some milliseconds long.
func TestAgeOfProcessors(t *testing.T) {
	a := newAdmission(&Config{QueueTarget: 200 * time.Millisecond, QueueInterval: 500 * time.Millisecond, Budget: 10 * time.Second, Requests: 4096})
	if a.crowded(256) || !a.crowded(257) {
		t.Error("257 of 4096 are a crowd, and 256 are none")
	}
	if age := a.ofProcessors(10 * time.Millisecond); age != 50*time.Millisecond {
		t.Errorf("five waits of 10 ms are %s", age)
	}
	starved := a.ofProcessors(time.Minute)
	start := testInstant
	for at := time.Duration(0); at < 490*time.Millisecond; at += 10 * time.Millisecond {
		if why := a.decide(customer, start+payment.Instant(at), 300, starved); why != admitted {
			t.Fatalf("refused after %s: %d", at, why)
		}
	}
	if why := a.decide(customer, start+payment.Instant(510*time.Millisecond), 300, starved); why != refusedOld {
		t.Errorf("half a second of it, and let in: %d", why)
	}
}
