package switching_test

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"authswitch/card"
	"authswitch/iso8583"
	"authswitch/iso8583/dialects"
	"authswitch/payment"
	"authswitch/routing"
	switching "authswitch/switch"
)

// TestAuthorize has one line per way through the straight line: what the wire
// does, which commits follow, what is told.
func TestAuthorize(t *testing.T) {
	timeout := fmt.Errorf("%w: %w", payment.ErrUnknownOutcome, payment.ErrTimeout)
	lost := fmt.Errorf("%w: %w", payment.ErrUnknownOutcome, payment.ErrConnectionLost)
	garbage := fmt.Errorf("%w: %w", payment.ErrUnknownOutcome, payment.ErrUnparsable)
	rejected := fmt.Errorf("0620: %w", errors.Join(payment.ErrRejected, payment.ErrUnknownOutcome))
	for _, c := range []struct {
		name   string
		a, b   []wire
		calls  string
		status payment.Status
		cause  payment.Cause
		code   string
		refuse payment.RefusalKind
	}{
		{"approved", []wire{{code: "00"}}, nil, "open close", payment.StatusApproved, 0, "00", 0},
		{"declined", []wire{{code: "51"}}, nil, "open close", payment.StatusDeclined, 0, "51", 0},
		{"declined for good: no other route", []wire{{code: "05"}}, nil, "open close", payment.StatusDeclined, 0, "05", 0},
		{"issuer unavailable: the other route approves", []wire{{code: "91"}}, []wire{{code: "00"}}, "open next close", payment.StatusApproved, 0, "00", 0},
		{"issuer unavailable on both", []wire{{code: "91"}}, []wire{{code: "91"}}, "open next close", payment.StatusDeclined, 0, "91", 0},
		{"never written: the other route approves", []wire{{err: payment.ErrNotSent}}, []wire{{code: "00"}}, "open next close", payment.StatusApproved, 0, "00", 0},
		{"never written on both", []wire{{err: payment.ErrNotSent}}, []wire{{err: payment.ErrNotSent}}, "open next close", 0, 0, "", payment.RefusedNoRoute},
		{"timeout", []wire{{err: timeout}}, nil, "open reverse", payment.StatusUnknown, payment.CauseTimeout, "", 0},
		{"link lost: never another route", []wire{{err: lost}}, []wire{{code: "00"}}, "open reverse", payment.StatusUnknown, payment.CauseLinkLost, "", 0},
		{"an answer that cannot be read", []wire{{err: garbage}}, nil, "open reverse", payment.StatusUnknown, payment.CauseUnparsable, "", 0},
		{"rejected", []wire{{err: rejected}}, nil, "open reverse", payment.StatusUnknown, payment.CauseRejected, "", 0},
		{"answered too late", []wire{{code: "68"}}, nil, "open reverse", payment.StatusUnknown, payment.CauseTooLate, "68", 0},
		{"a code nobody knows", []wire{{code: "ZZ"}}, nil, "open reverse", payment.StatusUnknown, payment.CauseUnparsable, "ZZ", 0},
		{"another amount approved", []wire{{code: "00", amount: "000000002000"}}, nil, "open reverse", payment.StatusUnknown, payment.CauseMismatch, "00", 0},
		{"a part that nobody can take", []wire{{code: "10", amount: "000000000400"}}, nil, "open reverse", payment.StatusDeclined, 0, "10", 0},
		{"approved against an identity document nobody saw", []wire{{code: "08"}}, nil, "open reverse", payment.StatusDeclined, 0, "08", 0},
		{"another contract might do, and there is none", []wire{{code: "03"}}, []wire{{code: "00"}}, "open close", payment.StatusDeclined, 0, "03", 0},
		{"a part larger than the whole", []wire{{code: "10", amount: "000000004000"}}, nil, "open reverse", payment.StatusUnknown, payment.CauseMismatch, "10", 0},
		{"first link full", []wire{{reserve: payment.ErrBusy}}, []wire{{code: "00"}}, "open close", payment.StatusApproved, 0, "00", 0},
		{"both links full", []wire{{reserve: payment.ErrBusy}}, []wire{{reserve: payment.ErrBusy}}, "", 0, 0, "", payment.RefusedOverloaded},
		{"both links down", []wire{{reserve: payment.ErrUnavailable}}, []wire{{reserve: payment.ErrUnavailable}}, "", 0, 0, "", payment.RefusedNoRoute},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, map[payment.LinkName][]wire{"a": c.a, "b": c.b})
			var out payment.Payment
			err := r.Authorize(request(t), &out)
			check(t, r, err, c.refuse)
			if got := strings.Join(r.journal.calls, " "); got != c.calls {
				t.Errorf("commits: %q, want %q", got, c.calls)
			}
			if c.refuse != 0 {
				return
			}
			if out.Outcome.Status != c.status || out.Outcome.Cause != c.cause || out.Outcome.Response.Code.String() != c.code {
				t.Errorf("told %s %s %q, want %s %s %q", out.Outcome.Status, out.Outcome.Cause, out.Outcome.Response.Code, c.status, c.cause, c.code)
			}
			if owed := out.Outcome.Reversal != payment.NoReversal; owed != strings.HasSuffix(c.calls, "reverse") {
				t.Errorf("reversal owed: %v", owed)
			}
		})
	}
}

