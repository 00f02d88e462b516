package batch

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"authswitch/card"
	"authswitch/payment"
)

func id(n int) (id payment.ID) {
	copy(id[:], fmt.Sprintf("%016d", n))
	return id
}

// shop is a journal with ten captured payments of 1000, and what was written.
type shop struct {
	known   map[string]payment.Batch // by key or fingerprint
	begun   payment.Batch
	lines   []payment.BatchLine
	sealed  bool
	broken  error
	answers payment.BatchRefusal
}

func payments(n int) payment.Payment {
	i := payment.Intent{ID: id(n), Merchant: "parcels", Reference: fmt.Appendf(nil, "ORDER-%d", n), Link: payment.LinkName("visa-" + string(rune('a'+n%2))), Scheme: payment.Visa, BIN: []byte("41111111"), Last4: [4]byte{'1', '1', '1', '1'}}
	i.BlindIndex = index([]byte("4111111111111111"))
	return payment.Payment{State: payment.StateApproved, Intent: i}
}

func index(number []byte) [32]byte { return sha256.Sum256(number) }

func (s *shop) Payment(x payment.ID) (payment.Payment, error) {
	n, err := strconv.Atoi(string(x[:]))
	if err != nil || n < 1 || n > 10 {
		return payment.Payment{}, payment.ErrNotFound
	}
	return payments(n), s.broken
}

func (s *shop) Operation(x payment.ID) (payment.Operation, error) {
	if x[0] != 'c' {
		return payment.Operation{}, payment.ErrNotFound
	}
	n := int(x[1])
	own := payments(n)
	return payment.Operation{
		ID: x, Kind: payment.OpCapture, Payment: own.Intent.ID, Merchant: "parcels", State: payment.OperationDone, Amount: payment.Amount{Value: 1000, Currency: 978}, Link: own.Intent.Link,
	}, nil
}

func (s *shop) Operations(x payment.ID) ([]payment.Operation, error) {
	n, _ := strconv.Atoi(string(x[:]))
	o, err := s.Operation(payment.ID{'c', byte(n)})
	return []payment.Operation{o}, err
}

func (s *shop) ByReference(_ payment.MerchantID, reference []byte) ([]payment.ID, error) {
	n, _ := strconv.Atoi(strings.TrimPrefix(string(reference), "ORDER-"))
	return []payment.ID{id(n)}[:min(1, n)], nil
}

func (s *shop) BatchBy(_ payment.MerchantID, fingerprint [32]byte, key []byte) (payment.Batch, error) {
	at := string(key)
	if at == "" {
		at = string(fingerprint[:])
	}
	if b, ok := s.known[at]; ok {
		return b, nil
	}
	return payment.Batch{}, payment.ErrNotFound
}

func (s *shop) BeginBatch(b *payment.Batch) (payment.BatchAnswer, error) {
	s.begun, s.lines, s.sealed = *b, nil, false
	return payment.BatchAnswer{Refused: s.answers, Batch: *b}, nil
}

func (s *shop) PutBatchLines(_ payment.ID, _ uint32, _ uint8, lines []payment.BatchLine) (payment.BatchAnswer, error) {
	s.lines = append(s.lines, lines...)
	return payment.BatchAnswer{}, nil
}

func (s *shop) SealBatch(payment.ID) (payment.BatchAnswer, error) {
	s.sealed = true
	s.known[string(s.begun.Fingerprint[:])] = s.begun
	if len(s.begun.Key) > 0 {
		s.known[string(s.begun.Key)] = s.begun
	}
	return payment.BatchAnswer{Batch: s.begun}, nil
}

func (s *shop) ActOnBatch(*payment.BatchAct) (payment.BatchAnswer, error) {
	return payment.BatchAnswer{Refused: s.answers}, nil
}

func (s *shop) Tagged(_ payment.MerchantID, tag []byte, behind payment.ID, limit int) (ids []payment.ID, more bool, err error) {
	for n := 1; n <= 10 && string(tag) == "show"; n++ {
		if x := id(n); string(x[:]) > string(behind[:]) {
			if len(ids) == limit {
				return ids, true, nil
			}
			ids = append(ids, x)
		}
	}
	return ids, false, nil
}

