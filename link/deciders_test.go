package link

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"authswitch/iso8583"
	"authswitch/payment"
)

// TestWheelModel drives the wheel and a map with the same random operations: no
// timer fires early, twice or never, and none sleeps through next.
func TestWheelModel(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		w := newWheel(50)
		model := map[int32]moment{}
		now := moment(time.Second)
		w.advance(now, func(int32) { t.Fatal("fired while empty") })
		for range 3000 {
			switch id := int32(r.IntN(50)); r.IntN(4) {
			case 0, 1:
				at := now + moment(r.Int64N(int64(25*time.Second))) - moment(time.Second)
				w.set(id, at)
				model[id] = max(at, now) // one set for the past fires at the next tick
			case 2:
				w.stop(id)
				delete(model, id)
			case 3:
				now += moment(r.Int64N(int64(3 * time.Second)))
				step(t, w, model, now, seed)
			}
		}
		for len(model) > 0 {
			next, ok := w.next()
			if !ok || next <= now {
				t.Fatalf("seed %d: %d timers left, next is %d, %t at %d", seed, len(model), next, ok, now)
			}
			now = next
			step(t, w, model, now, seed)
		}
		if _, ok := w.next(); ok {
			t.Fatalf("seed %d: an empty wheel has a next", seed)
		}
	}
}

// step advances both and compares what fired.
func step(t *testing.T, w *wheel, model map[int32]moment, now moment, seed uint64) {
	t.Helper()
	w.advance(now, func(id int32) {
		if at, ok := model[id]; !ok || at > now {
			t.Fatalf("seed %d: timer %d fired at %d, set for %d, %t", seed, id, now, at, ok)
		}
		delete(model, id)
	})
	for id, at := range model {
		if at+wheelTick <= now-wheelTick {
			t.Fatalf("seed %d: timer %d for %d has not fired at %d", seed, id, at, now)
		}
	}
}

// TestWheelFiring: a timer that fires may stop another that is due at once,
// and set itself again.
func TestWheelFiring(t *testing.T) {
	w := newWheel(3)
	for id := range int32(3) {
		w.set(id, wheelTick)
	}
	var fired []int32
	w.advance(wheelTick, func(id int32) {
		fired = append(fired, id)
		w.stop(0)
		w.set(id, 3*wheelTick)
	})
	if slices.Contains(fired, 0) && len(fired) != 1 || len(fired) == 0 {
		t.Fatalf("fired %v", fired)
	}
	again := 0
	w.advance(3*wheelTick, func(int32) { again++ })
	if again != len(fired) {
		t.Fatalf("%d of %d set themselves again", again, len(fired))
	}
}