// check holds what must hold on every way out: the right refusal and no place
// left behind.
func check(t *testing.T, r *rig, err error, want payment.RefusalKind) {
	t.Helper()
	var refusal *payment.Refusal
	switch {
	case want == 0 && err != nil:
		t.Fatal(err)
	case want != 0 && (!errors.As(err, &refusal) || refusal.Kind != want):
		t.Fatalf("refused with %v, want %s", err, want)
	}
	if r.links.held != 0 {
		t.Errorf("%d places were not given back", r.links.held)
	}
}

// A partial approval is taken where the merchant can.
func TestPartialApprovalTaken(t *testing.T) {
	r := newRig(t, map[payment.LinkName][]wire{"a": {{code: "10", amount: "000000000400"}}})
	a := request(t)
	a.AcceptsPartial = true
	var out payment.Payment
	check(t, r, r.Authorize(a, &out), 0)
	if out.Outcome.Status != payment.StatusPartiallyApproved || out.Outcome.Amount.Value != 400 {
		t.Errorf("%s of %d", out.Outcome.Status, out.Outcome.Amount.Value)
	}
}

// Whatever the journal cannot say is told as not final, and nothing is sent on
// an intent that is not known to be durable.
func TestJournalFails(t *testing.T) {
	for _, c := range []struct {
		fails string
		a     []wire
		sent  int
	}{
		{"open", []wire{{code: "00"}}, 0},
		{"close", []wire{{code: "00"}}, 1},
		{"reverse", []wire{{err: payment.ErrUnknownOutcome}}, 1},
		{"next", []wire{{code: "91"}}, 1},
	} {
		t.Run(c.fails, func(t *testing.T) {
			r := newRig(t, map[payment.LinkName][]wire{"a": c.a})
			r.journal.err[c.fails] = errBroken
			var out payment.Payment
			check(t, r, r.Authorize(request(t), &out), payment.RefusedPending)
			if r.links.sent != c.sent {
				t.Errorf("%d messages left, want %d", r.links.sent, c.sent)
			}
		})
	}
}

// What stands in the journal is told, whatever the wire said.
func TestJournalDecides(t *testing.T) {
	r := newRig(t, map[payment.LinkName][]wire{"a": {{code: "00"}}})
	r.journal.stored = &payment.Settled{
		State:   payment.StateReversing,
		Outcome: payment.Outcome{Event: payment.EventCancelled, Status: payment.StatusCancelled, Reversal: payment.ReversalCustomer},
	}
	var out payment.Payment
	check(t, r, r.Authorize(request(t), &out), 0)
	if out.Outcome.Status != payment.StatusCancelled || out.State != payment.StateReversing {
		t.Errorf("told %s, %s", out.Outcome.Status, out.State)
	}
}

