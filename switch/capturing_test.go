package switching

import (
	"errors"
	"testing"

	"authswitch/iso8583"
	"authswitch/iso8583/dialects"
	"authswitch/payment"
	"authswitch/routing"
)

// TestCapturing: which request asks for a payment, and how its captures travel,
// by dialect, contract and mode. One line per case.
func TestCapturing(t *testing.T) {
	manual, automatic, never := payment.CaptureManual, payment.CaptureAutomatic, payment.CaptureNever
	for _, c := range []struct {
		dialect string
		by      routing.CaptureBy
		mode    payment.CaptureMode
		mti     iso8583.MTI            // of the request
		means   payment.OperationMeans // of an automatic capture, or what a contract insists on
		capture payment.OperationMeans // of a later capture
		refused string
	}{
		{"ascii87", routing.CaptureByLink, manual, 0x0100, payment.MeansNone, payment.MeansAdvice, ""},
		{"ascii87", routing.CaptureByLink, automatic, 0x0100, payment.MeansAdvice, payment.MeansAdvice, ""},
		{"ascii87", routing.CaptureByFile, manual, 0x0100, payment.MeansFile, payment.MeansAdvice, ""},
		{"ascii87", routing.CaptureByFile, automatic, 0x0100, payment.MeansFile, payment.MeansAdvice, ""},
		{"ascii87", routing.CaptureByBatchUpload, manual, 0x0100, payment.MeansUpload, payment.MeansAdvice, ""},
		{"ascii87", routing.CaptureByBatchUpload, automatic, 0x0100, payment.MeansUpload, payment.MeansAdvice, ""},
		{"visa", routing.CaptureByBatchUpload, manual, 0, 0, payment.MeansAdvice, "capture_mode_not_supported"},
		{"ascii87", routing.CaptureByLink, never, 0x0100, payment.MeansNone, payment.MeansAdvice, ""},
		{"ascii87-single", routing.CaptureByLink, automatic, 0x0200, payment.MeansSale, payment.MeansOnline, ""},
		{"ascii87-single", routing.CaptureByLink, manual, 0x0100, payment.MeansNone, payment.MeansOnline, ""},
		{"ancv", routing.CaptureByLink, automatic, 0x0200, payment.MeansSale, payment.MeansNone, ""},
		{"ancv", routing.CaptureByLink, manual, 0, 0, payment.MeansNone, "capture_mode_not_supported"},
		{"ancv", routing.CaptureByFile, manual, 0x0100, payment.MeansFile, payment.MeansNone, ""},
		{"ancv", routing.CaptureByLink, never, 0, 0, payment.MeansNone, "not_supported_by_link"},
		{"jcb", routing.CaptureByLink, automatic, 0x0100, payment.MeansFile, payment.MeansFile, ""},
		{"jcb", routing.CaptureByLink, manual, 0x0100, payment.MeansNone, payment.MeansFile, ""},
	} {
		d, err := iso8583.Load(dialects.FS, c.dialect)
		if err != nil {
			t.Fatal(err)
		}
		var i payment.Intent
		err = capturing(&payment.Authorization{Capture: c.mode}, &lane{Lane: Lane{Dialect: d}}, &routing.Contract{CaptureBy: c.by}, &i)
		r, _ := errors.AsType[*payment.Refusal](err)
		switch {
		case c.refused != "":
			if r == nil || r.Code != c.refused {
				t.Errorf("%s %q %s: %v, want %s", c.dialect, c.by, c.mode, err, c.refused)
			}
		case err != nil || iso8583.MTI(i.MTI) != c.mti || i.Capture.Means != c.means:
			t.Errorf("%s %q %s: %v, %04x by %s", c.dialect, c.by, c.mode, err, i.MTI, i.Capture.Means)
		}
		if means, mti, _ := captureMeans(d); means != c.capture || means == payment.MeansOnline && iso8583.MTI(mti) != d.CompletionMTI() {
			t.Errorf("%s: a later capture is by %s %04x", c.dialect, means, mti)
		}
	}
}
