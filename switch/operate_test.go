package switching

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"authswitch/iso8583"
	"authswitch/iso8583/dialects"
	"authswitch/payment"
	"authswitch/routing"
)

// TestUnreadIsRefused: an operation on what cannot be read is refused; it must
// not stand without a message.
func TestUnreadIsRefused(t *testing.T) {
	for _, c := range []struct {
		err  error
		want payment.RefusalKind
	}{
		{payment.ErrNotFound, payment.RefusedMissing},
		{payment.ErrUnavailable, payment.RefusedOverloaded},
		{errors.New("disk"), payment.RefusedOverloaded},
	} {
		r, ok := errors.AsType[*payment.Refusal](unread(payment.OpRefund, c.err))
		if !ok || r.Kind != c.want {
			t.Errorf("%v: %+v, want %s", c.err, r, c.want)
		}
	}
}

// TestMeansOfFinalRefunds: what a link does not reverse is not asked of it, by a
// batch either. Found by the simulation: a batch's refund without an answer was
// reversed and tried again.
func TestMeansOfFinalRefunds(t *testing.T) {
	d, err := iso8583.Load(dialects.FS, "ascii87")
	if err != nil {
		t.Fatal(err)
	}
	var table atomic.Pointer[routing.Table]
	s, err := New(Deps{
		Table: &table, Lanes: []Lane{{Name: "a", Dialect: d}, {Name: "final", Dialect: d, RefundsFinal: true}}, Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	for link, want := range map[payment.LinkName]bool{"a": true, "final": false} {
		for _, k := range []payment.OperationKind{payment.OpRefund, payment.OpVoid} {
			if _, _, reversible, ok := s.Means(link, k); !ok || reversible != want {
				t.Errorf("a %s on %q: reversible is %v, %v", k, link, reversible, ok)
			}
		}
		if _, _, reversible, ok := s.Means(link, payment.OpIncrement); !ok || !reversible {
			t.Errorf("an increment on %q: reversible is %v, %v", link, reversible, ok)
		}
	}
	if _, _, _, ok := s.Means("elsewhere", payment.OpRefund); ok {
		t.Error("a link that is not there has means")
	}
}