// Another request holds the key.
func TestSameKey(t *testing.T) {
	decided := payment.Payment{
		Intent: payment.Intent{ID: payment.ID{1}, Fingerprint: [32]byte{2}}, State: payment.StateApproved,
		Outcome: payment.Outcome{Status: payment.StatusApproved},
	}
	open := decided
	open.State, open.Outcome = payment.StateOpen, payment.Outcome{}
	freed := decided
	freed.State, freed.Outcome = payment.StateNotSent, payment.Outcome{Status: payment.StatusNotSent}
	for _, c := range []struct {
		name    string
		verdict payment.OpenVerdict
		known   *payment.Payment
		await   error
		refuse  payment.RefusalKind
	}{
		{"decided", payment.OpenDecided, &decided, nil, 0},
		{"running, then decided", payment.OpenRunning, &decided, nil, 0},
		{"running past our deadline", payment.OpenRunning, &open, payment.ErrPending, payment.RefusedRunning},
		{"running, ended unsent", payment.OpenRunning, &freed, nil, payment.RefusedNoRoute},
		{"another body", payment.OpenConflict, &decided, nil, payment.RefusedKeyConflict},
		{"reversed before it came", payment.OpenBarred, nil, nil, payment.RefusedBarred},
		{"our session is over", payment.OpenSessionEnded, nil, nil, payment.RefusedOverloaded},
		{"decided, record unreadable", payment.OpenDecided, nil, nil, payment.RefusedPending},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, nil)
			r.journal.verdict, r.journal.other = c.verdict, payment.ID{1}
			r.records.known, r.records.await = c.known, c.await
			var out payment.Payment
			check(t, r, r.Authorize(request(t), &out), c.refuse)
			if r.links.sent != 0 {
				t.Error("a repeat was sent")
			}
			if c.refuse == 0 && out.Outcome.Status != payment.StatusApproved {
				t.Errorf("told %s", out.Outcome.Status)
			}
		})
	}
}

// A key that was answered is answered again while every link is down.
func TestSameKeyWithoutLinks(t *testing.T) {
	down := []wire{{reserve: payment.ErrUnavailable}}
	r := newRig(t, map[payment.LinkName][]wire{"a": down, "b": down})
	r.records.known = &payment.Payment{
		Intent: payment.Intent{ID: payment.ID{1}, Fingerprint: [32]byte{2}}, State: payment.StateDeclined,
		Outcome: payment.Outcome{Status: payment.StatusDeclined},
	}
	var out payment.Payment
	check(t, r, r.Authorize(request(t), &out), 0)
	if out.Outcome.Status != payment.StatusDeclined {
		t.Errorf("told %s", out.Outcome.Status)
	}
	r.records.known.Intent.Fingerprint = [32]byte{3}
	check(t, r, r.Authorize(request(t), &out), payment.RefusedKeyConflict)
}

// fakeCards has one stored card.
type fakeCards struct{ k payment.StoredCard }

func (f fakeCards) StoredCard(payment.ID) (payment.StoredCard, error) { return f.k, nil }

func (f fakeCards) ChangeCard(*payment.CardChange) (payment.StoredCard, error) { return f.k, nil }

// A stored card that was blocked, or deleted, after its payment was opened does
// not take the answer away: whoever did not hear it would pay again.
func TestSameKeyAfterItsCard(t *testing.T) {
	token := payment.ID{9}
	for status, code := range map[payment.CardStatus]string{payment.CardBlocked: "card_blocked", payment.CardDeleted: "unknown_token"} {
		r := newRig(t, nil)
		r.Cards = fakeCards{payment.StoredCard{Token: token, Merchant: "m", Status: status}}
		ask := func() (out payment.Payment, err error) {
			a := request(t)
			a.Card = card.Card{Token: card.Token(token.Append(nil, payment.CardPrefix))}
			return out, r.Authorize(a, &out)
		}
		refused := func(when string) {
			t.Helper()
			_, err := ask()
			if x, is := errors.AsType[*payment.Refusal](err); !is || x.Code != code {
				t.Errorf("%s, %s: %v", code, when, err)
			}
		}
		refused("a new key")
		r.records.known = &payment.Payment{
			Intent: payment.Intent{ID: payment.ID{1}, Fingerprint: [32]byte{2}, Token: token}, State: payment.StateApproved,
			Outcome: payment.Outcome{Status: payment.StatusApproved},
		}
		if out, err := ask(); err != nil || out.Outcome.Status != payment.StatusApproved {
			t.Errorf("%s: told %s, %v", code, out.Outcome.Status, err)
		}
		r.records.known.Intent.Token = payment.ID{8}
		refused("a key of another card's")
		r.records.known.Intent.Token, r.records.known.State = token, payment.StateNotSent
		refused("a key that was given back")
	}
}

