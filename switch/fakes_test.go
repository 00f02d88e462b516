package switching_test

import (
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"authswitch/card"
	"authswitch/iso8583"
	"authswitch/iso8583/dialects"
	"authswitch/payment"
	"authswitch/routing"
	switching "authswitch/switch"
)

// The neighbours of a Switch, faked: each says what happened to it, and each
// can be told to fail. None of them decides anything.

var errBroken = errors.New("broken on purpose")

// fakeJournal accepts what it is told and remembers the order of calls.
type fakeJournal struct {
	calls   []string
	verdict payment.OpenVerdict
	other   payment.ID
	err     map[string]error
	stored  *payment.Settled // what stands in the journal, whatever is proposed
	last    payment.Outcome
	intents []payment.Intent

	lateFails int // how many late answers are refused with err["late"] first
}

func (j *fakeJournal) Open(i *payment.Intent) (payment.Opened, error) {
	j.calls = append(j.calls, "open")
	j.intents = append(j.intents, *i)
	if err := j.err["open"]; err != nil {
		return payment.Opened{}, err
	}
	if j.verdict != payment.OpenNone {
		return payment.Opened{Verdict: j.verdict, ID: j.other}, nil
	}
	return payment.Opened{Verdict: payment.OpenNew, ID: i.ID}, nil
}

func (j *fakeJournal) Next(o *payment.Outcome, i *payment.Intent) (payment.Settled, error) {
	j.calls = append(j.calls, "next")
	j.intents = append(j.intents, *i)
	if j.stored != nil {
		return *j.stored, j.err["next"]
	}
	return payment.Settled{State: payment.StateOpen}, j.err["next"]
}

func (j *fakeJournal) Close(o *payment.Outcome) (payment.Settled, error) { return j.settle("close", o) }

func (j *fakeJournal) Reverse(o *payment.Outcome) (payment.Settled, error) {
	return j.settle("reverse", o)
}

func (j *fakeJournal) settle(name string, o *payment.Outcome) (payment.Settled, error) {
	j.calls = append(j.calls, name)
	j.last = *o
	if err := j.err[name]; err != nil {
		return payment.Settled{}, err
	}
	if j.stored != nil {
		return *j.stored, nil
	}
	state, ok := payment.Step(payment.StateOpen, o.Event)
	if !ok {
		panic("no such step: " + o.Event.String())
	}
	return payment.Settled{Outcome: *o, State: state}, nil
}

func (j *fakeJournal) Cancel(c *payment.Cancellation) (payment.Cancelled, error) {
	return payment.Cancelled{Found: true, ID: c.ID, State: payment.StateReversing}, j.err["cancel"]
}

func (j *fakeJournal) Late(*payment.Late) error {
	j.calls = append(j.calls, "late")
	if len(j.calls) > j.lateFails {
		return nil
	}
	return j.err["late"]
}

// fakeRecords has at most one earlier payment.
type fakeRecords struct {
	known *payment.Payment
	await error
}

func (r *fakeRecords) Payment(payment.ID) (payment.Payment, error) {
	if r.known == nil {
		return payment.Payment{}, payment.ErrNotFound
	}
	return *r.known, nil
}

func (r *fakeRecords) ByKey(payment.MerchantID, []byte) (payment.ID, error) {
	if r.known == nil {
		return payment.ID{}, payment.ErrNotFound
	}
	return r.known.Intent.ID, nil
}

func (r *fakeRecords) Await(payment.ID, payment.Instant) error { return r.await }

// fakeRefunds has at most one earlier refund, and takes no other.
type fakeRefunds struct{ known *payment.Operation }

func (r *fakeRefunds) Credit(*payment.Operation, *payment.Intent) (payment.Operated, error) {
	return payment.Operated{}, errBroken
}

func (r *fakeRefunds) Abandon(payment.ID) error { return errBroken }

func (r *fakeRefunds) RefundByKey(payment.MerchantID, []byte) (payment.ID, error) {
	if r.known == nil {
		return payment.ID{}, payment.ErrNotFound
	}
	return r.known.ID, nil
}

func (r *fakeRefunds) Operate(*payment.Operation) (payment.Operated, error) {
	return payment.Operated{}, errBroken
}

func (r *fakeRefunds) Operation(payment.ID) (payment.Operation, error) { return *r.known, nil }

func (r *fakeRefunds) AwaitOperation(payment.ID, payment.Instant) (payment.Operation, error) {
	return *r.known, nil
}

// wire is one exchange of a link, scripted: an answer, or an error.
type wire struct {
	reserve error
	err     error
	code    string
	amount  string // DE 4 of the answer; the request's when empty
}

// fakeLinks plays one wire per exchange, and counts places so that a leaked
// one is noticed.
type fakeLinks struct {
	t       testing.TB
	dialect *iso8583.Dialect
	script  map[payment.LinkName][]wire
	clock   *atomic.Int64
	held    int
	sent    int
	stan    payment.STAN
	build   iso8583.Builder
	frame   []byte
	answer  func(l *fakeLinks, w wire, i *payment.Intent, m *iso8583.Message)
}

