package store

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"authswitch/payment"
)

func wallClock() payment.Instant { return payment.Instant(time.Now().UnixNano()) }

func testConfig(dir string) Config {
	return Config{Node: "n1", Dir: dir, HeartbeatTimeout: 50 * time.Millisecond, CommitTimeout: 5 * time.Second, MemtableBytes: 4 << 20, BlockCacheBytes: 8 << 20}
}

// start opens a store; the test stops it.
func start(t testing.TB, fs vfs.FS, cfg Config) *Store {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	s, err := Start(ctx, cfg, Deps{Now: wallClock, FS: fs, Fail: func(err error) { t.Errorf("the store failed: %v", err) }})
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	return s
}

func stop(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Stop(context.Background()); err != nil {
		t.Fatalf("stop: %v", err)
	}
}

func paymentID(n int) (id payment.ID) {
	copy(id[:], fmt.Sprintf("payment-%08d", n))
	return id
}

func intent(n int) *payment.Intent {
	now := wallClock()
	return &payment.Intent{
		ID: paymentID(n), Attempt: 1, Gateway: "shop", Merchant: "parcels", Key: fmt.Appendf(nil, "key-%d", n), Fingerprint: [32]byte{byte(n)},
		Reference: fmt.Appendf(nil, "ORDER-%d", n), Amount: payment.Amount{Value: 1051, Currency: 978}, Channel: payment.Ecommerce, Scheme: payment.CB,
		Link: "cb-a", Dialect: "cb", MTI: 0x0100, STAN: payment.STAN(n%999_999 + 1), RRN: payment.MakeRRN(now, uint64(n)), Transmitted: payment.TransmittedAt(now),
		ReceivedAt: now, SendBy: now + payment.Instant(5*time.Second), AnswerBy: now + payment.Instant(15*time.Second), LifeOver: now + payment.Instant(20*time.Second),
		Terms:  payment.Terms{Terminal: "TERM0001", Acceptor: "ACCEPTOR0000001", AcceptorName: "PARCELS/PARIS/FR", MCC: "5999", Acquirer: "123456", Country: "250"},
		Sealed: make([]byte, 72), BIN: []byte("49701000"), Last4: [4]byte{'0', '1', '5', '4'},
	}
}

func approval(i *payment.Intent) *payment.Outcome {
	return &payment.Outcome{
		ID: i.ID, Attempt: i.Attempt, Session: i.Session, Event: payment.EventApproved, Status: payment.StatusApproved, Amount: i.Amount, ProcessingMS: 38, Encoder: 1,
		Response: payment.Response{Code: payment.MakeResponseCode([]byte("00")), Verdict: payment.Verdict{Action: payment.ActionApprove, Reason: payment.ReasonApproved}, ApprovalCode: payment.ApprovalCode{'A', '1', '2', '3', '4', '5'}},
	}
}

func timeout(i *payment.Intent) *payment.Outcome {
	return &payment.Outcome{
		ID: i.ID, Attempt: i.Attempt, Session: i.Session, Event: payment.EventUnknown, Status: payment.StatusUnknown, Cause: payment.CauseTimeout,
		Amount: i.Amount, Reversal: payment.ReversalTimeout,
	}
}

// TestOneAuthorization walks the path of a payment over a real disk, with a
// restart in the middle.
func TestOneAuthorization(t *testing.T) {
	dir := t.TempDir()
	s := start(t, vfs.Default, testConfig(dir))
	approved, lost, left := intent(1), intent(2), intent(3)
	for _, i := range []*payment.Intent{approved, lost, left} {
		if o, err := s.Open(i); err != nil || o.Verdict != payment.OpenNew {
			t.Fatalf("open: %v %v", o, err)
		}
	}
	if o, err := s.Open(approved); err != nil || o.Verdict != payment.OpenAgain {
		t.Fatalf("open again: %v %v", o, err)
	}
	if r, err := s.Close(approval(approved)); err != nil || r.State != payment.StateApproved || r.Outcome.Status != payment.StatusApproved {
		t.Fatalf("close: %v %v", r, err)
	}
	if r, err := s.Reverse(timeout(approved)); err != nil || r.State != payment.StateApproved || r.Outcome.Status != payment.StatusApproved {
		t.Fatalf("reverse after close must answer what stands: %v %v", r, err)
	}
	if r, err := s.Reverse(timeout(lost)); err != nil || r.State != payment.StateReversing {
		t.Fatalf("reverse: %v %v", r, err)
	}
	session := s.Session()
	stop(t, s)

	s = start(t, vfs.Default, testConfig(dir))
	defer stop(t, s)
	if s.Session() <= session {
		t.Fatalf("session %d after session %d", s.Session(), session)
	}
	p, err := s.Payment(left.ID)
	if err != nil || p.State != payment.StateReversing || p.Outcome.Cause != payment.CauseSessionEnded {
		t.Fatalf("what the earlier session left open: %v %+v %v", p.State, p.Outcome, err)
	}
	if r, err := s.Close(approval(left)); err != nil || !r.SessionEnded || r.Outcome.Status != payment.StatusUnknown {
		t.Fatalf("close after the session: %+v %v", r, err)
	}
	due := s.Due("cb-a", wallClock(), 10, nil)
	if len(due) != 2 || due[0].ID != lost.ID || due[1].ID != left.ID {
		t.Fatalf("due: %+v", due)
	}
	owed, err := s.Claim("cb-a", due[0].Seq, 77, 1123035512)
	if err != nil || owed.STAN != 77 || owed.Tries != 1 {
		t.Fatalf("claim: %+v %v", owed, err)
	}
	if _, err := s.Claim("cb-a", due[0].Seq, 78, 1123035513); !errors.Is(err, payment.ErrBusy) {
		t.Fatalf("claim of what is claimed: %v", err)
	}
	state, err := s.Acknowledge("cb-a", due[0].Seq, &payment.Response{Code: payment.MakeResponseCode([]byte("00"))}, payment.AdviceAcknowledged)
	if err != nil || state != payment.StateReversed {
		t.Fatalf("acknowledge: %v %v", state, err)
	}
	history, err := s.History(lost.ID)
	if err != nil || len(history) != 5 {
		t.Fatalf("history: %d lines %v", len(history), err)
	}
	if count, _, _ := s.Owing("cb-a"); count != 1 {
		t.Fatalf("owing %d", count)
	}
	if n, err := s.Lease(t.Context(), "cb-a"); err != nil || n.LastSTAN-n.FirstSTAN != 999 {
		t.Fatalf("lease: %+v %v", n, err)
	}
}
