package clearing

import (
	"testing"

	"authswitch/payment"
)

// acquirer agrees to totals, or does not.
type acquirer struct {
	book   *book
	asked  []payment.Totals
	answer payment.Agreed
}

func (a *acquirer) Agree(x *payment.Totals) (payment.Agreed, error) {
	a.asked = append(a.asked, *x)
	return a.answer, nil
}

// outbox takes lines of a batch, a few at a time.
type outbox struct{ owing, left, asked int }

func (o *outbox) Upload(payment.LinkName, uint64) (int, error) {
	o.asked++
	n := min(o.left, 2)
	o.left -= n
	return n, nil
}

func (o *outbox) OwingOperations(payment.LinkName) int { return o.owing }

// TestUploadRound: a closed batch's lines go into the outbox while there is room;
// once they have their end, each terminal's totals in each currency are sent, from
// those that are not answered yet, and an unanswered one is not passed over.
func TestUploadRound(t *testing.T) {
	b := filled()
	b.lines[1] = append(b.lines[1], payment.ClearingLine{Line: 5, Operation: payment.ID{1, 9}}, payment.ClearingLine{Line: 6, Operation: payment.ID{1, 8}})
	b.ops[payment.ID{1, 9}] = payment.Operation{Kind: payment.OpCapture, Payment: payment.ID{2}, Amount: payment.Amount{Value: 7, Currency: 840}, State: payment.OperationDone}
	b.ops[payment.ID{1, 8}] = payment.Operation{Kind: payment.OpCapture, Payment: payment.ID{2}, Amount: payment.Amount{Value: 9, Currency: 840}, State: payment.OperationDeclined}
	for id, o := range b.ops {
		if o.State == payment.OperationNone {
			o.State = payment.OperationDone
			b.ops[id] = o
		}
	}
	batch := payment.ClearingBatch{Link: "a", Means: payment.MeansUpload, Number: 1, State: payment.ClearingClosed, Lines: 5, Next: 7}
	r := runner(t, b, t.TempDir())
	if err := r.upload(t.Context(), &batch); err == nil {
		t.Error("a batch that nobody here can send")
	}
	o, a := &outbox{left: 5}, &acquirer{book: b}
	r.deps.Uploads = o
	r.Agrees("a", a)
	o.owing = uploadWindow
	if err := r.upload(t.Context(), &batch); err != nil || o.asked != 0 {
		t.Errorf("into a full outbox: %v, %d", err, o.asked)
	}
	o.owing = 0
	if err := r.upload(t.Context(), &batch); err != nil || o.left != 0 || len(a.asked) != 0 {
		t.Errorf("%v, %d left, %d totals", err, o.left, len(a.asked))
	}

	batch.State, batch.Upload.Due = payment.ClearingUploaded, now+1
	if err := r.upload(t.Context(), &batch); err != nil || len(a.asked) != 0 {
		t.Errorf("before they are due: %v, %d", err, len(a.asked))
	}
	batch.Upload.Due, batch.Upload.Tries, batch.Upload.STAN = now, 2, 77
	if err := r.upload(t.Context(), &batch); err != nil || len(a.asked) != 1 {
		t.Fatalf("unanswered: %v, %d", err, len(a.asked))
	}
	first := a.asked[0]
	if first.Currency != 978 || first.Captures != 2 || first.Captured != 300 || first.Refunds != 1 || first.Refunded != 300 || first.Tries != 2 || first.STAN != 77 || first.Groups != 2 || first.Terms.Terminal != "TERM0001" {
		t.Errorf("%+v", first)
	}
	var differ []payment.LinkName
	r.deps.Differ = func(link payment.LinkName) { differ = append(differ, link) }
	a.answer = payment.Agreed{Answered: true} // and they differ: the next are sent all the same
	if err := r.upload(t.Context(), &batch); err != nil || len(a.asked) != 3 {
		t.Fatalf("answered: %v, %d", err, len(a.asked))
	}
	if len(differ) != 2 || differ[0] != "a" {
		t.Errorf("told of %v", differ)
	}
	if second := a.asked[2]; second.Currency != 840 || second.Group != 1 || second.Captures != 1 || second.Captured != 7 || second.Tries != 0 || second.STAN != 0 {
		t.Errorf("without the line that a person wrote off: %+v", second)
	}
	batch.Upload.Group = 1
	if err := r.upload(t.Context(), &batch); err != nil || len(a.asked) != 4 || a.asked[3].Group != 1 {
		t.Errorf("from those that are not answered: %v, %+v", err, a.asked[3])
	}
}