func (l *fakeLinks) Reserve(s *payment.Slot, _ payment.ID, _ uint8) error {
	if script := l.script[s.Link]; len(script) > 0 && script[0].reserve != nil {
		return script[0].reserve
	}
	now := payment.Instant(l.clock.Load())
	l.stan++
	l.held++
	s.STAN, s.RRN, s.Transmitted = l.stan, payment.MakeRRN(now, uint64(l.stan)), payment.TransmittedAt(now)
	s.SendBy, s.AnswerBy, s.LifeOver = now+payment.Instant(time.Second), now+payment.Instant(3*time.Second), now+payment.Instant(180*time.Second)
	return nil
}

func (l *fakeLinks) Release(*payment.Slot) { l.held-- }

func (l *fakeLinks) Exchange(s *payment.Slot, i *payment.Intent, frame []byte, answer *iso8583.Message) error {
	l.held--
	l.sent++
	w := wire{code: "00"}
	if script := l.script[s.Link]; len(script) > 0 {
		w = script[0]
		if len(script) > 1 {
			l.script[s.Link] = script[1:]
		}
	}
	if w.err != nil {
		return w.err
	}
	l.answer(l, w, i, answer)
	return nil
}

// answerASCII87 packs an 0110 that answers the request.
func answerASCII87(l *fakeLinks, w wire, i *payment.Intent, m *iso8583.Message) {
	b := &l.build
	b.Start(0x0110)
	amount := w.amount
	if amount == "" {
		amount = "000000001000"
	}
	b.Set(3, []byte("000000"))
	b.Set(4, []byte(amount))
	b.Set(7, i.Transmitted.Append(nil))
	b.Set(11, i.STAN.Append(nil))
	b.Set(37, i.RRN[:])
	if w.code == "00" || w.code == "10" {
		b.Set(38, []byte("A1B2C3"))
	}
	b.Set(39, []byte(w.code))
	b.Set(49, []byte("978"))
	frame, err := l.dialect.Pack(l.frame[:0], b)
	if err != nil {
		l.t.Fatal(err)
	}
	l.frame = frame
	if err := l.dialect.Unpack(m, frame); err != nil {
		l.t.Fatal(err)
	}
}

// fakeSealer seals nothing and says so; it remembers what it was told to hold.
type fakeSealer struct{ held *[]payment.ID }

func (f fakeSealer) Hold(_ *card.Card, id payment.ID) {
	if f.held != nil {
		*f.held = append(*f.held, id)
	}
}

func (fakeSealer) Seal(dst []byte, _ *card.Card, _ payment.MerchantID, _ payment.ID) ([]byte, error) {
	return append(dst, "sealed"...), nil
}
func (fakeSealer) BlindIndex(*card.PAN) [32]byte { return [32]byte{1} }
func (fakeSealer) Fingerprint(*payment.Authorization, [32]byte) [32]byte {
	return [32]byte{2}
}

// bench is a Switch among fakes.
type rig struct {
	*switching.Switch
	journal *fakeJournal
	records *fakeRecords
	refunds *fakeRefunds
	links   *fakeLinks
	clock   *atomic.Int64
	sealed  []payment.ID // held for their reversal
}

const startOfTest = payment.Instant(1_795_500_000_000_000_000) // 2026-11-24

func newRig(t testing.TB, script map[payment.LinkName][]wire) *rig {
	t.Helper()
	dialect, err := iso8583.Load(dialects.FS, "ascii87")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{
		journal: &fakeJournal{err: map[string]error{}},
		records: &fakeRecords{},
		refunds: &fakeRefunds{},
		clock:   new(atomic.Int64),
	}
	r.clock.Store(int64(startOfTest))
	r.links = &fakeLinks{t: t, dialect: dialect, script: script, clock: r.clock, answer: answerASCII87}
	var table atomic.Pointer[routing.Table]
	table.Store(testTable(t))
	now := func() payment.Instant { return payment.Instant(r.clock.Load()) }
	minter, err := payment.NewMinter(now, zeroReader{})
	if err != nil {
		t.Fatal(err)
	}
	r.Switch, err = switching.New(switching.Deps{
		Journal: r.journal, Canceller: r.journal, Records: r.records, Operations: r.refunds, Moves: r.refunds, Exchanger: r.links, Sealer: fakeSealer{&r.sealed},
		Table: &table, Lanes: []switching.Lane{{Name: "a", Dialect: dialect}, {Name: "b", Dialect: dialect}},
		Node: "n1", Session: func() payment.Session { return 7 }, Now: now, Mint: minter.Mint,
		Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

type zeroReader struct{}

func (zeroReader) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func request(t testing.TB) *payment.Authorization {
	t.Helper()
	pan, err := card.ParsePAN([]byte("4111111111111111"))
	if err != nil {
		t.Fatal(err)
	}
	expiry, err := card.ParseExpiry([]byte("3012"))
	if err != nil {
		t.Fatal(err)
	}
	return &payment.Authorization{
		Gateway: "g", Merchant: "m", Key: []byte("key"), Reference: []byte("ORDER-42"),
		Amount: payment.Amount{Value: 1000, Currency: 978}, Channel: payment.Ecommerce,
		Card: card.Card{PAN: pan, Expiry: expiry}, ReceivedAt: startOfTest, Deadline: startOfTest + payment.Instant(8*time.Second),
	}
}