// TestKeyElements has one row per element of a key: with it alone different an
// answer is another request's, and the difference is named.
func TestKeyElements(t *testing.T) {
	k := key{class: 1, stan: 17, transmitted: 1123035512, rrn: payment.RRN([]byte("632700000017")), terminal: "TERM01", acquirer: "970001"}
	all := rule{transmitted: true, rrn: true, terminal: true, acquirer: true}
	equal := func() echoed {
		return echoed{
			mti: 0x0110, stan: 17, transmitted: 1123035512,
			rrn: []byte("632700000017"), terminal: []byte("TERM01"), acquirer: []byte("970001"),
		}
	}
	if e := equal(); k.differs(&e, all) != deNone {
		t.Fatal("an equal answer differs")
	}
	rows := []struct {
		name   string
		change func(e *echoed)
		rule   rule
		want   int
	}{
		{"class", func(e *echoed) { e.mti = 0x0210 }, rule{}, deType},
		{"a request", func(e *echoed) { e.mti = 0x0100 }, rule{}, deType},
		{"advice response of the class", func(e *echoed) { e.mti = 0x0130 }, rule{}, deNone},
		{"stan", func(e *echoed) { e.stan = 18 }, rule{}, deSTAN},
		{"stan absent", func(e *echoed) { e.stan = 0 }, rule{}, deSTAN},
		{"transmitted", func(e *echoed) { e.transmitted++ }, rule{transmitted: true}, deTransmitted},
		{"transmitted absent", func(e *echoed) { e.transmitted = 0 }, rule{transmitted: true}, deTransmitted},
		{"transmitted, where the peer sets its own", func(e *echoed) { e.transmitted++ }, rule{terminal: true}, deNone},
		{"rrn", func(e *echoed) { e.rrn = []byte("632700000018") }, rule{}, deRRN},
		{"rrn of another length", func(e *echoed) { e.rrn = []byte{} }, rule{}, deRRN},
		{"rrn absent", func(e *echoed) { e.rrn = nil }, rule{}, deNone},
		{"rrn absent where it is asked for", func(e *echoed) { e.rrn = nil }, rule{rrn: true}, deRRN},
		{"terminal", func(e *echoed) { e.terminal = []byte("TERM02") }, rule{}, deTerminal},
		{"terminal absent", func(e *echoed) { e.terminal = nil }, rule{}, deNone},
		{"terminal absent where it is asked for", func(e *echoed) { e.terminal = nil }, rule{terminal: true}, deTerminal},
		{"acquirer where it is asked for", func(e *echoed) { e.acquirer = []byte("1") }, rule{acquirer: true}, deAcquirer},
		{"acquirer elsewhere", func(e *echoed) { e.acquirer = []byte("1") }, rule{}, deNone},
	}
	for _, row := range rows {
		e := equal()
		row.change(&e)
		if got := k.differs(&e, row.rule); got != row.want {
			t.Errorf("%s: differs in %d, want %d", row.name, got, row.want)
		}
	}
}

// TestOwedKey: an acknowledgement matches by (STAN, RRN) whichever transmission
// it answers, and never by the STAN alone.
func TestOwedKey(t *testing.T) {
	k := key{class: 4, owed: true, stan: 17, transmitted: 1123035512, rrn: payment.RRN([]byte("632700000017")), terminal: "TERM01"}
	rows := []struct {
		name string
		e    echoed
		rule rule
		want int
	}{
		{"another transmission", echoed{mti: 0x0410, stan: 17, rrn: []byte("632700000017"), transmitted: 1}, rule{transmitted: true}, deNone},
		{"0430 is of the class too", echoed{mti: 0x0430, stan: 17, rrn: []byte("632700000017")}, rule{}, deNone},
		{"another reference", echoed{mti: 0x0410, stan: 17, rrn: []byte("632700000018")}, rule{}, deRRN},
		{"another terminal", echoed{mti: 0x0410, stan: 17, rrn: []byte("632700000017"), terminal: []byte("X")}, rule{}, deTerminal},
		{"an authorization's answer", echoed{mti: 0x0110, stan: 17, rrn: []byte("632700000017")}, rule{}, deType},
		{"without reference, this transmission", echoed{mti: 0x0410, stan: 17, transmitted: 1123035512}, rule{transmitted: true}, deNone},
		{"without reference, another transmission", echoed{mti: 0x0410, stan: 17, transmitted: 1}, rule{transmitted: true}, deTransmitted},
		{"the STAN alone", echoed{mti: 0x0410, stan: 17}, rule{}, deRRN},
		{"without reference, the terminal", echoed{mti: 0x0410, stan: 17, terminal: []byte("TERM01")}, rule{}, deNone},
	}
	for _, row := range rows {
		if got := k.differs(&row.e, row.rule); got != row.want {
			t.Errorf("%s: differs in %d, want %d", row.name, got, row.want)
		}
	}
}

