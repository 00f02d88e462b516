package query

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"authswitch/payment"
)

// store is what a reader reads from, by hand.
type store struct {
	payments map[payment.ID]payment.Payment
	history  map[payment.ID][]payment.Entry
	ids      []payment.ID
	more     bool
	asked    int // the limit of the last List
	fail     error
	noRecord error
}

func (s *store) Payment(id payment.ID) (payment.Payment, error) {
	p, ok := s.payments[id]
	if !ok {
		return p, payment.ErrNotFound
	}
	return p, s.noRecord
}

func (s *store) StoredCard(payment.ID) (payment.StoredCard, error) {
	return payment.StoredCard{}, payment.ErrNotFound
}

func (s *store) Operation(payment.ID) (payment.Operation, error) {
	return payment.Operation{}, payment.ErrNotFound
}

func (s *store) History(id payment.ID) ([]payment.Entry, error) { return s.history[id], nil }

func (s *store) ByKey(payment.MerchantID, []byte) (payment.ID, error) {
	if len(s.ids) == 0 {
		return payment.ID{}, s.fail
	}
	return s.ids[0], s.fail
}

func (s *store) ByReference(payment.MerchantID, []byte) ([]payment.ID, error) { return s.ids, s.fail }

func (s *store) List(_ payment.MerchantID, _ payment.ID, limit int) ([]payment.ID, bool, error) {
	s.asked = limit
	return s.ids, s.more, s.fail
}

func id(n byte) payment.ID { return payment.ID{15: n} }

func newStore(ids ...payment.ID) *store {
	s := &store{payments: map[payment.ID]payment.Payment{}, history: map[payment.ID][]payment.Entry{}, ids: ids}
	for _, i := range ids {
		s.payments[i] = payment.Payment{Intent: payment.Intent{ID: i}}
	}
	return s
}

func ids(p Page) []payment.ID {
	var all []payment.ID
	for _, item := range p.Items {
		all = append(all, item.Payment.Intent.ID)
	}
	return all
}

func TestPages(t *testing.T) {
	s := newStore(id(1), id(2), id(3))
	r := New(s, s)
	delete(s.payments, id(2)) // the index is ahead of the record
	s.more = true
	p, err := r.List("m", payment.ID{}, 5000)
	if err != nil || !p.More || p.Next != id(3) || s.asked != MaxPage {
		t.Errorf("list: %+v %v, asked for %d", p, err, s.asked)
	}
	if diff := cmp.Diff([]payment.ID{id(1), id(3)}, ids(p)); diff != "" {
		t.Error(diff)
	}
	p, err = r.ByReference("m", nil)
	if err != nil || p.More || len(p.Items) != 2 {
		t.Errorf("by reference: %+v %v", p, err)
	}
	p, err = r.ByKey("m", nil)
	if err != nil || len(p.Items) != 1 || p.Items[0].Payment.Intent.ID != id(1) {
		t.Errorf("by key: %+v %v", p, err)
	}
	s.ids = nil
	for name, find := range map[string]func() (Page, error){
		"key": func() (Page, error) { return r.ByKey("m", nil) }, "reference": func() (Page, error) { return r.ByReference("m", nil) },
		"list": func() (Page, error) { return r.List("m", payment.ID{}, 1) },
	} {
		s.fail = nil
		if p, err := find(); err != nil || p.More || len(p.Items) != 0 {
			t.Errorf("nothing by %s: %+v %v", name, p, err)
		}
		s.fail = payment.ErrNotFound
		if p, err := find(); name != "list" && (err != nil || len(p.Items) != 0) {
			t.Errorf("not found by %s: %+v %v", name, p, err)
		}
		s.fail = payment.ErrUnavailable
		if _, err := find(); !errors.Is(err, payment.ErrUnavailable) {
			t.Errorf("unavailable by %s: %v", name, err)
		}
	}
}

func TestErrors(t *testing.T) {
	s := newStore(id(1))
	r := New(s, s)
	if _, err := r.Payment(id(9)); !errors.Is(err, payment.ErrNotFound) {
		t.Errorf("payment: %v", err)
	}
	if _, err := r.Item(id(9)); !errors.Is(err, payment.ErrNotFound) {
		t.Errorf("item: %v", err)
	}
	s.noRecord = payment.ErrUnavailable
	if _, err := r.List("m", payment.ID{}, 1); !errors.Is(err, payment.ErrUnavailable) {
		t.Errorf("list: %v", err)
	}
}

