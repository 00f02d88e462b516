package switching

import (
	"authswitch/iso8583"
	"authswitch/payment"
	"authswitch/routing"
)

// capturing says in an intent which request asks for its payment, and how and
// until when it is captured: what the contract asks for and the link's dialect
// has. What the link cannot do is refused before anything is sent.
func capturing(a *payment.Authorization, l *lane, c *routing.Contract, i *payment.Intent) error {
	d := l.Dialect
	k := &i.Capture
	*k = payment.Capturing{Mode: a.Capture, Within: payment.Instant(c.CaptureWithin)}
	i.MTI = uint16(d.AuthorizationMTI())
	if a.Capture == payment.CaptureNever {
		k.Within = 0
		if !d.Verifies() {
			return refusalOfVerification()
		}
		return nil
	}
	switch c.CaptureBy {
	case routing.CaptureByFile:
		k.Means = payment.MeansFile
	case routing.CaptureByBatchUpload:
		if d.UploadMTI() == 0 {
			return refusalOfUpload()
		}
		k.Means, k.MTI = payment.MeansUpload, uint16(d.UploadMTI())
	}
	if a.Capture == payment.CaptureManual {
		if k.Means == payment.MeansNone && capturesNothing(d) {
			return refusalOfCaptureMode()
		}
		return nil
	}
	k.Within = 0
	switch {
	case d.SaleMTI() != 0: // one message, and nothing is captured afterwards
		k.Means, k.MTI, i.MTI = payment.MeansSale, 0, uint16(d.SaleMTI())
	case k.Means == payment.MeansNone:
		k.Means, k.MTI, _ = meansOf(payment.OpCapture, d)
	}
	return nil
}

// capturesNothing says whether a link has no way to capture what it authorized:
// a single-message one without advice and without linked completion.
func capturesNothing(d *iso8583.Dialect) bool {
	means, _, _ := meansOf(payment.OpCapture, d)
	return means == payment.MeansNone
}

// captureMeans is how a dialect carries a capture of what was authorized. Never
// a plain financial request: that would be another sale.
func captureMeans(d *iso8583.Dialect) (payment.OperationMeans, uint16, bool) {
	switch {
	case d.CaptureMTI() != 0:
		return payment.MeansAdvice, uint16(d.CaptureMTI()), false
	case d.CompletionMTI() != 0:
		return payment.MeansOnline, uint16(d.CompletionMTI()), true
	case d.SaleMTI() != 0:
		return payment.MeansNone, 0, false
	}
	return payment.MeansFile, 0, false
}

func refusalOfCaptureMode() error {
	return &payment.Refusal{
		Kind: payment.RefusedInvalid, Pointer: "/capture", Code: "capture_mode_not_supported",
		Detail: "the acquirer's link takes single messages only: it cannot capture later what is authorized now; nothing was sent",
	}
}

func refusalOfUpload() error {
	return &payment.Refusal{
		Kind: payment.RefusedInvalid, Pointer: "/capture", Code: "capture_mode_not_supported",
		Detail: "the contract captures by batch upload, and the acquirer's link has no message for it; nothing was sent",
	}
}

func refusalOfVerification() error {
	return &payment.Refusal{
		Kind: payment.RefusedInvalid, Code: "not_supported_by_link", Detail: "the acquirer's link cannot verify an account; nothing was sent",
	}
}
