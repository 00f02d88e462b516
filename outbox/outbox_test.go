package outbox_test

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"authswitch/card"
	"authswitch/iso8583"
	"authswitch/iso8583/dialects"
	"authswitch/outbox"
	"authswitch/payment"
)

// acquirer is the far end and the link in one: it answers each transmission
// by a script and remembers what it saw.
type acquirer struct {
	mu      sync.Mutex
	name    string // of its dialect; ascii87 when empty
	dialect *iso8583.Dialect
	says    string   // DE 7 of its answers; empty: that of what it answers
	script  []string // DE 39 of each answer, "" for silence, "cut" for a line that breaks; the last one stays
	down    bool
	seen    []transmission
	held    int
	most    int // in flight at once
	stan    payment.STAN
}

type transmission struct {
	mti  string
	stan string
	rrn  string
	at   time.Time
}

func (a *acquirer) ReserveOwed(s *payment.Slot, o *payment.Owed, rrn payment.RRN) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.down {
		return payment.ErrUnavailable
	}
	a.held++
	a.most = max(a.most, a.held)
	s.STAN = o.STAN
	if s.STAN == 0 {
		a.stan++
		s.STAN = a.stan
	}
	s.RRN, s.Transmitted = rrn, 1123040000
	return nil
}

func (a *acquirer) Release(*payment.Slot) {
	a.mu.Lock()
	a.held--
	a.mu.Unlock()
}

func (a *acquirer) Exchange(s *payment.Slot, _ *payment.Intent, frame []byte, answer *iso8583.Message) error {
	var m iso8583.Message
	if err := a.dialect.Unpack(&m, frame); err != nil {
		return err
	}
	a.mu.Lock()
	a.seen = append(a.seen, transmission{m.MTI().String(), string(m.Bytes(11)), string(m.Bytes(37)), time.Now()})
	code := a.script[0]
	if len(a.script) > 1 {
		a.script = a.script[1:]
	}
	a.mu.Unlock()
	time.Sleep(10 * time.Millisecond) // the round trip, in fake time
	a.mu.Lock()
	a.held--
	a.down = a.down || code == "cut"
	a.mu.Unlock()
	if code == "" || code == "cut" {
		return payment.ErrUnknownOutcome
	}
	var b iso8583.Builder
	b.Start(m.MTI().Response())
	for _, de := range []int{3, 4, 7, 11, 37, 41} {
		b.Set(de, slices.Clone(m.Bytes(de)))
	}
	if a.says != "" {
		b.Set(7, []byte(a.says))
	}
	b.Set(39, []byte(code))
	packed, err := a.dialect.Pack(nil, &b)
	if err != nil {
		return err
	}
	return a.dialect.Unpack(answer, packed)
}

// book is the journal's part: entries, claims with the real backoff, ends.
type book struct {
	mu     sync.Mutex
	owed   map[uint64]*payment.Owed
	ended  map[uint64]payment.AdviceVerdict
	claims int
	asks   int
	rests  bool          // Idle is asked
	more   chan struct{} // closed when something is owed again
	fail   error         // of the next claims
	commit time.Duration // of each claim and acknowledgement
	life   time.Duration // of each original, from when its reversal is owed
	said   []payment.AdviceVerdict
}

func (b *book) Due(_ payment.LinkName, now payment.Instant, limit int, dst []payment.Owed) []payment.Owed {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asks++
	for _, o := range b.owed {
		if o.Due <= now && len(dst) < limit {
			dst = append(dst, *o)
		}
	}
	slices.SortFunc(dst, func(x, y payment.Owed) int { return int(x.Seq) - int(y.Seq) })
	return dst
}

func (b *book) idle(payment.LinkName) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.owed) > 0 {
		return nil
	}
	return b.more
}

// owe makes one more reversal owed.
func (b *book) owe(seq uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.owed[seq] = &payment.Owed{Link: "a", Seq: seq, ID: payment.ID{byte(seq)}, Attempt: 1, Reason: payment.ReversalTimeout, Since: now(), Due: now()}
	close(b.more)
	b.more = make(chan struct{})
}

func (b *book) Claim(_ payment.LinkName, seq uint64, stan payment.STAN, t payment.Transmitted) (payment.Owed, error) {
	time.Sleep(b.commit)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		return payment.Owed{}, b.fail
	}
	b.claims++
	o := b.owed[seq]
	if o.STAN == 0 {
		o.STAN = stan
	}
	o.Tries++
	o.Transmitted = t
	o.Due, o.LifeOver = now()+payment.Instant(time.Second<<min(o.Tries-1, 6)), o.Since+payment.Instant(b.life)
	return *o, nil
}

