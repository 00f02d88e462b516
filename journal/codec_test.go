package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"authswitch/payment"
)

// fill gives every field of v another value, so that a field that an encoding
// forgets is seen.
func fill(v reflect.Value, r *rand.Rand) {
	switch v.Kind() {
	case reflect.Struct:
		for _, field := range v.Fields() {
			fill(field, r)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), r)
		}
	case reflect.Slice:
		v.SetBytes(fmt.Appendf(nil, "bytes-%d", r.IntN(1_000_000)))
	case reflect.String:
		v.SetString(fmt.Sprintf("text-%d", r.IntN(1_000_000)))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int64:
		v.SetInt(r.Int64())
	default:
		v.SetUint(1 + r.Uint64N(1<<min(v.Type().Bits()-1, 62)))
	}
}

func filled[T any](seed uint64) *T {
	v := new(T)
	fill(reflect.ValueOf(v).Elem(), rand.New(rand.NewPCG(seed, 2)))
	return v
}

func TestEncodings(t *testing.T) {
	for seed := range uint64(50) {
		i := filled[payment.Intent](seed)
		i.Priority = 0 // not journalled
		var i2 payment.Intent
		c := cursor{b: appendIntent(nil, i)}
		readIntent(&c, &i2)
		if err := c.end(); err != nil || !reflect.DeepEqual(*i, i2) {
			t.Fatalf("intent: %v\n%+v\n%+v", err, *i, i2)
		}
		o := filled[payment.Outcome](seed)
		var o2 payment.Outcome
		for range 2 { // with data for the chip, and without
			c = cursor{b: appendOutcome(nil, o)}
			readOutcome(&c, &o2)
			if err := c.end(); err != nil || *o != o2 {
				t.Fatalf("outcome: %v\n%+v\n%+v", err, *o, o2)
			}
			o.Response.Chip, o2 = "", payment.Outcome{}
		}
		w := filled[payment.Owed](seed)
		by := claim{session: 3, number: seed}
		var w2 payment.Owed
		c = cursor{b: appendOwed(nil, w, by)}
		by2 := readOwed(&c, &w2)
		if err := c.end(); err != nil || *w != w2 || by != by2 {
			t.Fatalf("owed: %v\n%+v\n%+v", err, *w, w2)
		}
		l := filled[payment.Late](seed)
		l.Response.Chip = "" // nothing goes back to a chip that has left
		var l2 payment.Late
		c = cursor{b: appendLate(nil, l)}
		readLate(&c, &l2)
		if err := c.end(); err != nil || *l != l2 {
			t.Fatalf("late: %v\n%+v\n%+v", err, *l, l2)
		}
	}
}