// Nor does it take the answer to a refund without a payment away, and no more
// does a contract that allows none any more.
func TestSameRefundAfterItsCard(t *testing.T) {
	token, stored, typed := payment.ID{9}, request(t), request(t)
	stored.Card = card.Card{Token: card.Token(token.Append(nil, payment.CardPrefix))}
	for _, c := range []struct {
		a      *payment.Authorization
		status payment.CardStatus
		code   string
	}{
		{stored, payment.CardBlocked, "card_blocked"},
		{stored, payment.CardDeleted, "unknown_token"},
		{typed, payment.CardActive, "unreferenced_refund_not_allowed"},
	} {
		r := newRig(t, nil)
		r.Cards = fakeCards{payment.StoredCard{Token: token, Merchant: "m", Status: c.status}}
		ask := func() (payment.Operation, error) {
			a := *c.a
			return r.Credit(&a, &payment.Operation{Kind: payment.OpRefund}, startOfTest)
		}
		refused := func(when, code string) {
			t.Helper()
			_, err := ask()
			if x, is := errors.AsType[*payment.Refusal](err); !is || x.Code != code {
				t.Errorf("%s, %s: %v", c.code, when, err)
			}
		}
		refused("a new key", c.code)
		r.refunds.known = &payment.Operation{ID: payment.ID{1}, Kind: payment.OpRefund, State: payment.OperationDone}
		refused("the key of a capture's refund", c.code)
		known := &payment.Payment{Intent: payment.Intent{ID: payment.ID{1}, Fingerprint: [32]byte{2}}, State: payment.StateRefundOnly}
		if c.a == stored {
			known.Intent.Token = payment.ID{8}
			r.records.known = known
			refused("the key of another card's", c.code)
			known.Intent.Token = token
		}
		r.records.known = known
		if o, err := ask(); err != nil || o.ID != known.Intent.ID || o.State != payment.OperationDone {
			t.Errorf("%s: told %s, %v", c.code, o.State, err)
		}
		known.Intent.Fingerprint[0]++
		refused("the key of something else", "idempotency_key_reused")
	}
}

