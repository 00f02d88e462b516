package iso8583

import (
	"errors"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"authswitch/card"
	"authswitch/payment"
)

// TestSingleMessages: a sale names nothing, a completion its original, a refund
// neither; all three are 0200.
func TestSingleMessages(t *testing.T) {
	d := load(t, "ascii87-single")
	a, i := example(t)
	i.MTI = uint16(d.SaleMTI())
	sale, err := d.EncodeAuthorization(nil, a, i)
	if err != nil {
		t.Fatal(err)
	}
	i.MTI = uint16(d.AuthorizationMTI())
	c := card.Card{PAN: a.Card.PAN, Expiry: a.Card.Expiry}
	owed := func(k payment.OperationKind) *payment.Owed {
		return &payment.Owed{
			Operation: payment.ID{1}, Kind: k, Means: payment.MeansOnline, MTI: 0x0200, Amount: payment.Amount{Value: 700, Currency: 978}, STAN: 18, Transmitted: 1123035522,
			Tries: 1, Approved: true, ApprovalCode: payment.ApprovalCode{'A', '1', 'B', '2', 'C', '3'},
		}
	}
	completion, err := d.EncodeOperation(nil, owed(payment.OpCapture), i, &c)
	if err != nil {
		t.Fatal(err)
	}
	refund, err := d.EncodeOperation(nil, owed(payment.OpRefund), i, &c)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]struct {
		frame    []byte
		amount   string
		process  string
		approval string
		original string
	}{
		"sale":       {sale, "000000001051", "000000", "", ""},
		"completion": {completion, "000000000700", "000000", "A1B2C3", "010000001711230355120000097000100000970002"},
		"refund":     {refund, "000000000700", "200000", "", ""},
	} {
		var m Message
		if err := d.Unpack(&m, want.frame); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if m.MTI() != 0x0200 || string(m.Bytes(4)) != want.amount || string(m.Bytes(3)) != want.process || string(m.Bytes(38)) != want.approval || string(m.Bytes(90)) != want.original || string(m.Bytes(37)) != "632700000017" {
			t.Errorf("%s: %s %s %s %q %q %s", name, m.MTI(), m.Bytes(3), m.Bytes(4), m.Bytes(38), m.Bytes(90), m.Bytes(37))
		}
	}
}

// TestCompletionNamesItsOriginal: a dialect whose completion could be taken for
// another sale is not loaded.
func TestCompletionNamesItsOriginal(t *testing.T) {
	files := fstest.MapFS{}
	for _, name := range []string{"base-87", "ascii87", "ascii87-single"} {
		raw, err := os.ReadFile("dialects/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		files[name+".yaml"] = &fstest.MapFile{Data: raw}
	}
	whole := string(files["ascii87-single.yaml"].Data)
	for _, line := range []string{"      38: {from: approval_code, only: [completion]}\n", "      90: {from: original_data_90, only: [completion]}\n"} {
		files["ascii87-single.yaml"].Data = []byte(strings.Replace(whole, line, "", 1))
		if _, err := Load(files, "ascii87-single"); !errors.Is(err, ErrDialect) || !strings.Contains(err.Error(), "does not name its original") {
			t.Errorf("without %q: %v", strings.TrimSpace(line), err)
		}
	}
}