func TestRejects(t *testing.T) {
	k := key{class: 1, stan: 17, transmitted: 1123035512, rrn: payment.RRN([]byte("632700000017")), terminal: "TERM01"}
	rows := []struct {
		name string
		e    echoed
		rule rule
		want bool
	}{
		{"the STAN alone", echoed{mti: 0x0620, stan: 17}, rule{transmitted: true}, false},
		{"another STAN", echoed{mti: 0x0620, stan: 18, rrn: []byte("632700000017")}, rule{transmitted: true}, false},
		{"with DE 7", echoed{mti: 0x0620, stan: 17, transmitted: 1123035512}, rule{transmitted: true}, true},
		{"with another DE 7", echoed{mti: 0x0620, stan: 17, transmitted: 1, rrn: []byte("632700000017")}, rule{transmitted: true}, false},
		{"with a DE 7 of the peer's own", echoed{mti: 0x1620, stan: 17, transmitted: 1, rrn: []byte("632700000017")}, rule{}, true},
		{"with that alone", echoed{mti: 0x1620, stan: 17, transmitted: 1}, rule{}, false},
		{"with DE 37", echoed{mti: 0x0620, stan: 17, rrn: []byte("632700000017")}, rule{transmitted: true}, true},
		{"with another DE 37", echoed{mti: 0x0620, stan: 17, transmitted: 1123035512, rrn: []byte("632700000018")}, rule{transmitted: true}, false},
		{"with DE 41", echoed{mti: 0x0620, stan: 17, terminal: []byte("TERM01")}, rule{transmitted: true}, true},
		{"with another DE 41", echoed{mti: 0x0620, stan: 17, transmitted: 1123035512, terminal: []byte("X")}, rule{transmitted: true}, false},
		{"our own message under a reject header", echoed{mti: 0x0100, stan: 17, rrn: []byte("632700000017")}, rule{transmitted: true}, true},
	}
	for _, row := range rows {
		if got := k.rejects(&row.e, row.rule); got != row.want {
			t.Errorf("%s: %t", row.name, got)
		}
	}
}

// TestNormalised: padding does not make keys differ.
func TestNormalised(t *testing.T) {
	if got := string(trimRight([]byte("TERM01  "))); got != trimRightString("TERM01 ") {
		t.Errorf("DE 41: %q", got)
	}
	if got := string(trimZeros([]byte("00970001"))); got != trimZerosString("970001") {
		t.Errorf("DE 32: %q", got)
	}
	for _, c := range []struct {
		text  string
		width int
		want  uint32
	}{
		{"000017", 6, 17},
		{"17", 6, 17},
		{"", 6, 0},
		{"0000017", 6, 0},
		{"00001A", 6, 0},
		{"+00017", 6, 0},
		{"4294967295", 10, 4294967295},
		{"9999999999", 10, 0},
	} {
		if got := number([]byte(c.text), c.width); got != c.want {
			t.Errorf("number(%q) = %d, want %d", c.text, got, c.want)
		}
	}
}

// TestTable: two requests in flight never share a key, a place is found again,
// and all of them come back.
func TestTable(t *testing.T) {
	table := newTable(8)
	var places []*place
	for i := range 8 {
		p := table.take(payment.STAN(i%4 + 1)) // chains of two
		k := p.key
		k.class, k.transmitted = uint8(i/4+1), 1
		if err := table.claim(p, k); err != nil {
			t.Fatal(err)
		}
		p.state = placeWritten
		places = append(places, p)
	}
	if table.take(9) != nil {
		t.Fatal("a ninth place of eight")
	}
	if table.claim(places[1], key{class: 1, stan: 1, transmitted: 1}) == nil {
		t.Fatal("two requests share a key")
	}
	for i, p := range places {
		e := echoed{mti: iso8583.MTI(0x0110 + 0x0100*(i/4)), stan: payment.STAN(i%4 + 1), transmitted: 1}
		if table.match(&e, rule{transmitted: true}) != p {
			t.Fatalf("place %d is not found", i)
		}
		table.leave(p)
		if table.match(&e, rule{transmitted: true}) != nil {
			t.Fatalf("place %d is found after it left", i)
		}
		table.giveBack(p)
	}
	if table.used != 0 || table.holds(1) {
		t.Fatalf("%d used", table.used)
	}
	for range 8 {
		if table.take(1) == nil {
			t.Fatal("a place got lost")
		}
	}
}