func openShop(t testing.TB, cfg Config) (*shop, *Taker) {
	s := &shop{known: map[string]payment.Batch{}}
	n := 0
	taker, err := NewTaker(cfg, Deps{
		Records: s, Writer: s, Tags: s, CatchUp: func() error { return nil }, Index: func(p *card.PAN) [32]byte { return index(p.RevealPAN()) },
		Refunds: func(l payment.LinkName) bool { return l != "" }, Mint: func() payment.ID { n++; return id(1000 + n) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, taker
}

func auth(n int) string { x := id(n); return string(x.Append(nil, payment.AuthorizationPrefix)) }

func refusalOf(t testing.TB, err error) *Refusal {
	t.Helper()
	r, ok := errors.AsType[*Refusal](err)
	if !ok {
		t.Fatalf("no refusal: %v", err)
	}
	return r
}

// TestTake: what a good file becomes, whatever its layout.
func TestTake(t *testing.T) {
	for name, file := range map[string]string{
		"csv":              "payment,amount,currency,comment\n" + auth(1) + ",600,EUR,\"a, \"\"b\"\"\"\r\n" + auth(2) + ",1000,EUR,\n#end,2,1600\n",
		"other order":      "Currency, AMOUNT ,order,card,comment\nEUR,600,ORDER-1,4111111111111111,\"a, \"\"b\"\"\"\nEUR,1000,ORDER-2,411111XXXXXX1111,\n#end,2",
		"platform":         "600;EUR;VISA;4111111111111111;1230;ORDER-1;\"a, \"\"b\"\"\";A. Name;;refund\n1000;EUR;;;;;;;" + auth(2) + ";REFUND\n#end;2;1600\n",
		"byte order mark":  "\xef\xbb\xbfpayment,amount,currency,comment\r\n" + auth(1) + ",600,EUR,\"a, \"\"b\"\"\"\r\n" + auth(2) + ",1000,EUR,\r\n#end,2\r\n",
		"platform, headed": "amount;currency;brand;card;expiry;order;comment;name;payment;operation\n600;EUR;;;12/30;ORDER-1;\"a, \"\"b\"\"\";;;\n1000;EUR;;;;ORDER-2;;;" + auth(2) + ";credit\n#end;2\n",
	} {
		s, taker := openShop(t, Config{})
		b, err := taker.Take(&File{Merchant: "parcels", Gateway: "shop", Key: []byte("k"), Body: []byte(file)})
		if err != nil {
			t.Fatalf("%s: %v %+v", name, err, refusalOf(t, err).Faults)
		}
		if !s.sealed || b.Lines != 2 || b.Needs != 1 || len(b.Lanes) != 2 || !slices.Equal(b.Totals, []payment.Amount{{Value: 1600, Currency: 978}}) || len(s.lines) != 2 || string(s.lines[0].Text) != `a, "b"` {
			t.Errorf("%s: %+v %+v", name, b, s.lines)
		}
		if _, err := taker.Take(&File{Merchant: "parcels", Gateway: "shop", Key: []byte("other"), Body: []byte(file)}); refusalOf(t, err).Code != CodeDuplicate {
			t.Errorf("%s, again: %v", name, err)
		}
		if _, err := taker.Take(&File{Merchant: "parcels", Gateway: "shop", Key: []byte("k"), Body: []byte(strings.Replace(file, "600", "500", 1)), Lines: 2}); refusalOf(t, err).Code == CodeDuplicate {
			t.Errorf("%s, another with the same key: %v", name, err)
		}
	}
}

// TestLimits: one more than there may be, and a place for one file at a time.
func TestLimits(t *testing.T) {
	s, taker := openShop(t, Config{Lines: 2, ReleaseLimit: 1599, Uploads: 1})
	file := "payment,amount,currency\n" + auth(1) + ",600,EUR\n" + auth(2) + ",1000,EUR\n"
	f := File{Merchant: "parcels", Body: []byte(file + auth(3) + ",1,EUR\n"), Lines: 3}
	if _, err := taker.Take(&f); refusalOf(t, err).Code != CodeTooMany || s.begun.Lines != 0 {
		t.Errorf("%v", err)
	}
	f = File{Merchant: "parcels", Body: []byte(file), Lines: 2, DryRun: true}
	if b, err := taker.Take(&f); err != nil || b.Needs != 2 || !b.ID.IsZero() || s.sealed {
		t.Errorf("%v %+v", err, b)
	}
	sum := sha256.Sum256([]byte(file))
	f = File{Merchant: "parcels", Body: []byte(strings.TrimSuffix(file, "\n")), Digest: sum[:]}
	if _, err := taker.Take(&f); refusalOf(t, err).Code != CodeChecksum {
		t.Errorf("%v", err)
	}
	f.Body = []byte(file)
	if _, err := taker.Take(&f); err != nil {
		t.Errorf("%v", err)
	}
	taker.busy <- struct{}{}
	if _, err := taker.Take(&f); !errors.Is(err, payment.ErrBusy) {
		t.Errorf("%v", err)
	}
	<-taker.busy
	s.broken = payment.ErrUnavailable
	if _, err := taker.Take(&File{Merchant: "parcels", Body: []byte(file + "#end,2\n")}); !errors.Is(err, payment.ErrUnavailable) {
		t.Errorf("a journal that cannot be read is no fault of a line: %v", err)
	}
	if _, err := NewTaker(Config{Step: 65, Rate: -1}, Deps{}); err == nil {
		t.Error("a configuration out of its bounds is taken")
	}
}

// TestTagged: all that is left, once.
func TestTagged(t *testing.T) {
	s, taker := openShop(t, Config{})
	v, err := taker.TakeTagged(&Tagged{Merchant: "parcels", Tag: []byte("show"), Preview: true})
	if err != nil || v.Payments != 10 || v.Batch.Lines != 10 || s.sealed {
		t.Fatalf("%v %+v", err, v)
	}
	x := &Tagged{Merchant: "parcels", Tag: []byte("show"), Key: []byte("k"), Reason: []byte("cancelled")}
	if v, err = taker.TakeTagged(x); err != nil || !s.sealed || len(s.lines) != 10 || string(s.lines[0].Text) != "cancelled" {
		t.Fatalf("%v %+v", err, v)
	}
	if _, err = taker.TakeTagged(x); refusalOf(t, err).Code != CodeDuplicate {
		t.Errorf("%v", err)
	}
	if _, err = taker.TakeTagged(&Tagged{Merchant: "parcels", Tag: []byte("nothing"), Key: []byte("l")}); refusalOf(t, err).Code != CodeNothing {
		t.Errorf("%v", err)
	}
	if _, err = taker.TakeTagged(&Tagged{Merchant: "parcels", Tag: []byte("other"), Key: []byte("k")}); refusalOf(t, err).Code != CodeKey {
		t.Errorf("%v", err)
	}
}

// FuzzTake: no file panics, is taken in part, or has its card number told.
func FuzzTake(f *testing.F) {
	f.Add("payment,amount,currency\n" + auth(1) + ",600,EUR\n#end,1\n")
	f.Add("600;EUR;VISA;4111111111111111;1230;ORDER-1;\"x\";A;;refund\n#end;1;600\n")
	f.Add("\"payment\",amount,currency\n\"\"\",1,\"EUR\"\n")
	f.Fuzz(func(t *testing.T, file string) {
		s, taker := openShop(t, Config{})
		b, err := taker.Take(&File{Merchant: "parcels", Gateway: "shop", Body: []byte(file)})
		switch {
		case err == nil && (!s.sealed || int(b.Lines) != len(s.lines) || b.Lines == 0):
			t.Errorf("taken in part: %+v", b)
		case err != nil && s.sealed:
			t.Errorf("refused and taken: %v", err)
		case err == nil:
			return
		}
		said := refusalOf(t, err).Error()
		for _, fault := range refusalOf(t, err).Faults {
			said += fault.Detail + fault.Column + fault.Code
		}
		if strings.Contains(said, "4111111111111111") {
			t.Errorf("the card number is told: %s", said)
		}
	})
}
