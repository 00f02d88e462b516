package vault

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"authswitch/card"
	"authswitch/payment"
)

func testAuthorization(t testing.TB) *payment.Authorization {
	a := &payment.Authorization{
		ID: testID, Gateway: "gw", Merchant: "parcels", Key: []byte("k-1"), Reference: []byte("ORDER-42"),
		Amount: payment.Amount{Value: 1051, Currency: 978}, Channel: payment.Ecommerce, Brand: payment.CB,
		ThreeDS: payment.ThreeDSecure{
			Version: []byte("2.2.0"), ECI: []byte("05"), AuthenticationValue: []byte("cryptogram"), DSTransactionID: []byte("ds"),
		},
		Exemption:        []byte("tra"),
		StoredCredential: payment.StoredCredential{Usage: []byte("first")},
		ReceivedAt:       1, Deadline: 2,
	}
	a.Card = *testCard(t, "4970100000000154", "2712")
	a.Card.CVV, _ = card.ParseCVV([]byte("123"))
	return a
}

// leftOut are the fields of an authorization that must not change its
// fingerprint, each with its reason. Every other field must, so that a field
// added to the type fails here until somebody decides.
var leftOut = map[string]string{
	"ID":                          "minted here",
	"Gateway":                     "not in the body; keys are scoped to the merchant",
	"Key":                         "what the fingerprint is compared under",
	"ReceivedAt":                  "not in the body",
	"Deadline":                    "not in the body",
	"Card.CVV":                    "sensitive authentication data",
	"Card.Track2":                 "sensitive authentication data",
	"Card.PIN":                    "sensitive authentication data",
	"Card.Chip":                   "sensitive authentication data",
	"PIN.Block":                   "sensitive authentication data",
	"PIN.Format":                  "of the PIN block",
	"PIN.Zone":                    "of the PIN block",
	"PIN.Serial":                  "of the PIN block",
	"Card.PAN":                    "stands as its blind index",
	"ThreeDS.AuthenticationValue": "cryptogram",
	"Handed":                      "not in the body: by which node it came",
	"Here":                        "not in the body: how this node answers it",
}

func TestFingerprintCoversEveryField(t *testing.T) {
	v := knownVault(t)
	index := [32]byte{1}
	base := v.Fingerprint(testAuthorization(t), index)
	for _, path := range fieldPaths(reflect.TypeFor[payment.Authorization](), "") {
		a := testAuthorization(t)
		field := reflect.ValueOf(a).Elem()
		for name := range strings.SplitSeq(path, ".") {
			field = field.FieldByName(name)
		}
		change(t, path, field)
		changed := v.Fingerprint(a, index) != base
		if _, out := leftOut[path]; changed == out {
			t.Errorf("%s: fingerprint changed: %v, left out: %v", path, changed, out)
		}
	}
	if v.Fingerprint(testAuthorization(t), [32]byte{2}) == base {
		t.Error("another card has the same fingerprint")
	}
	if v.Fingerprint(testAuthorization(t), index) != base {
		t.Error("the same request has another fingerprint")
	}
}

func fieldPaths(of reflect.Type, prefix string) []string {
	var paths []string
	for f := range of.Fields() {
		path := prefix + f.Name
		if f.Type.Kind() == reflect.Struct && f.Type.Field(0).IsExported() {
			paths = append(paths, fieldPaths(f.Type, path+".")...)
			continue
		}
		paths = append(paths, path)
	}
	return paths
}

// change gives a field another value.
func change(t *testing.T, path string, field reflect.Value) {
	t.Helper()
	switch value := field.Addr().Interface().(type) {
	case *card.PAN:
		*value = testCard(t, "4111111111111111", "").PAN
	case *card.Expiry:
		*value = testCard(t, "4111111111111111", "2801").Expiry
	case *card.CVV:
		*value, _ = card.ParseCVV([]byte("987"))
	case *card.Track2:
		*value, _ = card.ParseTrack2([]byte("4111111111111111=30122011000000000"))
	case *card.PINBlock:
		*value, _ = card.NewPINBlock([]byte{1, 2, 3, 4, 5, 6, 7, 8})
	case *card.Chip:
		*value, _ = card.ParseChip([]byte{0x5A, 1, 0x41})
	case *payment.ID:
		value[0]++
	case *[]byte:
		*value = append(*value, 'x')
	case *bool:
		*value = !*value
	default:
		switch {
		case field.Kind() == reflect.String:
			field.SetString(field.String() + "x")
		case field.CanInt():
			field.SetInt(field.Int() + 1)
		case field.CanUint():
			field.SetUint(field.Uint() + 1)
		default:
			t.Fatalf("%s: this test does not know how to change a %s", path, field.Type())
		}
	}
}

// Moving a byte from one field to its neighbour is another request.
func TestFingerprintFieldsDoNotRunTogether(t *testing.T) {
	v := knownVault(t)
	seen := map[[32]byte]string{}
	for _, split := range []int{0, 1, 2, 3, 4} {
		a := testAuthorization(t)
		a.Merchant, a.Reference = payment.MerchantID("abcd"[:split]), []byte("abcd"[split:])
		f := v.Fingerprint(a, [32]byte{})
		if was, ok := seen[f]; ok {
			t.Errorf("split at %d has the fingerprint of %s", split, was)
		}
		seen[f] = fmt.Sprintf("split at %d", split)
	}
}
