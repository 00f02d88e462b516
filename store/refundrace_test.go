package store

import (
	"sync"
	"testing"

	"authswitch/payment"
)

// TestRefundsRace: of refunds that three nodes take at the same time, no more is
// taken than was captured; the others are refused by name, and told what is left.
func TestRefundsRace(t *testing.T) {
	c := startTrio(t)
	c.leader()
	s := c.stores[0]
	i := intent(1)
	if o, err := s.Open(i); err != nil || o.Verdict != payment.OpenNew {
		t.Fatalf("open: %+v %v", o, err)
	}
	if _, err := s.Close(approval(i)); err != nil {
		t.Fatal(err)
	}
	capture := payment.Operation{
		ID: paymentID(50), Kind: payment.OpCapture, Payment: i.ID, Merchant: i.Merchant, Key: []byte("c"), Means: payment.MeansAdvice, MTI: 0x0220,
	}
	taken, err := s.Operate(&capture)
	if err != nil || taken.Verdict != payment.OperateNew {
		t.Fatalf("capture: %+v %v", taken, err)
	}
	part := taken.Operation.Amount.Value/2 + 1 // two of them are more than there is
	var group sync.WaitGroup
	var answers [3]payment.Operated
	for n, node := range c.stores {
		group.Go(func() {
			refund := payment.Operation{
				ID: paymentID(60 + n), Kind: payment.OpRefund, Parent: capture.ID, Merchant: i.Merchant, Key: []byte{'r', byte('a' + n)},
				Amount: payment.Amount{Value: part, Currency: i.Amount.Currency}, Means: payment.MeansOnline, MTI: 0x0200, Reversible: true,
			}
			var err error
			if answers[n], err = node.Operate(&refund); err != nil {
				t.Errorf("%s: %v", node.cfg.Node, err)
			}
		})
	}
	group.Wait()
	stands := 0
	for n, a := range answers {
		switch {
		case a.Verdict == payment.OperateNew:
			stands++
		case a.Verdict != payment.OperateRefused || a.Refused != payment.RefusedAmount || a.Left != taken.Operation.Amount.Value-part:
			t.Errorf("node %d: %+v", n+1, a)
		}
	}
	if stands != 1 {
		t.Errorf("%d refunds stand", stands)
	}
}
