package switching

import (
	"authswitch/payment"
	"authswitch/routing"
)

// capturing says in an intent how and until when its payment is captured: what
// the contract asks for and the link's dialect has.
func capturing(a *payment.Authorization, l *lane, c *routing.Contract, i *payment.Intent) error {
	k := &i.Capture
	*k = payment.Capturing{Mode: a.Capture, Within: payment.Instant(c.CaptureWithin)}
	if c.CaptureBy == routing.CaptureByFile {
		k.Means = payment.MeansFile
	}
	if a.Capture == payment.CaptureAutomatic {
		k.Within = 0
		if k.Means == payment.MeansNone {
			k.Means, k.MTI, _ = meansOf(payment.OpCapture, l.Dialect)
		}
	}
	return nil
}