func (b *book) Acknowledge(_ payment.LinkName, seq uint64, _ *payment.Response, v payment.AdviceVerdict) (payment.State, error) {
	time.Sleep(b.commit)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.said = append(b.said, v)
	if v != payment.AdviceAcknowledged {
		return payment.StateReversing, nil
	}
	delete(b.owed, seq)
	b.ended[seq] = v
	return payment.StateReversed, nil
}

func (b *book) Original(id payment.ID, _ uint8) (payment.Payment, error) {
	return payment.Payment{State: payment.StateReversing, Intent: payment.Intent{
		ID: id, Attempt: 1, Merchant: "m", Amount: payment.Amount{Value: 1000, Currency: 978}, Channel: payment.Ecommerce,
		MTI: 0x0100, STAN: 17, RRN: payment.MakeRRN(now(), 17), Transmitted: 1123035959, Local: payment.LocalTimeAt(now(), time.UTC),
		Terms: payment.Terms{Terminal: "TERM0001", Acceptor: "SHOP00000000001", AcceptorName: "SHOP/PARIS/FR", MCC: "5999", Acquirer: "497010", Country: "250"},
	}}, nil
}

func (b *book) left() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.owed)
}

// opener gives back the one card of the tests.
type opener struct {
	err       error
	away      *atomic.Int32 // so many times the security module is away first
	forgotten *atomic.Int32
}

func (o opener) Forget(payment.ID) {
	if o.forgotten != nil {
		o.forgotten.Add(1)
	}
}

func (o opener) Open(c *card.Card, _ *payment.Intent) error {
	if o.away != nil && o.away.Add(-1) >= 0 {
		return payment.ErrUnavailable
	}
	c.PAN, _ = card.ParsePAN([]byte("4111111111111111"))
	c.Expiry, _ = card.ParseExpiry([]byte("3012"))
	return o.err
}

func now() payment.Instant { return payment.Instant(time.Now().UnixNano()) }

