package switching

import (
	"errors"
	"testing"

	"authswitch/payment"
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
