package clearing

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"authswitch/payment"
)

// book is the journal's part: batches of one link.
type book struct {
	open    payment.ClearingBatch
	last    payment.Instant
	closed  []payment.ClearingBatch
	lines   map[uint64][]payment.ClearingLine
	ops     map[payment.ID]payment.Operation
	filed   []payment.Filed
	failing error // of Filed
}

func (b *book) OpenClearing(payment.OperationMeans, payment.LinkName) (payment.ClearingBatch, payment.Instant, error) {
	return b.open, b.last, nil
}

func (b *book) PendingClearing(int) ([]payment.ClearingBatch, error) {
	var pending []payment.ClearingBatch
	for _, x := range b.closed {
		if x.State != payment.ClearingSettled {
			pending = append(pending, x)
		}
	}
	return pending, nil
}

func (b *book) ClearingLines(_ payment.OperationMeans, _ payment.LinkName, number uint64, after uint32, limit int) (lines []payment.ClearingLine, err error) {
	for _, l := range b.lines[number] {
		if l.Line > after && len(lines) < limit {
			lines = append(lines, l)
		}
	}
	return lines, nil
}

func (b *book) Leads() bool { return true }

func (b *book) CutOver(x *payment.DayEnd) (bool, error) {
	if x.Number != b.open.Number || b.last > 0 && now < b.last+x.Apart {
		return false, nil
	}
	b.last = now
	if b.open.Lines > 0 {
		c := b.open
		c.State, c.ClosedAt, c.ClosedBy = payment.ClearingClosed, now, x.By
		b.closed = append(b.closed, c)
	}
	b.open = payment.ClearingBatch{Link: "a", Number: x.Number + 1, State: payment.ClearingOpen, Next: 1}
	return true, nil
}

func (b *book) Filed(x *payment.Filed) error {
	if b.failing != nil {
		return b.failing
	}
	b.filed = append(b.filed, *x)
	b.closed[x.Number-1].State = payment.ClearingWritten
	return nil
}

func (b *book) SettleFile(_ payment.LinkName, number uint64) (int, error) {
	b.closed[number-1].State = payment.ClearingSettled
	return 0, nil
}

func (b *book) Payment(id payment.ID) (payment.Payment, error) {
	p := payment.Payment{Intent: payment.Intent{
		ID: id, Merchant: "parcels", Reference: []byte("ORDER, \"42\""), Scheme: payment.Visa, STAN: 17, RRN: payment.MakeRRN(now, 17), Transmitted: 1123040000,
		Local: payment.LocalTimeAt(now, time.UTC), BIN: []byte("41111111"), Last4: [4]byte{'1', '1', '1', '1'},
		Terms: payment.Terms{Terminal: "TERM0001", Acceptor: "SHOP00000000001", MCC: "5999", Acquirer: "497010"},
	}}
	copy(p.Outcome.Response.ApprovalCode[:], "A1B2C3")
	return p, nil
}

func (b *book) Operation(id payment.ID) (payment.Operation, error) {
	o, ok := b.ops[id]
	if !ok {
		return o, payment.ErrNotFound
	}
	return o, nil
}

// now is the tests' only moment: 23 November 2023, 04:00:00 UTC.
var now = payment.Instant(time.Date(2023, 11, 23, 4, 0, 0, 0, time.UTC).UnixNano())

func filled() *book {
	b := &book{open: payment.ClearingBatch{Link: "a", Number: 1, State: payment.ClearingOpen, Lines: 3, Next: 5}, lines: map[uint64][]payment.ClearingLine{}, ops: map[payment.ID]payment.Operation{}}
	for n, k := range []payment.OperationKind{payment.OpCapture, payment.OpCapture, payment.OpRefund} {
		id := payment.ID{1, byte(n)}
		line := uint32(n + 1)
		if n == 2 {
			line = 4 // the third was withdrawn
		}
		b.lines[1] = append(b.lines[1], payment.ClearingLine{Line: line, Operation: id})
		b.ops[id] = payment.Operation{ID: id, Kind: k, Payment: payment.ID{2}, Parent: payment.ID{3}, Amount: payment.Amount{Value: int64(100 * (n + 1)), Currency: 978}, CreatedAt: now}
	}
	return b
}