// TestSecondAnswers: a request's second answer is handed on once, when it says
// something else and carries more of the key than DE 11; the newest requests
// are remembered, refunds and increments too, and reversals never.
func TestSecondAnswers(t *testing.T) {
	a := newAnswered()
	request := func(stan payment.STAN) *place {
		return &place{key: key{class: 1, stan: stan, transmitted: 7}, id: payment.ID{byte(stan)}, attempt: 2}
	}
	declined, approved := payment.MakeResponseCode([]byte("05")), payment.MakeResponseCode([]byte("00"))
	byTime := rule{transmitted: true}
	for stan := range payment.STAN(2 * lastAnswered) {
		a.note(request(stan+1), declined)
	}
	reversal := request(2 * lastAnswered)
	reversal.key.owed, reversal.key.class = true, iso8583.ClassReversal
	a.note(reversal, declined) // shares its original's trace number
	reversal.key.stan--
	reversal.key.rrn = payment.RRN{'1', '2', '3', '4', '5', '6', '7', '8', '9', '0', '1', '2'}
	b := newAnswered()
	b.note(reversal, declined)
	refund := request(2*lastAnswered - 2)
	refund.key.owed, refund.key.rrn, refund.seq = true, reversal.key.rrn, 9
	b.note(refund, declined)

	const newest = 2 * lastAnswered
	cases := []struct {
		name string
		in   *answered
		e    echoed
		rule rule
		want payment.STAN
	}{
		{"a copy", &a, echoed{mti: 0x0110, stan: newest, transmitted: 7, code: declined}, byTime, 0},
		{"another time", &a, echoed{mti: 0x0110, stan: newest, transmitted: 8, code: approved}, byTime, 0},
		{"another class", &a, echoed{mti: 0x0210, stan: newest, transmitted: 7, code: approved}, byTime, 0},
		{"DE 11 alone", &a, echoed{mti: 0x0110, stan: newest, code: approved}, rule{}, 0},
		{"no DE 11", &a, echoed{mti: 0x0110, transmitted: 7, code: approved}, byTime, 0},
		{"displaced", &a, echoed{mti: 0x0110, stan: newest - lastAnswered, transmitted: 7, code: approved}, byTime, 0},
		{"a reversal's", &b, echoed{mti: 0x0410, stan: newest - 1, rrn: reversal.key.rrn[:], code: approved}, byTime, 0},
		{"a refund's", &b, echoed{mti: 0x0110, stan: newest - 2, rrn: refund.key.rrn[:], code: approved}, byTime, newest - 2},
		{"a refund's third", &b, echoed{mti: 0x0110, stan: newest - 2, rrn: refund.key.rrn[:], code: declined}, byTime, 0},
		{"the newest", &a, echoed{mti: 0x0110, stan: newest, transmitted: 7, code: approved}, byTime, newest},
		{"its third", &a, echoed{mti: 0x0110, stan: newest, transmitted: 7, code: approved}, byTime, 0},
		{"the oldest", &a, echoed{mti: 0x0110, stan: newest - lastAnswered + 1, transmitted: 7, code: approved}, byTime, newest - lastAnswered + 1},
	}
	for _, c := range cases {
		g, ok := c.in.second(&c.e, c.rule)
		if ok != (c.want != 0) || ok && (g.id != payment.ID{byte(c.want)} || g.attempt != 2 || g.key.stan != c.want || g.seq == 9 != g.key.owed) {
			t.Errorf("%s: %v %+v", c.name, ok, g)
		}
	}
	if n := testing.AllocsPerRun(100, func() { a.note(reversal, approved) }); n != 0 {
		t.Errorf("%v allocations to keep one", n)
	}
}

// TestMemoryModel: the memory holds the newest, finds them, and never more.
func TestMemoryModel(t *testing.T) {
	m := newMemory(100)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range 10_000 {
		p := &place{id: payment.ID{byte(i >> 8), byte(i)}, attempt: uint8(i), connection: int32(i % 3)}
		p.key = key{class: 1, stan: payment.STAN(r.IntN(50) + 1), transmitted: payment.Transmitted(i + 1)}
		m.remember(p, uint32(i))
		if len(m.byID) > 100 {
			t.Fatalf("%d ids", len(m.byID))
		}
		if c, life, ok := m.sentOn(p.id); !ok || c != p.connection || life != uint32(i) {
			t.Fatalf("%d: sent on %d, %d, %t", i, c, life, ok)
		}
		if i%7 != 0 {
			continue
		}
		e := echoed{mti: 0x0110, stan: p.key.stan, transmitted: p.key.transmitted}
		if g, ok := m.match(&e, rule{transmitted: true}); !ok || g.id != p.id || g.attempt != p.attempt {
			t.Fatalf("%d: not found", i)
		}
		if _, ok := m.match(&e, rule{transmitted: true}); ok {
			t.Fatalf("%d: found twice", i)
		}
	}
}

