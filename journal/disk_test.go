package journal

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"testing"

	"authswitch/payment"
)

// disk is a state in a map: the journal's view of Pebble, without Pebble.
type disk struct{ kv map[string]string }

func newDisk() *disk { return &disk{kv: map[string]string{}} }

func (d *disk) clone() *disk { return &disk{kv: maps.Clone(d.kv)} }

func (d *disk) Get(dst, key []byte) ([]byte, bool, error) {
	v, ok := d.kv[string(key)]
	return append(dst, v...), ok, nil
}

func (d *disk) Scan(from, to []byte, backwards bool, visit func(key, value []byte) bool) error {
	keys := slices.Sorted(maps.Keys(d.kv))
	if backwards {
		slices.Reverse(keys)
	}
	for _, k := range keys {
		if k >= string(from) && k < string(to) && !visit([]byte(k), []byte(d.kv[k])) {
			break
		}
	}
	return nil
}

func (d *disk) Set(key, value []byte) error {
	d.kv[string(key)] = string(value)
	return nil
}

func (d *disk) Delete(key []byte) error {
	delete(d.kv, string(key))
	return nil
}

func (d *disk) DeleteRange(from, to []byte) error {
	for k := range d.kv {
		if k >= string(from) && k < string(to) {
			delete(d.kv, k)
		}
	}
	return nil
}

func (d *disk) dump() string {
	var b bytes.Buffer
	for _, k := range slices.Sorted(maps.Keys(d.kv)) {
		fmt.Fprintf(&b, "%x=%x\n", k, d.kv[k])
	}
	return b.String()
}

// bench drives one machine by hand: each command is an entry of its own.
type bench struct {
	t     testing.TB
	disk  *disk
	m     *Machine
	now   payment.Instant
	index uint64
	// entries are the log so far.
	entries [][]byte
}

const day = payment.Instant(nanosecondsPerDay)

func newBench(t testing.TB) *bench {
	b := &bench{t: t, disk: newDisk(), now: 20_000 * day}
	b.m = New(b.disk)
	if err := b.m.Load(); err != nil {
		t.Fatal(err)
	}
	adopt(t, b.m, b.disk)
	return b
}

func (b *bench) do(kind Kind, body []byte) Result {
	b.t.Helper()
	entry := EndEntry(AddCommand(BeginEntry(nil, b.now), kind, body))
	results, err := b.m.Apply(entry, nil)
	if err != nil {
		b.t.Fatalf("apply %s: %v", kind, err)
	}
	b.index++
	b.entries = append(b.entries, entry)
	if err := b.m.Flush(b.index, b.disk); err != nil {
		b.t.Fatal(err)
	}
	return results[0]
}

// advance lets time pass as it does while anything is owed: without a step.
func (b *bench) advance(to payment.Instant) {
	b.t.Helper()
	for b.now < to {
		b.now = min(to, b.now+30e9)
		b.do(KindSweep, AppendSweep(nil, int64(day)))
	}
}

func (b *bench) session(node payment.NodeID) payment.Session {
	return b.do(KindSession, AppendSession(nil, node)).Session
}

func (b *bench) payment(id payment.ID) payment.Payment {
	b.t.Helper()
	p, err := ReadPayment(b.disk, id)
	if err != nil {
		b.t.Fatalf("read %x: %v", id, err)
	}
	return p
}

func number(n int) (id payment.ID) {
	copy(id[:], fmt.Sprintf("payment-%08d", n))
	return id
}

func (b *bench) intent(n int, session payment.Session) *payment.Intent {
	return &payment.Intent{
		ID: number(n), Attempt: 1, Session: session, Node: "n1", Gateway: "shop", Merchant: "parcels", Key: fmt.Appendf(nil, "key-%d", n),
		Fingerprint: [32]byte{byte(n)}, Reference: fmt.Appendf(nil, "ORDER-%d", n), Amount: payment.Amount{Value: 1000, Currency: 978}, Link: "cb-a", MTI: 0x100,
		STAN: payment.STAN(n), ReceivedAt: b.now, SendBy: b.now + 1e9, AnswerBy: b.now + 10e9, LifeOver: b.now + 180e9,
		Sealed: []byte("sealed"), BIN: []byte("49701000"),
	}
}

func outcome(i *payment.Intent, e payment.Event) *payment.Outcome {
	o := &payment.Outcome{ID: i.ID, Attempt: i.Attempt, Session: i.Session, Event: e, Amount: i.Amount, Encoder: 1}
	switch e {
	case payment.EventApproved:
		o.Status, o.Response.Verdict.Action = payment.StatusApproved, payment.ActionApprove
		o.Response.ApprovalCode = payment.ApprovalCode{'1', '2', '3', '4', '5', '6'}
	case payment.EventDeclined:
		o.Status, o.Response.Verdict.Action = payment.StatusDeclined, payment.ActionDecline
	case payment.EventNeverSent:
		o.Status = payment.StatusNotSent
	case payment.EventVerified:
		o.Status, o.Response.Verdict.Action = payment.StatusApproved, payment.ActionApprove
	case payment.EventApprovalRefused:
		o.Status, o.Reversal, o.Response.Verdict.Action = payment.StatusDeclined, payment.ReversalPartial, payment.ActionApprovePartially
	default:
		o.Status, o.Cause, o.Reversal = payment.StatusUnknown, payment.CauseTimeout, payment.ReversalTimeout
	}
	return o
}

func late(i *payment.Intent, approves bool) *payment.Late {
	l := &payment.Late{ID: i.ID, Attempt: i.Attempt, Link: i.Link}
	l.Response.Verdict.Action = payment.ActionDecline
	if approves {
		l.Response.Verdict.Action = payment.ActionApprove
		l.Response.ApprovalCode = payment.ApprovalCode{'L', 'A', 'T', 'E', '0', '1'}
	}
	return l
}

func (b *bench) open(i *payment.Intent) payment.Opened {
	return b.do(KindOpen, AppendOpen(nil, i)).Opened
}

func (b *bench) settle(o *payment.Outcome) payment.Settled {
	return b.do(KindSettle, AppendSettle(nil, o)).Settled
}

func (b *bench) acknowledge(link payment.LinkName, seq uint64, v payment.AdviceVerdict) Result {
	return b.do(KindAcknowledge, AppendAcknowledge(nil, link, seq, &payment.Response{Code: payment.MakeResponseCode([]byte("00"))}, v))
}

// owed is everything that a link owes.
func (b *bench) owed(link payment.LinkName) []payment.Owed {
	return b.m.Due(link, 1<<62, 1<<20, nil)
}

// restart loads a new machine from the disk.
func (b *bench) restart() {
	b.t.Helper()
	b.m = New(b.disk)
	if err := b.m.Load(); err != nil {
		b.t.Fatal(err)
	}
	adopt(b.t, b.m, b.disk)
}

func adopt(t testing.TB, m *Machine, d *disk) {
	t.Helper()
	keys, err := ReadKeys(d, func() bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	m.AdoptKeys(keys)
}