// carry runs a worker over n entries for some fake time and returns what it
// counted.
func carry(t *testing.T, n int, a *acquirer, b *book, o opener, window int, during time.Duration, meanwhile func()) *prometheus.Registry {
	t.Helper()
	registry := prometheus.NewRegistry()
	dialect, err := iso8583.Load(dialects.FS, cmp.Or(a.name, "ascii87"))
	if err != nil {
		t.Fatal(err)
	}
	a.dialect = dialect
	synctest.Test(t, func(t *testing.T) {
		b.owed, b.ended = map[uint64]*payment.Owed{}, map[uint64]payment.AdviceVerdict{}
		for i := range n {
			seq := uint64(i + 1)
			b.owed[seq] = &payment.Owed{Link: "a", Seq: seq, ID: payment.ID{byte(i >> 8), byte(i), 1}, Attempt: 1, Reason: payment.ReversalTimeout, Since: now(), Due: now()}
		}
		if b.rests {
			b.more = make(chan struct{}) // of this bubble
		}
		w, err := outbox.New(outbox.Config{Window: window}, outbox.Deps{
			Link: "a", Dialect: dialect, Journal: b, Sender: a, Vault: o, Now: now, Log: slog.New(slog.DiscardHandler), Registerer: registry, Idle: b.idle,
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { w.Run(ctx); close(done) }()
		if meanwhile != nil {
			meanwhile()
		}
		time.Sleep(during)
		cancel()
		<-done
		if a.held != 0 {
			t.Errorf("%d places were not given back", a.held)
		}
	})
	return registry
}

// counted checks a counter by the value of its one label.
func counted(t *testing.T, registry *prometheus.Registry, name string, want map[string]float64) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			got[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("%s: %v, want %v", name, got, want)
	}
}

// A reversal is repeated with the repeat MTI, the same STAN and RRN, and more
// and more patience, until it is acknowledged.
func TestRepeatedUntilAcknowledged(t *testing.T) {
	a, b := &acquirer{script: []string{"", "91", "", "00"}}, &book{}
	registry := carry(t, 1, a, b, opener{}, 4, time.Minute, nil)
	var types []string
	for _, s := range a.seen {
		types = append(types, s.mti)
		if s.stan != a.seen[0].stan || s.rrn != a.seen[0].rrn {
			t.Errorf("numbers changed: %+v", s)
		}
	}
	if want := []string{"0420", "0421", "0421", "0421"}; !slices.Equal(types, want) {
		t.Errorf("left: %v, want %v", types, want)
	}
	if b.left() != 0 || b.claims != 4 {
		t.Errorf("%d owed after %d claims", b.left(), b.claims)
	}
	counted(t, registry, "reversal_transmissions_total", map[string]float64{"first": 1, "repeat": 3})
	counted(t, registry, "reversal_results_total", map[string]float64{
		"acknowledged": 1, "not_found": 0, "exception": 0, "repeat_asked": 1, "unanswered": 2, "not_sent": 0, "failed": 0, "waits_for_hsm": 0,
	})
	for i := 2; i < len(a.seen); i++ {
		if a.seen[i].at.Sub(a.seen[i-1].at) <= a.seen[i-1].at.Sub(a.seen[i-2].at) {
			t.Errorf("transmission %d came no later than the one before", i)
		}
	}
}

// "Not found" to what was asked while the original could still arrive says
// nothing, whenever it comes: the original may be there since.
func TestNotFoundAskedTooEarly(t *testing.T) {
	a, b := &acquirer{script: []string{"25"}}, &book{life: 2500 * time.Millisecond}
	carry(t, 1, a, b, opener{}, 4, 2*time.Second, nil) // sent at once, due again before its life is over; and after a second
	if b.claims != 2 || !slices.Equal(b.said, []payment.AdviceVerdict{payment.AdviceNotFound}) {
		t.Errorf("%d claims, and journalled is %v", b.claims, b.said)
	}
}

// "Not found" to an earlier transmission says nothing either. Whose acquirer puts
// its own time into DE 7 cannot tell them apart, and must not repeat for ever.
func TestNotFoundOfWhichTransmission(t *testing.T) {
	for _, c := range []struct {
		dialect, code, says string
		decides             bool
	}{
		{"ascii87", "25", "", true},
		{"ascii87", "25", "1123035959", false},
		{"amex", "914", "", true},
		{"amex", "914", "1123035959", true},
	} {
		a, b := &acquirer{name: c.dialect, script: []string{c.code}, says: c.says}, &book{}
		carry(t, 1, a, b, opener{}, 4, time.Second/2, nil)
		var want []payment.AdviceVerdict
		if c.decides {
			want = []payment.AdviceVerdict{payment.AdviceNotFound}
		}
		if len(a.seen) != 1 || !slices.Equal(b.said, want) {
			t.Errorf("%+v: asked %d times, journalled is %v", c, len(a.seen), b.said)
		}
	}
}

// Many entries leave together, within the window.
func TestWindow(t *testing.T) {
	a, b := &acquirer{script: []string{"00"}}, &book{}
	carry(t, 300, a, b, opener{}, 16, 5*time.Second, nil)
	if b.left() != 0 || len(a.seen) != 300 {
		t.Errorf("%d owed, %d left", b.left(), len(a.seen))
	}
	if a.most != 16 {
		t.Errorf("%d in flight at once, want 16", a.most)
	}
}

// A place in the window is free again when the answer is there, not when it is
// journalled: 100 rounds of 20 ms to claim and 10 ms to the acquirer.
func TestAcknowledgingHoldsNoPlace(t *testing.T) {
	a, b := &acquirer{script: []string{"00"}}, &book{commit: 20 * time.Millisecond}
	carry(t, 400, a, b, opener{}, 4, 100*(20+10)*time.Millisecond+50*time.Millisecond, nil)
	if b.left() != 0 || a.most != 4 {
		t.Errorf("%d owed; %d in flight at once", b.left(), a.most)
	}
}

// A stop waits for what was claimed and starts nothing more.
func TestStopClaimsNoMore(t *testing.T) {
	a, b := &acquirer{script: []string{"00"}}, &book{commit: time.Second}
	carry(t, 100, a, b, opener{}, 4, 500*time.Millisecond, nil)
	if b.claims != 4 || b.left() != 96 {
		t.Errorf("%d claims, %d owed after a stop in the middle of the first four", b.claims, b.left())
	}
}

// A link that owes nothing is not asked again until it does, and then at once.
func TestIdle(t *testing.T) {
	a, b := &acquirer{script: []string{"00"}}, &book{rests: true}
	carry(t, 0, a, b, opener{}, 4, time.Minute, func() {
		time.Sleep(time.Hour)
		b.mu.Lock()
		if b.asks > 10 {
			t.Errorf("asked %d times in an hour in which nothing was owed", b.asks)
		}
		b.mu.Unlock()
		b.owe(1)
		time.Sleep(100 * time.Millisecond)
		if b.left() != 0 {
			t.Error("what became owed waits")
		}
	})
}

// While the link is down nothing is claimed; afterwards everything leaves.
func TestLinkDown(t *testing.T) {
	a, b := &acquirer{script: []string{"00"}, down: true}, &book{}
	carry(t, 5, a, b, opener{}, 4, 5*time.Second, func() {
		time.Sleep(time.Minute)
		a.mu.Lock()
		if b.claims != 0 || len(a.seen) != 0 {
			t.Errorf("%d claims, %d transmissions while down", b.claims, len(a.seen))
		}
		a.down = false
		a.mu.Unlock()
	})
	if b.left() != 0 {
		t.Errorf("%d still owed", b.left())
	}
}

// What was on its way when the line broke may have been processed: it waits for
// its repeat, and for nothing longer, because an outage claims no tries. What
// was not leaves as soon as the line is back.
func TestOutageBetweenClaimAndAnswer(t *testing.T) {
	for _, c := range []struct {
		name   string
		outage time.Duration
		repeat time.Duration // of the first two, after the start
	}{
		{"shorter than the pause before a repeat", 300 * time.Millisecond, time.Second},
		{"much longer", 5 * time.Minute, 5 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			const sender = 100 * time.Millisecond // a sender's pause while the link is down
			a, b := &acquirer{script: []string{"cut", "cut", "00"}}, &book{}
			var start time.Time
			carry(t, 3, a, b, opener{}, 2, 5*time.Second, func() {
				start = time.Now()
				time.Sleep(c.outage)
				a.mu.Lock()
				a.down = false
				a.mu.Unlock()
			})
			if b.left() != 0 || len(a.seen) != 5 || b.claims != 5 {
				t.Fatalf("%d owed, %d claims, left: %+v", b.left(), b.claims, a.seen)
			}
			types := map[string]int{}
			for _, s := range a.seen[2:] {
				types[s.mti]++
				due := c.outage
				if s.mti == "0421" {
					due = c.repeat
				}
				if after := s.at.Sub(start); after < due || after > due+2*sender {
					t.Errorf("%s left after %s, want %s", s.mti, after, due)
				}
			}
			if types["0421"] != 2 || types["0420"] != 1 {
				t.Errorf("left after the outage: %v", types)
			}
		})
	}
}