// A refund without a payment that one link cannot carry and another one has no
// room for may be asked for again: it is not refused for good.
func TestCreditIsAskedAgain(t *testing.T) {
	for _, reason := range []error{payment.ErrBusy, payment.ErrUnavailable} {
		r := newRig(t, map[payment.LinkName][]wire{"a": {{reserve: reason}}})
		without, err := iso8583.Load(withoutRefunds(t), "ascii87-without")
		if err != nil {
			t.Fatal(err)
		}
		table, err := routing.NewTable(routing.DefaultRanges(), []routing.Contract{{
			Merchant: "m", Scheme: payment.Visa, Links: []payment.LinkName{"a", "b"}, FreeRefunds: true, TimeZone: time.UTC,
			Terms: payment.Terms{Terminal: "TERM0001", Acceptor: "SHOP00000000001", AcceptorName: "SHOP/PARIS/FR", MCC: "5999", Acquirer: "497010", Country: "250"},
		}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		d := r.Deps
		d.Table, d.Registerer = new(atomic.Pointer[routing.Table]), prometheus.NewRegistry()
		d.Table.Store(table)
		d.Lanes = []switching.Lane{d.Lanes[0], {Name: "b", Dialect: without}}
		s, err := switching.New(d)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Credit(request(t), &payment.Operation{Kind: payment.OpRefund}, startOfTest)
		if x, is := errors.AsType[*payment.Refusal](err); !is || x.Kind == payment.RefusedInvalid {
			t.Errorf("%v: %v", reason, err)
		}
	}
}

// withoutRefunds is a dialect that has no message for a refund.
func withoutRefunds(t *testing.T) fs.FS {
	t.Helper()
	files := fstest.MapFS{"ascii87-without.yaml": {Data: []byte("name: ascii87-without\nextends: ascii87\nstatus: complete for tests\nabout: no refunds\npayments: {refund: null}\n")}}
	for _, name := range []string{"ascii87.yaml", "base-87.yaml"} {
		data, err := fs.ReadFile(dialects.FS, name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = &fstest.MapFile{Data: data}
	}
	return files
}

// Each attempt of a payment has its own STAN; the RRN stays.
func TestNumbersOfAttempts(t *testing.T) {
	r := newRig(t, map[payment.LinkName][]wire{"a": {{code: "91"}}, "b": {{code: "00"}}})
	var out payment.Payment
	check(t, r, r.Authorize(request(t), &out), 0)
	if out.Intent.MTI != 0x0100 {
		t.Errorf("message type %04x: a reversal names its original by it", out.Intent.MTI)
	}
	one, two := r.journal.intents[0], r.journal.intents[1]
	if one.Attempt != 1 || two.Attempt != 2 || one.Link != "a" || two.Link != "b" || one.STAN == two.STAN || one.RRN != two.RRN || one.ID != two.ID {
		t.Errorf("attempts: %d on %s stan %s rrn %s, %d on %s stan %s rrn %s",
			one.Attempt, one.Link, one.STAN, one.RRN, two.Attempt, two.Link, two.STAN, two.RRN)
	}
}

// A clock that is set back between two attempts does not make the second one's
// time be over before it is sent: the journal goes by how far an attempt's
// moments are from the request's arrival.
func TestClockBackBetweenAttempts(t *testing.T) {
	r := newRig(t, map[payment.LinkName][]wire{"a": {{code: "91"}}, "b": {{code: "00"}}})
	r.links.answer = func(l *fakeLinks, w wire, i *payment.Intent, m *iso8583.Message) {
		if i.Attempt == 1 {
			r.clock.Add(-int64(24 * time.Hour))
		}
		answerASCII87(l, w, i, m)
	}
	var out payment.Payment
	check(t, r, r.Authorize(request(t), &out), 0)
	if len(r.journal.intents) != 2 {
		t.Fatalf("%d attempts", len(r.journal.intents))
	}
	for _, i := range r.journal.intents {
		if i.AnswerBy-i.ReceivedAt < payment.Instant(3*time.Second) || i.LifeOver-i.ReceivedAt < payment.Instant(180*time.Second) {
			t.Errorf("attempt %d is answered within %s of its arrival, its life over after %s", i.Attempt, time.Duration(i.AnswerBy-i.ReceivedAt), time.Duration(i.LifeOver-i.ReceivedAt))
		}
	}
}

// A clock that is set forward while a request waits does not lengthen the life of
// what it opens by as much: "not found" would be believed hours later.
func TestClockForwardBeforeAnAttempt(t *testing.T) {
	r := newRig(t, map[payment.LinkName][]wire{"a": {{code: "00"}}})
	a := request(t)
	r.clock.Add(int64(2 * time.Hour))
	var out payment.Payment
	check(t, r, r.Authorize(a, &out), 0)
	for _, i := range r.journal.intents {
		if d := time.Duration(i.LifeOver - i.ReceivedAt); d > time.Hour || d < 180*time.Second {
			t.Errorf("its life is over %s after its arrival", d)
		}
	}
	if len(r.journal.intents) != 1 {
		t.Errorf("%d intents", len(r.journal.intents))
	}
}

// The whole path with store and link faked out stays within ten allocations.
func TestAuthorizeAllocations(t *testing.T) {
	r := newRig(t, nil)
	a := request(t)
	var out payment.Payment
	run := func() {
		r.journal.calls, r.journal.intents = r.journal.calls[:0], r.journal.intents[:0]
		a.ID = payment.ID{}
		if err := r.Authorize(a, &out); err != nil {
			t.Fatal(err)
		}
	}
	run()
	fakes := testing.AllocsPerRun(200, func() {
		r.links.answer(r.links, wire{code: "00"}, &out.Intent, r.scratch())
	})
	if got := testing.AllocsPerRun(200, run) - fakes; got > 10 {
		t.Errorf("%v allocations, 10 allowed", got)
	} else {
		t.Logf("%v allocations", got)
	}
}

func BenchmarkAuthorize(b *testing.B) {
	r := newRig(b, nil)
	a := request(b)
	var out payment.Payment
	b.ReportAllocs()
	for b.Loop() {
		r.journal.calls, r.journal.intents = r.journal.calls[:0], r.journal.intents[:0]
		a.ID = payment.ID{}
		if err := r.Authorize(a, &out); err != nil {
			b.Fatal(err)
		}
	}
}
