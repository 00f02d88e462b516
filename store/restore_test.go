package store

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"authswitch/journal"
	"authswitch/payment"
)

// books are an acquirer's: what reached it, by the numbers it was sent under.
type books struct {
	stans  map[payment.STAN]payment.ID
	rrns   map[uint64]bool
	writes int // every message that left
}

// TestRestoreTenMinutesOld restores a backup that ten minutes of traffic came
// after: authorizations, captures and a refund that only the acquirer's books
// know, which its gateways ask for again, with the same keys and with new ones.
// Nothing leaves, so nothing is charged, captured or refunded twice; what was
// answered before the backup is answered as before; and after the lane's release
// no number is used again.
func TestRestoreTenMinutesOld(t *testing.T) {
	now := wallClock()
	clock := func() payment.Instant { return now + wallClock()%1e9 }
	s, err := Start(t.Context(), testConfig("node"), Deps{Now: clock, FS: vfs.NewMem(), Fail: func(err error) { t.Error(err) }})
	must(t, err)
	acquirer := &books{stans: map[payment.STAN]payment.ID{}, rrns: map[uint64]bool{}}
	var numbers payment.Numbers
	at := func(n int) *payment.Intent {
		i := intent(n)
		i.ReceivedAt, i.SendBy, i.AnswerBy, i.LifeOver = now, now+10e9, now+20e9, now+30e9
		return i
	}
	pay := func(s *Store, n int) {
		t.Helper()
		if numbers.FirstSTAN == 0 || numbers.FirstSTAN > numbers.LastSTAN {
			if numbers, err = s.Lease(t.Context(), "cb-a"); err != nil {
				t.Fatal(err)
			}
		}
		i := at(n)
		i.STAN = numbers.FirstSTAN
		if acquirer.rrns[numbers.FirstRRN] || acquirer.stans[i.STAN] != (payment.ID{}) {
			t.Errorf("payment %d: STAN %s or RRN %d was used before", n, i.STAN, numbers.FirstRRN)
		}
		if o, err := s.Open(i); err != nil || o.Verdict != payment.OpenNew {
			t.Fatalf("open %d: %+v %v", n, o, err)
		}
		acquirer.stans[i.STAN], acquirer.rrns[numbers.FirstRRN] = i.ID, true
		acquirer.writes++
		numbers.FirstSTAN, numbers.FirstRRN = numbers.FirstSTAN+1, numbers.FirstRRN+1
		if _, err := s.Close(approval(i)); err != nil {
			t.Fatal(err)
		}
	}
	capture := func(n int) *payment.Operation {
		return &payment.Operation{
			ID: paymentID(500_000 + n), Kind: payment.OpCapture, Payment: paymentID(n), Merchant: "parcels", Gateway: "shop", Key: []byte("capture-" + paymentID(n).String()),
			Fingerprint: [32]byte{1, byte(n)}, Amount: payment.Amount{Value: 1051, Currency: 978}, Reason: payment.ReversalCustomer, Means: payment.MeansAdvice, MTI: 0x0220,
		}
	}
	// send carries what is owed, as the outbox does.
	send := func(s *Store) (sent int) {
		for _, o := range s.Due("cb-a", now+3600e9, 1000, nil) {
			if _, err := s.Claim("cb-a", o.Seq, 900_000+payment.STAN(o.Seq), 7); err == nil {
				acquirer.writes++
				sent++
			}
		}
		return sent
	}

	for n := range 10 {
		pay(s, n)
	}
	if r, err := s.Operate(capture(0)); err != nil || r.Verdict != payment.OperateNew || send(s) != 1 {
		t.Fatalf("%+v %v", r, err)
	}
	var file bytes.Buffer
	if _, err := s.Backup(t.Context(), &file); err != nil {
		t.Fatal(err)
	}
	for minute := range 10 {
		now += payment.Instant(time.Minute)
		for n := range 3 {
			pay(s, 100+10*minute+n)
		}
		if r, err := s.Operate(capture(1 + minute%9)); err != nil || r.Verdict == payment.OperateRefused {
			t.Fatalf("%+v %v", r, err)
		}
		send(s)
	}
	stop(t, s)

	fs, cfg := vfs.NewMem(), testConfig("other")
	_, summary, err := Restore(cfg, fs, bytes.NewReader(file.Bytes()))
	if err != nil || summary.Payments != 10 || !summary.Fenced || len(summary.Lanes) != 1 || summary.Lanes[0] != "cb-a" || len(summary.SHA256) != 64 {
		t.Fatalf("%+v %v", summary, err)
	}
	restored, err := Start(t.Context(), cfg, Deps{Now: clock, FS: fs, Fail: func(err error) { t.Error(err) }})
	must(t, err)
	defer stop(t, restored)
	before := acquirer.writes
	for n := range 10 { // what was answered before the backup
		again := at(n)
		again.ID = paymentID(900_000 + n)
		if o, err := restored.Open(again); err != nil || o.Verdict != payment.OpenDecided || o.ID != paymentID(n) {
			t.Errorf("old key %d: %+v %v", n, o, err)
		}
	}
	if r, err := restored.Operate(capture(0)); err != nil || r.Verdict != payment.OperateAgain {
		t.Errorf("the capture that the backup knows: %+v %v", r, err)
	}
	for n := 1; n < 10; n++ {
		if r, err := restored.Operate(capture(n)); !errors.Is(err, payment.ErrUnavailable) {
			t.Errorf("capture %d, which may have been taken: %+v %v", n, r, err)
		}
	}
	for minute := range 10 {
		for n := range 3 {
			lost := at(100 + 10*minute + n)
			if o, err := restored.Open(lost); err != nil || o.Verdict != payment.OpenSessionEnded {
				t.Errorf("a payment that only the acquirer knows: %+v %v", o, err)
			}
			if _, err := restored.Payment(lost.ID); !errors.Is(err, payment.ErrUnavailable) {
				t.Errorf("it is called unknown: %v", err)
			}
			if r, err := restored.Operate(capture(100 + 10*minute + n)); !errors.Is(err, payment.ErrUnavailable) {
				t.Errorf("its capture: %+v %v", r, err)
			}
		}
	}
	if due, err := restored.DueCaptures(10); err != nil || len(due) != 0 {
		t.Errorf("the schedule works: %v %v", due, err)
	}
	if sent := send(restored); sent != 0 || acquirer.writes != before {
		t.Errorf("%d messages left a fenced cluster", sent)
	}
	must(t, restored.Release("visa-b"))
	if sent := send(restored); sent != 0 {
		t.Errorf("%d messages left a lane that is not released", sent)
	}
	must(t, restored.Release("cb-a"))
	numbers = payment.Numbers{}
	for n := range 10 {
		pay(restored, 2000+n)
	}
	must(t, restored.Release(journal.EveryLane))
	if _, err := restored.Payment(paymentID(100)); !errors.Is(err, payment.ErrNotFound) {
		t.Errorf("after the last lane's release: %v", err)
	}
}
