package batch

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"authswitch/payment"
)

// lanes is a journal with one released batch to two links, one of which owes all
// that it may.
type lanes struct {
	mu      sync.Mutex
	leads   bool
	batch   payment.Batch
	full    payment.LinkName
	runs    []payment.BatchRun
	refuses int // so many runs find no room
	swept   int
}

func (l *lanes) Leads() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leads
}

func (l *lanes) RunningBatches() []payment.Batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.batch
	b.Lanes = slices.Clone(b.Lanes)
	return []payment.Batch{b}
}

func (l *lanes) Underway(link payment.LinkName) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if link == l.full {
		return 1000
	}
	return 0
}

func (l *lanes) SweepBatches(payment.Instant) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.swept++
	return nil
}

func (l *lanes) RunBatch(x *payment.BatchRun) (payment.BatchAnswer, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuses > 0 {
		l.refuses--
		return payment.BatchAnswer{}, payment.ErrBusy
	}
	l.runs = append(l.runs, *x)
	lane := &l.batch.Lanes[x.Lane]
	lane.At += x.Count
	if lane.At >= 128 {
		lane.Next, lane.At = lane.Next+1, 0
	}
	b := l.batch
	b.Lanes = slices.Clone(l.batch.Lanes)
	return payment.BatchAnswer{Batch: b}, nil
}

// TestRunner: a full link keeps no other, a journal without room is asked again,
// and only the leader acts.
func TestRunner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lanes{full: "visa-a", refuses: 3, batch: payment.Batch{
			State: payment.BatchReleased, Lines: 512, Lanes: []payment.BatchLane{{Link: "visa-a", Chunks: 2}, {Link: "cb-a", Chunks: 2}, {Link: "gone", Chunks: 1}},
		}}
		means := func(link payment.LinkName) (payment.OperationMeans, uint16, bool, bool) {
			return payment.MeansOnline, 0x0100, true, link != "gone"
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			NewRunner(Config{Rate: 320, Step: 8}, l, means, slog.New(slog.DiscardHandler)).Run(ctx)
		}()
		l.mu.Lock()
		after := func(d time.Duration) { // the runner works, the test looks
			l.mu.Unlock()
			time.Sleep(d)
			l.mu.Lock()
		}
		after(time.Second)
		if len(l.runs) != 0 {
			t.Error("a node that does not lead starts lines")
		}
		l.leads = true
		after(500 * time.Millisecond)
		if n := len(l.runs); n < 4 || n > 24 {
			t.Errorf("%d runs of 8 lines in half a second at 320 lines/s", n)
		}
		after(5 * time.Second)
		if !l.batch.Lanes[1].Ended() || l.batch.Lanes[0].Next+uint32(l.batch.Lanes[0].At)+l.batch.Lanes[2].Next != 0 {
			t.Errorf("%+v", l.batch.Lanes)
		}
		l.full = ""
		after(5 * time.Second)
		if !l.batch.Lanes[0].Ended() {
			t.Errorf("%+v", l.batch.Lanes)
		}
		l.batch.State = payment.BatchLoading
		after(6 * time.Minute)
		if l.swept == 0 {
			t.Error("what was never whole is not swept")
		}
		l.mu.Unlock()
		stop()
		<-done
	})
}

// TestResults: in the order of the file, whatever lanes its lines are in, and
// however little is read at a time.
func TestResults(t *testing.T) {
	b := &payment.Batch{ID: id(1), State: payment.BatchCancelled, Lanes: []payment.BatchLane{{Link: "a", Chunks: 2}, {Link: "b", Chunks: 1}}}
	whole, err := io.ReadAll(NewResults(fixed{}, b))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(whole)) {
		got = append(got, strings.Join(strings.Split(strings.TrimSpace(line), ",")[:2], " "))
	}
	if s := strings.Join(got, "; "); s != "line status; 1 exception; 2 refused; 3 cancelled; 4 cancelled; 5 cancelled" {
		t.Error(s)
	}
	slow, piece := "", make([]byte, 7)
	for r := NewResults(fixed{}, b); ; {
		n, err := r.Read(piece)
		slow += string(piece[:n])
		if err != nil {
			break
		}
	}
	if slow != string(whole) {
		t.Errorf("%q", slow)
	}
}

type fixed struct{}

func (fixed) BatchLines(_ payment.ID, lane uint8, chunk uint32) (lines []payment.BatchLine, _ error) {
	for _, n := range [][]uint32{{1, 4}, {5}, {2, 3}}[int(lane)*2+int(chunk)] {
		lines = append(lines, payment.BatchLine{Number: n, Amount: payment.Amount{Value: 1, Currency: 978}})
	}
	return lines, nil
}

func (fixed) BatchLine(_ payment.ID, line uint32) (o payment.Operation, why payment.LineRefusal, _ error) {
	switch line {
	case 1:
		o = payment.Operation{ID: id(1), State: payment.OperationException}
	case 2:
		why.Why = payment.RefusedAmount
	}
	return o, why, nil
}