func TestNumbers(t *testing.T) {
	free := func(payment.STAN) bool { return false }
	var n numbers
	if !n.wanted() {
		t.Fatal("an empty allocator wants none")
	}
	n.ask()
	if n.wanted() {
		t.Fatal("two leases at once")
	}
	if !n.grant(payment.Numbers{FirstSTAN: 11, LastSTAN: 20, FirstRRN: 100, LastRRN: 199}) || n.wanted() {
		t.Fatal("a full range is not enough")
	}
	for i := range 5 {
		if stan, rrn, ok := n.take(free); !ok || stan != payment.STAN(11+i) || rrn != uint64(100+i) {
			t.Fatalf("%d, %d, %t", stan, rrn, ok)
		}
	}
	if !n.wanted() {
		t.Fatal("half used, and none wanted")
	}
	// Pending trace numbers are skipped, and so are the last ones of a range.
	busy := func(s payment.STAN) bool { return s == 16 || s == 20 }
	var got []payment.STAN
	for {
		stan, _, ok := n.take(busy)
		if !ok {
			break
		}
		got = append(got, stan)
	}
	if fmt.Sprint(got) != "[000017 000018 000019]" {
		t.Fatalf("got %v", got)
	}
	for _, bad := range []payment.Numbers{
		{},
		{FirstSTAN: 5, LastSTAN: 4, LastRRN: 9},
		{FirstSTAN: 999_990, LastSTAN: 1_000_000, LastRRN: 20},
		{FirstSTAN: 1, LastSTAN: 2, FirstRRN: 2, LastRRN: 1},
		{LastSTAN: 9, LastRRN: 9},
	} {
		if n.grant(bad) {
			t.Errorf("%+v is granted", bad)
		}
	}
}

// TestNumbersTarget: an allocator that ran dry asks earlier, up to its limit,
// and dropping forgets everything.
func TestNumbersTarget(t *testing.T) {
	free := func(payment.STAN) bool { return false }
	var n numbers
	next := payment.STAN(1)
	grant := func() {
		n.grant(payment.Numbers{FirstSTAN: next, LastSTAN: next + 99, FirstRRN: uint64(next), LastRRN: uint64(next) + 99})
		next += 100
	}
	grant()
	for range 10 {
		for {
			if _, _, ok := n.take(free); !ok {
				break
			}
		}
		grant()
	}
	held := 0
	for n.wanted() {
		grant()
		held++
	}
	if n.held > maxRanges || held < 4 {
		t.Fatalf("%d ranges held, %d more taken", n.held, held)
	}
	n.drop()
	if _, _, ok := n.take(free); ok || n.left() != 0 {
		t.Fatal("dropped numbers are handed out")
	}
}

func TestConfig(t *testing.T) {
	good := Config{Name: "cb-a", Scheme: "cb", Dialect: "ascii87", Address: "127.0.0.1:9001"}
	if faults := good.Validate(); len(faults) != 0 {
		t.Fatalf("the zero values are refused: %v", faults)
	}
	bad := Config{
		Scheme: "none", Address: "here", Connections: 65, Window: 1 << 20, ReversalWindow: -1, LateMemory: -1, EchoMisses: 101,
		SendWithin: time.Nanosecond, AnswerTimeout: -1, BackoffShortest: time.Hour, BackoffLongest: time.Minute,
		TLS: &TLS{CAFile: "testdata/absent"},
	}
	var text strings.Builder
	for _, f := range bad.Validate() {
		text.WriteString(f.Error() + "\n")
	}
	for _, want := range []string{
		"name", "scheme", "dialect", "address", "connections", "window", "reversal_window", "late_memory", "echo_misses",
		"send_within", "answer_timeout", "backoff_longest", "tls",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%s is not reported in\n%s", want, text.String())
		}
	}
}