// Nothing leaves without its claim, and nothing is lost by a failure.
func TestNothingLeavesUnclaimed(t *testing.T) {
	a, b := &acquirer{script: []string{"00"}}, &book{fail: errors.New("no quorum")}
	carry(t, 3, a, b, opener{}, 4, time.Second, nil)
	if len(a.seen) != 0 || b.left() != 3 {
		t.Errorf("%d left without a claim, %d owed", len(a.seen), b.left())
	}
}

// A card that cannot be opened is a loud fault, and the reversal stays owed.
func TestSealedCardUnreadable(t *testing.T) {
	a, b := &acquirer{script: []string{"00"}}, &book{}
	carry(t, 1, a, b, opener{err: errors.New("wrong key")}, 4, 10*time.Second, nil)
	if len(a.seen) != 0 || b.left() != 1 {
		t.Errorf("%d left, %d owed", len(a.seen), b.left())
	}
}

// While the security module is away nothing is claimed, so nothing counts as
// sent; when it is back the first transmission leaves, and the card that was
// held for it is forgotten.
func TestWaitsForTheSecurityModule(t *testing.T) {
	a, b := &acquirer{script: []string{"00"}}, &book{}
	o := opener{away: &atomic.Int32{}, forgotten: &atomic.Int32{}}
	o.away.Store(20)
	registry := carry(t, 1, a, b, o, 4, 10*time.Second, nil)
	if len(a.seen) != 1 || b.left() != 0 || o.forgotten.Load() != 1 {
		t.Errorf("%d left, %d owed, %d forgotten", len(a.seen), b.left(), o.forgotten.Load())
	}
	counted(t, registry, "reversal_transmissions_total", map[string]float64{"first": 1, "repeat": 0})
}

// The plan never has two messages of one payment in flight.
func TestPlanOrdersPerPayment(t *testing.T) {
	p := outbox.NewPlan(3)
	due := []payment.Owed{{Seq: 1, ID: payment.ID{1}}, {Seq: 2, ID: payment.ID{1}}, {Seq: 3, ID: payment.ID{2}}, {Seq: 4, ID: payment.ID{3}}, {Seq: 5, ID: payment.ID{4}}}
	seqs := func(picked []payment.Owed) (s []uint64) {
		for _, o := range picked {
			s = append(s, o.Seq)
		}
		return s
	}
	if got := seqs(p.Pick(due)); !slices.Equal(got, []uint64{1, 3, 4}) {
		t.Errorf("first: %v", got)
	}
	if got := seqs(p.Pick(due)); len(got) != 0 {
		t.Errorf("full, yet: %v", got)
	}
	p.Done(1)
	if got := seqs(p.Pick(due[1:])); !slices.Equal(got, []uint64{2}) {
		t.Errorf("after 1: %v", got)
	}
}
