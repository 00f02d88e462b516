package switching_test

import (
	"testing"
	"time"

	"authswitch/iso8583"
	"authswitch/payment"
	"authswitch/routing"
)

// testTable routes the merchant's Visa cards to link a, then b.
func testTable(t testing.TB) *routing.Table {
	t.Helper()
	table, err := routing.NewTable(routing.DefaultRanges(), []routing.Contract{{
		Merchant: "m", Scheme: payment.Visa, Links: []payment.LinkName{"a", "b"}, TimeZone: time.UTC,
		Terms: payment.Terms{Terminal: "TERM0001", Acceptor: "SHOP00000000001", AcceptorName: "SHOP/PARIS/FR", MCC: "5999", Acquirer: "497010", Country: "250"},
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// scratch is a message of the test's own, to weigh the fakes' allocations.
func (r *rig) scratch() *iso8583.Message { return new(iso8583.Message) }
