package switching

import (
	"errors"
	"testing"

	"authswitch/iso8583"
	"authswitch/payment"
)

// TestNotTransmissible: what the acquirer's message lacks is named, by the field
// of the request where there is one, else by its element.
func TestNotTransmissible(t *testing.T) {
	for _, c := range []struct {
		fault           iso8583.FieldError
		pointer, detail string
	}{
		{iso8583.FieldError{DE: 37, Reason: "too long", Pointer: "/reference"}, "/reference", "too long"},
		{iso8583.FieldError{DE: 43, Name: "Card acceptor name and location", Reason: "mandatory and absent"}, "", "the acquirer's message cannot be made of this request and its contract: DE 43 (Card acceptor name and location): mandatory and absent"},
	} {
		r, ok := errors.AsType[*payment.Refusal](refusalOfReserve(&c.fault))
		if !ok || r.Code != "not_transmissible" || r.Pointer != c.pointer || r.Detail != c.detail {
			t.Errorf("%+v", r)
		}
	}
}
