package iso8583

import (
	"bytes"
	"testing"

	"authswitch/card"
	"authswitch/payment"
)

func example(t testing.TB) (*payment.Authorization, *payment.Intent) {
	t.Helper()
	pan, err := card.ParsePAN([]byte("4111111111111111"))
	if err != nil {
		t.Fatal(err)
	}
	expiry, err := card.ParseExpiry([]byte("2712"))
	if err != nil {
		t.Fatal(err)
	}
	cvv, err := card.ParseCVV([]byte("123"))
	if err != nil {
		t.Fatal(err)
	}
	eur, err := payment.ParseCurrency([]byte("EUR"))
	if err != nil {
		t.Fatal(err)
	}
	amount := payment.Amount{Value: 1051, Currency: eur}
	a := &payment.Authorization{
		Amount: amount, Channel: payment.Ecommerce, Card: card.Card{PAN: pan, Expiry: expiry, CVV: cvv},
		ThreeDS: payment.ThreeDSecure{Version: []byte("2.2.0"), ECI: []byte("05"), AuthenticationValue: []byte("AAABBEg0VhI0VniQEjRWAAAAAAA=")},
	}
	i := &payment.Intent{
		Attempt: 1, Amount: amount, Channel: payment.Ecommerce, STAN: 17, Transmitted: 1123035512,
		RRN: payment.RRN([]byte("632700000017")), Local: payment.LocalTime([]byte("261123045512")),
		Terms: payment.Terms{
			Terminal: "10000001", Acceptor: "970000000000001", AcceptorName: "PARCELS ONLINE/PARIS/FR", MCC: "5942",
			Acquirer: "970001", Forwarder: "970002", Country: "250",
		},
	}
	return a, i
}

func TestPayments(t *testing.T) {
	for _, name := range dialectNames(t) {
		t.Run(name, func(t *testing.T) {
			d := load(t, name)
			a, i := example(t)
			i.MTI = uint16(d.AuthorizationMTI())
			frame, err := d.EncodeAuthorization(nil, a, i)
			if err != nil {
				t.Fatal(err)
			}
			var m Message
			if err := d.Unpack(&m, frame); err != nil {
				t.Fatal(err)
			}
			if m.MTI() != d.AuthorizationMTI() || string(m.Bytes(2)) != "4111111111111111" {
				t.Fatalf("got %s", m.MTI())
			}
			owed := &payment.Owed{Reason: payment.ReversalTimeout, Tries: 1, STAN: 18, Transmitted: 1123035522}
			first, err := d.EncodeReversal(nil, owed, i, &a.Card)
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Unpack(&m, first); err != nil {
				t.Fatal(err)
			}
			if m.MTI() != d.ReversalMTI() {
				t.Errorf("reversal is %s", m.MTI())
			}
			if bytes.Contains(first, []byte("123")) && m.Has(35) {
				t.Error("track in a reversal")
			}
			for _, f := range []payment.NetworkFunction{payment.SignOn, payment.SignOff, payment.Echo} {
				for _, response := range []bool{false, true} {
					frame, err := d.EncodeNetwork(nil, payment.NetworkRequest{
						Function: f, Response: response, Code: d.payments.networkAccept[0], STAN: 3, Transmitted: 1123035512, Terms: i.Terms,
					})
					if err != nil {
						t.Fatal(err)
					}
					if err := d.Unpack(&m, frame); err != nil {
						t.Fatal(err)
					}
					n, ok := d.DecodeNetwork(&m)
					if !ok || n.Function != f || n.Response != response || n.Accepted != response || n.STAN != 3 {
						t.Errorf("%v: read back as %+v", f, n)
					}
				}
			}
		})
	}
}

func TestNoAllocations(t *testing.T) {
	if raceEnabled {
		return // the detector makes sync.Pool forget at random, on purpose
	}
	for _, name := range dialectNames(t) {
		d := load(t, name)
		a, i := example(t)
		owed := &payment.Owed{Reason: payment.ReversalTimeout, Tries: 2, STAN: 18, Transmitted: 1123035522}
		answer := readGolden(t, name)["answer"].frame
		var m Message
		var r payment.Response
		var frame []byte
		var err error
		for what, f := range map[string]func() error{
			"EncodeAuthorization": func() error { frame, err = d.EncodeAuthorization(frame[:0], a, i); return err },
			"EncodeReversal":      func() error { frame, err = d.EncodeReversal(frame[:0], owed, i, &a.Card); return err },
			"Unpack":              func() error { return d.Unpack(&m, answer) },
			"DecodeAuthorization": func() error { return d.DecodeAuthorization(&m, &r) },
			"Wipe and Unpack":     func() error { m.Wipe(); return d.Unpack(&m, answer) },
		} {
			if err := d.Unpack(&m, answer); err != nil {
				t.Fatal(err)
			}
			if n := testing.AllocsPerRun(200, func() {
				if err := f(); err != nil {
					t.Fatal(err)
				}
			}); n != 0 {
				t.Errorf("%s: %s allocates %v times", name, what, n)
			}
		}
	}
}