// TestGoldenIntent pins the layout: a change that old logs would not survive
// fails here.
func TestGoldenIntent(t *testing.T) {
	i := &payment.Intent{
		ID: number(1), Attempt: 1, Session: 2, Node: "n1", Gateway: "g", Merchant: "m", Key: []byte("k"), Fingerprint: [32]byte{1}, Reference: []byte("r"),
		Amount: payment.Amount{Value: 1051, Currency: 978}, Channel: 1, Partial: true, Scheme: 1, Link: "l", Dialect: "d", MTI: 0x100, STAN: 17,
		RRN: payment.RRN{'6'}, Transmitted: 5, Local: payment.LocalTime{'2'}, ReceivedAt: 6, SendBy: 7, AnswerBy: 8, LifeOver: 9,
		Terms:  payment.Terms{Terminal: "t", Acceptor: "a", AcceptorName: "n", MCC: "c", Acquirer: "q", Forwarder: "f", Country: "y"},
		Sealed: []byte("s"), BlindIndex: [32]byte{2}, BIN: []byte("b"), Last4: [4]byte{'4'}, NetworkTransactionID: []byte("x"),
	}
	const want = "01" + "7061796d656e742d3030303030303031" + "01" + "0000000000000002" + "01" + zeros31 + "000000000000041b" + "03d2" + "0000000000000006" + "0000000000000008" +
		"0000000000000009" + "00000011" + "016d" + "016c" + "016b" + "0172" + "026e31" + "0167" + "0100" + "01" + "01" + "0164" + "0100" +
		"360000000000000000000000" + "00000005" + "320000000000000000000000" + "0000000000000007" +
		"0174" + "0161" + "016e" + "0163" + "0171" + "0166" + "0179" + "000173" + "02" + zeros31 + "0162" + "34000000" + "0178"
	if got := fmt.Sprintf("%x", appendIntent(nil, i)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	// An intent of the first layout kept its capture mode among the rest, and is
	// still read.
	old := appendIntent(nil, i)
	at := bytes.Index(old, []byte("\x01g\x01\x00")) + 3
	old[at] = byte(payment.CaptureAutomatic)
	var read payment.Intent
	c := cursor{b: old}
	readIntent(&c, &read)
	if c.end() != nil || read.Capture != (payment.Capturing{Mode: payment.CaptureAutomatic}) {
		t.Errorf("the first layout reads as %+v", read.Capture)
	}
	i.Capture = payment.Capturing{Mode: payment.CaptureAutomatic, Means: payment.MeansAdvice, MTI: 0x0220, Within: 10}
	const capture = "0172" + "01" + "0220" + "000000000000000a" + "01" + "026e31"
	if got := fmt.Sprintf("%x", appendIntent(nil, i)); got[:2] != "02" || !strings.Contains(got, capture) {
		t.Errorf("got  %s\nwant %s in it", got, capture)
	}
}

const zeros31 = "00000000000000000000000000000000000000000000000000000000000000"

func TestEncodeAllocatesNothing(t *testing.T) {
	i, o := filled[payment.Intent](1), filled[payment.Outcome](1)
	w, l := filled[payment.Owed](1), filled[payment.Late](1)
	b := make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() {
		b = AppendOpen(b[:0], i)
		b = AppendSettle(b[:0], o)
		b = appendOwed(b[:0], w, claim{})
		b = AppendLate(b[:0], l)
		b = AppendAcknowledge(b[:0], "cb-a", 1, &o.Response, payment.AdviceAcknowledged)
		b = AppendClaim(b[:0], 1, 2, "cb-a", 3, 4, 5)
		b = EndEntry(AddCommand(BeginEntry(b[:0], 1), KindLease, nil))
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestDamagedEntry flips every bit of an entry and cuts it everywhere: it is
// refused and nothing is applied.
func TestDamagedEntry(t *testing.T) {
	b := newBench(t)
	s := b.session("n1")
	entry := EndEntry(AddCommand(BeginEntry(nil, b.now), KindOpen, AppendOpen(nil, b.intent(1, s))))
	for n := range len(entry) * 8 {
		bad := bytes.Clone(entry)
		bad[n/8] ^= 1 << (n % 8)
		if _, err := b.m.Apply(bad, nil); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("bit %d: %v", n, err)
		}
	}
	for n := range entry {
		if _, err := b.m.Apply(entry[:n], nil); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
	if len(b.m.open) != 0 {
		t.Fatal("something was applied")
	}
}

func TestUnknownStops(t *testing.T) {
	newer := appendIntent(nil, newBench(t).intent(1, 1))
	newer[0] = intentVersion + 1
	for name, entry := range map[string][]byte{
		"kind":            AddCommand(BeginEntry(nil, 1), 200, nil),
		"kind 0":          AddCommand(BeginEntry(nil, 1), 0, nil),
		"intent version":  AddCommand(BeginEntry(nil, 1), KindOpen, newer),
		"command version": AddCommand(BeginEntry(nil, 1), KindLease, []byte{9}),
		"empty command":   AddCommand(BeginEntry(nil, 1), KindSettle, nil),
		"bytes after":     append(BeginEntry(nil, 1), 1),
		"count":           func() []byte { e := BeginEntry(nil, 1); e[entryHead-1] = 3; return e }(),
		"flag":            func() []byte { e := BeginEntry(nil, 1); e[5] = 1; return e }(),
		"entry version":   func() []byte { e := BeginEntry(nil, 1); e[4] = 2; return e }(),
	} {
		b := newBench(t)
		if _, err := b.m.Apply(EndEntry(entry), nil); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewer) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzApply gives the machine any command body: it answers, or says that it
// cannot go on, and what it then holds can be flushed, loaded and read.
func FuzzApply(f *testing.F) {
	b := newBench(f)
	s := b.session("n1")
	i := b.intent(1, s)
	next := *i
	next.Attempt = 2
	for kind, body := range map[Kind][]byte{
		KindSession: AppendSession(nil, "n1"), KindOpen: AppendOpen(nil, i), KindNext: AppendNext(nil, outcome(i, payment.EventDeclined), &next),
		KindSettle: AppendSettle(nil, outcome(i, payment.EventUnknown)), KindLate: AppendLate(nil, late(i, true)),
		KindCancel: AppendCancel(nil, &payment.Cancellation{Merchant: "parcels", RequestKey: []byte("u"), Key: i.Key, Reason: 1}),
		KindClaim:  AppendClaim(nil, s, 1, "cb-a", 1, 2, 3), KindAcknowledge: AppendAcknowledge(nil, "cb-a", 1, &payment.Response{}, payment.AdviceNotFound),
		KindLease: AppendLease(nil, s, "cb-a"), KindSweep: AppendSweep(nil, 1), KindForget: AppendForget(nil, 1),
		KindWriteOff:   AppendWriteOff(nil, &payment.WriteOff{ID: i.ID, Operator: "ana", Reason: "ticket 7"}),
		KindKeyPut:     AppendKeyPut(nil, workingKey(1)),
		KindKeyAdvance: AppendKeyAdvance(nil, &payment.KeyAdvance{ID: 1, To: payment.KeyActive, Overlap: 1, Officers: [2]string{"a", "b"}}),
		KindKeyRewrap:  AppendKeyRewrap(nil, 1, workingKey(1).Block, []byte("D"), 2), KindKeySweep: AppendKeySweep(nil), KindKeyMark: AppendKeyMark(nil, 1, payment.KeyDoubtful),
		KindCardReseal: AppendCardReseals(nil, []payment.CardReseal{{Token: number(1), Was: []byte("a"), Sealed: envelope(1, 1)}}),
	} {
		f.Add(byte(kind), body)
	}
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		b := newBench(t)
		s := b.session("n1")
		i, owed := b.intent(1, s), b.intent(2, s)
		b.open(i)
		b.open(owed)
		b.settle(outcome(owed, payment.EventUnknown))
		b.do(KindKeyPut, AppendKeyPut(nil, workingKey(1)))
		entry := EndEntry(AddCommand(BeginEntry(nil, b.now), Kind(kind), body))
		if _, err := b.m.Apply(entry, nil); err != nil {
			return
		}
		if err := b.m.Flush(b.index+1, b.disk); err != nil {
			t.Fatal(err)
		}
		b.restart()
		for _, x := range []*payment.Intent{i, owed} {
			b.payment(x.ID)
			if _, err := ReadHistory(b.disk, x.ID); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// FuzzEntry gives the decoders of stored lines any bytes.
func FuzzEntry(f *testing.F) {
	b := newBench(f)
	i := b.intent(1, b.session("n1"))
	b.open(i)
	b.settle(outcome(i, payment.EventUnknown))
	for k, v := range b.disk.kv {
		if k[0] == tableLines {
			f.Add([]byte(v))
		}
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		if e, err := decodeEntry(value); err == nil && e.Kind.String() == "invalid" {
			t.Fatal("an invalid kind was read")
		}
		var k keyRecord
		_ = k.read(value)
		var n numbers
		_ = n.read(value)
	})
}

func TestKeyFilter(t *testing.T) {
	var s seen
	r := rand.New(rand.NewPCG(1, 2))
	hash := func() (h keyHash) {
		for n := range h {
			h[n] = byte(r.Uint32())
		}
		return h
	}
	var used []keyHash
	for range 50_000 {
		h := hash()
		used = append(used, h)
		s.add(1, h)
	}
	for _, h := range used {
		if !s.perhaps(h) {
			t.Fatal("a used key was called new")
		}
	}
	alarms := 0
	for range 50_000 {
		if s.perhaps(hash()) {
			alarms++
		}
	}
	if alarms > 100 {
		t.Errorf("%d false alarms of 50,000", alarms)
	}
	s.forget(1)
	if s.perhaps(used[0]) || len(s.filters) != 0 {
		t.Error("a forgotten day is still there")
	}
	for day := range uint32(bloomLimit + 1) {
		s.add(day, used[0])
	}
	if !s.perhaps(hash()) || s.filters != nil {
		t.Error("past its limit the filter must say perhaps")
	}
}

// TestRecentKeys drives the exact keys past their limit: answers stay.
func TestRecentKeys(t *testing.T) {
	b := newBench(t)
	b.m.keys = newRecent(8)
	s := b.session("n1")
	for n := range 100 {
		b.open(b.intent(n+1, s))
		if size := len(b.m.keys.young) + len(b.m.keys.older); size > 8 {
			t.Fatalf("%d keys are kept", size)
		}
	}
	for n := range 100 {
		i := b.intent(n+1, s)
		i.ID = number(n + 1000)
		if got := b.open(i); got.Verdict != payment.OpenRunning || got.ID != number(n+1) {
			t.Fatalf("key %d: %+v", n+1, got)
		}
	}
}

func BenchmarkApply(b *testing.B) {
	d := newBench(b)
	s := d.session("n1")
	i := d.intent(1, s)
	var entry, body []byte
	var results []Result
	ending := outcome(i, payment.EventApproved)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		binary.BigEndian.PutUint64(i.ID[:], uint64(d.now/1e6)<<16)
		binary.BigEndian.PutUint64(i.ID[8:], uint64(n))
		i.Key = append(i.Key[:0], i.ID[:]...)
		entry = BeginEntry(entry[:0], d.now)
		body = AppendOpen(body[:0], i)
		entry = AddCommand(entry, KindOpen, body)
		ending.ID = i.ID
		body = AppendSettle(body[:0], ending)
		entry = AddCommand(entry, KindSettle, body)
		var err error
		if results, err = d.m.Apply(EndEntry(entry), results[:0]); err != nil {
			b.Fatal(err)
		}
		if n%256 == 255 {
			if err := d.m.Flush(uint64(n), discard{}); err != nil {
				b.Fatal(err)
			}
		}
	}
}

type discard struct{}

func (discard) Set(_, _ []byte) error         { return nil }
func (discard) Delete(_ []byte) error         { return nil }
func (discard) DeleteRange(_, _ []byte) error { return nil }