func runner(t *testing.T, b *book, dir string) *Runner {
	t.Helper()
	return New(0, Deps{
		Batches: b, Decider: b, Records: b, Links: []Link{{Name: "a", At: 3 * time.Hour}}, Dir: dir, Node: "n1", Now: func() payment.Instant { return now }, Log: slog.New(slog.DiscardHandler),
	})
}

const want = `H,authswitch-clearing,1,a,1,2023-11-23T04:00:00Z
D,1,capture,cap_01000000000000000000000000000000,auth_02000000000000000000000000000000,,parcels,SHOP00000000001,TERM0001,5999,497010,100,EUR,visa,41111111***1111,332700000017,000017,1123040000,A1B2C3,,231123040000,"ORDER, ""42""",2023-11-23T04:00:00Z
D,2,capture,cap_01010000000000000000000000000000,auth_02000000000000000000000000000000,,parcels,SHOP00000000001,TERM0001,5999,497010,200,EUR,visa,41111111***1111,332700000017,000017,1123040000,A1B2C3,,231123040000,"ORDER, ""42""",2023-11-23T04:00:00Z
D,3,refund,ref_01020000000000000000000000000000,auth_02000000000000000000000000000000,cap_03000000000000000000000000000000,parcels,SHOP00000000001,TERM0001,5999,497010,300,EUR,visa,41111111***1111,332700000017,000017,1123040000,A1B2C3,,231123040000,"ORDER, ""42""",2023-11-23T04:00:00Z
T,EUR,2,300,1,300
E,3
`

// TestRound: the day ends once, the file is whole, and the journal knows it.
func TestRound(t *testing.T) {
	b, dir := filled(), filepath.Join(t.TempDir(), "clearing")
	r := runner(t, b, dir)
	for range 3 {
		r.Round(t.Context())
	}
	text, err := os.ReadFile(filepath.Join(dir, "a-000001.csv"))
	if err != nil || string(text) != want {
		t.Fatalf("%v\n%s", err, text)
	}
	if len(b.filed) != 1 || b.filed[0].Bytes != uint64(len(want)) || b.closed[0].State != payment.ClearingSettled || b.open.Number != 2 {
		t.Errorf("%+v %+v", b.filed, b.closed)
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("left behind: %v", files)
	}
	if err := r.Announced("a"); err != nil || b.open.Number != 2 {
		t.Errorf("an acquirer's cut-over right after: batch %d, %v", b.open.Number, err)
	}
}

// TestFileWrittenAgain: who dies between the disk and the journal leaves a file
// that the next one writes again, byte for byte.
func TestFileWrittenAgain(t *testing.T) {
	b, dir := filled(), t.TempDir()
	b.failing = errors.New("no quorum")
	r := runner(t, b, dir)
	r.Round(t.Context())
	if b.closed[0].State != payment.ClearingClosed {
		t.Fatalf("%s without the journal", b.closed[0].State)
	}
	if err := os.WriteFile(filepath.Join(dir, "a-000001.csv.new"), []byte("cut"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.failing = nil
	r.Round(t.Context())
	if text, err := os.ReadFile(filepath.Join(dir, "a-000001.csv")); err != nil || string(text) != want || len(b.filed) != 1 {
		t.Fatalf("%v %d\n%s", err, len(b.filed), text)
	}
}

// TestLineMissing: a file that would not be whole is not written.
func TestLineMissing(t *testing.T) {
	for name, spoil := range map[string]func(b *book){
		"no operation": func(b *book) { delete(b.ops, payment.ID{1, 1}) },
		"no line":      func(b *book) { b.lines[1] = b.lines[1][:2] },
	} {
		b, dir := filled(), t.TempDir()
		spoil(b)
		runner(t, b, dir).Round(context.Background())
		if files, _ := os.ReadDir(dir); len(files) != 0 || len(b.filed) != 0 {
			t.Errorf("%s: %v %v", name, files, b.filed)
		}
	}
}

// TestName keeps links apart.
func TestName(t *testing.T) {
	if got := Name(&payment.ClearingBatch{Link: "visa-a", Number: 12}); !strings.HasPrefix(got, "visa-a-000012.") {
		t.Error(got)
	}
}
