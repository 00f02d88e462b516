package iso8583

import (
	"errors"
	"reflect"
	"slices"
	"testing"

	"authswitch/payment"
)

// TestLacks: what a contract must say is what a payment of the dialect cannot be
// packed without, of every dialect and every one of a contract's terms.
func TestLacks(t *testing.T) {
	names := map[string]string{
		"Terminal": "terminal", "Acceptor": "acceptor", "AcceptorName": "acceptor_name", "MCC": "mcc", "Acquirer": "acquirer", "Forwarder": "forwarder", "Country": "country",
	}
	needed := map[string]bool{}
	for _, name := range dialectNames(t) {
		d := load(t, name)
		for field := range reflect.TypeFor[payment.Terms]().Fields() {
			a, i := example(t)
			i.MTI = uint16(d.AuthorizationMTI())
			reflect.ValueOf(&i.Terms).Elem().FieldByIndex(field.Index).SetString("")
			_, err := d.EncodeAuthorization(nil, a, i)
			if err != nil && !errors.Is(err, ErrMissing) {
				t.Fatalf("%s without %s: %v", name, field.Name, err)
			}
			lacks := d.Lacks(&i.Terms)
			if (err != nil) != slices.Contains(lacks, names[field.Name]) || len(lacks) > 1 {
				t.Errorf("%s without %s: %v; lacks %q", name, field.Name, err, lacks)
			}
			needed[names[field.Name]] = needed[names[field.Name]] || len(lacks) > 0
		}
	}
	for _, of := range []string{"terminal", "acceptor", "acceptor_name", "mcc", "acquirer"} {
		if !needed[of] {
			t.Errorf("no dialect needs %s", of)
		}
	}
}