// TestItem folds histories, one line of it per line here.
func TestItem(t *testing.T) {
	intent := func(n uint8, link payment.LinkName) payment.Entry {
		return payment.Entry{At: 7, Kind: payment.EntryIntent, Intent: &payment.Intent{Attempt: n, Link: link, STAN: payment.STAN(n), MTI: 0x0100}}
	}
	outcome := func(n uint8, s payment.Status, e payment.Event) payment.Entry {
		return payment.Entry{Kind: payment.EntryOutcome, Event: e, Outcome: &payment.Outcome{Attempt: n, Status: s}}
	}
	owed := func(k payment.EntryKind, e payment.Event, o payment.Owed) payment.Entry {
		return payment.Entry{Kind: k, Event: e, Owed: &o}
	}
	attempt := func(n uint8, link payment.LinkName, result string) Attempt {
		return Attempt{Number: n, Link: link, STAN: payment.STAN(n), MTI: 0x0100, Result: result}
	}
	first := payment.Owed{Link: "a", Seq: 1}
	sent := payment.Owed{Link: "a", Seq: 1, STAN: 5, Transmitted: 1, Tries: 1}
	again := payment.Owed{Link: "a", Seq: 1, STAN: 5, Transmitted: 2, Tries: 2}
	exception := payment.Owed{Link: "a", Seq: 1, STAN: 5, Transmitted: 2, Tries: 2, Exception: true}
	second := payment.Owed{Link: "a", Seq: 2}
	const reversalOwed, reversalSent, ended = payment.EntryReversalOwed, payment.EntryReversalSent, payment.EntryReversalEnded
	for _, c := range []struct {
		name      string
		history   []payment.Entry
		attempts  []Attempt
		reversals []Reversal
	}{
		{"open", []payment.Entry{intent(1, "a")}, []Attempt{attempt(1, "a", "open")}, nil},
		{"approved", []payment.Entry{intent(1, "a"), outcome(1, payment.StatusApproved, 0)}, []Attempt{attempt(1, "a", "approved")}, nil},
		{"next", []payment.Entry{intent(1, "a"), outcome(1, payment.StatusNone, payment.EventNextAttempt), intent(2, "b"), outcome(2, payment.StatusDeclined, 0)}, []Attempt{attempt(1, "a", "next_attempt"), attempt(2, "b", "declined")}, nil},
		{"owed", []payment.Entry{intent(1, "a"), owed(reversalOwed, 0, first)}, []Attempt{attempt(1, "a", "open")}, []Reversal{{"a", 1, 0, 0, 0, "owed"}}},
		{"sent", []payment.Entry{owed(reversalOwed, 0, first), owed(reversalSent, 0, sent)}, nil, []Reversal{{"a", 1, 5, 1, 1, "sent"}}},
		{"acknowledged", []payment.Entry{owed(reversalOwed, 0, first), owed(reversalSent, 0, sent), owed(reversalSent, 0, again), owed(ended, payment.EventReversalAcknowledged, first)}, nil, []Reversal{{"a", 1, 5, 2, 2, "acknowledged"}}},
		{"not found", []payment.Entry{owed(reversalSent, 0, sent), owed(ended, payment.EventOriginalNotFound, sent)}, nil, []Reversal{{"a", 1, 5, 1, 1, "not_found"}}},
		{"exception", []payment.Entry{owed(reversalSent, 0, again), owed(ended, payment.EventReversalExceptional, again)}, nil, []Reversal{{"a", 1, 5, 2, 2, "exception"}}},
		{"exception, owed", []payment.Entry{owed(reversalSent, 0, again), owed(reversalOwed, payment.EventReversalExceptional, exception)}, nil, []Reversal{{"a", 1, 5, 2, 2, "exception"}}},
		{"written off", []payment.Entry{owed(payment.EntryWrittenOff, payment.EventWrittenOff, again)}, nil, []Reversal{{"a", 1, 5, 2, 2, "written_off"}}},
		{"re-armed", []payment.Entry{owed(ended, payment.EventOriginalNotFound, sent), owed(reversalOwed, payment.EventLateApproval, second)}, nil, []Reversal{{"a", 1, 5, 1, 1, "not_found"}, {"a", 2, 0, 0, 0, "owed"}}},
		{"lines without their part", []payment.Entry{{Kind: payment.EntryIntent}, {Kind: payment.EntryOutcome}, {Kind: ended}, {Kind: payment.EntryLateAnswer}, outcome(3, payment.StatusApproved, 0)}, nil, nil},
	} {
		s := newStore(id(1))
		s.history[id(1)] = c.history
		item, err := New(s, s).Item(id(1))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.attempts, item.Attempts); diff != "" {
			t.Errorf("%s: attempts (-want +got)\n%s", c.name, diff)
		}
		if diff := cmp.Diff(c.reversals, item.Reversals); diff != "" {
			t.Errorf("%s: reversals (-want +got)\n%s", c.name, diff)
		}
	}
}
