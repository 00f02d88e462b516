package issuer

import (
	"bytes"
	"crypto/des"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"authswitch/hsm/key"
	"authswitch/hsm/mac"
)

type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func tdes(t testing.TB, b []byte) *key.Key {
	t.Helper()
	k, err := key.New(key.TDES, b)
	if err != nil {
		t.Fatal(err)
	}
	return &k
}

func TestVectors(t *testing.T) {
	text, err := os.ReadFile("../testdata/payment-crypto.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		CVV []struct {
			CVK         hexBytes
			PAN, Expiry string
			Service     string `json:"service_code"`
			CVV         string
		}
		PVV []struct {
			PVK                 hexBytes
			PVKI, PIN, PAN, PVV string
		}
		IBM []struct {
			PVK                          hexBytes
			Table, Offset, PAN, Pad, PIN string
			Start, Length                int
		} `json:"ibm3624"`
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.CVV) == 0 || len(v.PVV) == 0 || len(v.IBM) == 0 {
		t.Fatal("no vectors")
	}
	for i, c := range v.CVV {
		got, err := CVV(tdes(t, c.CVK), []byte(c.PAN), []byte(c.Expiry), []byte(c.Service))
		expect(t, fmt.Sprint("cvv ", i), got, err, c.CVV)
	}
	for i, c := range v.PVV {
		got, err := PVV(tdes(t, c.PVK), c.PVKI[0], []byte(c.PAN), []byte(c.PIN))
		expect(t, fmt.Sprint("pvv ", i), got, err, c.PVV)
	}
	for i, c := range v.IBM {
		table, err := ParseTable([]byte(c.Table))
		if err != nil {
			t.Fatal(err)
		}
		got, err := IBM3624(tdes(t, c.PVK), table, Validation{c.Start, c.Length, c.Pad[0]}, []byte(c.PAN), []byte(c.Offset))
		expect(t, fmt.Sprint("ibm3624 ", i), got, err, c.PIN)
	}
}

func expect(t *testing.T, name string, got Code, err error, want string) {
	t.Helper()
	if err != nil || !got.Equal([]byte(want)) {
		t.Errorf("%s: %q %v, want %s", name, got.Reveal(), err, want)
	}
	for i := range want {
		wrong := []byte(want)
		wrong[i] = '0' + (wrong[i]-'0'+1)%10
		if got.Equal(wrong) {
			t.Errorf("%s equals %s", name, wrong)
		}
	}
	if got.Equal([]byte(want[1:])) || got.Equal([]byte(want+"0")) || got.Equal(nil) {
		t.Errorf("%s equals another number of digits", name)
	}
}

// CVV by the steps of the schemes' manuals, for every length of account number.
func TestCVVByItsSteps(t *testing.T) {
	cvk := unhex(t, "0123456789ABCDEFFEDCBA9876543210")
	left, err := des.NewCipher(cvk[:8])
	if err != nil {
		t.Fatal(err)
	}
	right, err := des.NewCipher(cvk[8:])
	if err != nil {
		t.Fatal(err)
	}
	for n := 8; n <= 19; n++ {
		pan := "4123456789012345678"[:n]
		data := unhex(t, (pan + "2712" + "101" + strings.Repeat("0", 32))[:32])
		block := data[:8]
		left.Encrypt(block, block)
		for i := range block {
			block[i] ^= data[8+i]
		}
		left.Encrypt(block, block)
		right.Decrypt(block, block)
		left.Encrypt(block, block)
		text := fmt.Sprintf("%x", block)
		want := strings.Map(func(r rune) rune { return map[bool]rune{true: r, false: -1}[r <= '9'] }, text) +
			strings.Map(func(r rune) rune { return map[bool]rune{true: r - 'a' + '0', false: -1}[r > '9'] }, text)
		got, err := CVV(tdes(t, cvk), []byte(pan), []byte("2712"), []byte("101"))
		expect(t, pan, got, err, want[:3])
	}
}

func TestBadInput(t *testing.T) {
	double, single, triple := tdes(t, make([]byte, 16)), tdes(t, make([]byte, 8)), tdes(t, make([]byte, 24))
	pan, table := []byte("4111111111111111"), Table([]byte("0123456789012345"))
	v := Validation{0, 16, 'F'}
	failure := func(_ any, err error) error { return err }
	for _, c := range []struct {
		name string
		err  error
		want error
	}{
		{"cvv: short number", failure(CVV(double, pan[:7], []byte("2712"), []byte("101"))), ErrInput},
		{"cvv: long number", failure(CVV(double, []byte("41111111111111111111"), []byte("2712"), []byte("101"))), ErrInput},
		{"cvv: expiry", failure(CVV(double, pan, []byte("27"), []byte("101"))), ErrInput},
		{"cvv: service", failure(CVV(double, pan, []byte("2712"), []byte("1O1"))), ErrInput},
		{"cvv: single key", failure(CVV(single, pan, []byte("2712"), []byte("101"))), ErrKey},
		{"pvv: index", failure(PVV(double, 'A', pan, []byte("1234"))), ErrInput},
		{"pvv: PIN", failure(PVV(double, '1', pan, []byte("123"))), ErrInput},
		{"pvv: number", failure(PVV(double, '1', pan[:11], []byte("1234"))), ErrInput},
		{"pvv: triple key", failure(PVV(triple, '1', pan, []byte("1234"))), ErrKey},
		{"ibm: beyond the number", failure(IBM3624(double, table, Validation{1, 16, 'F'}, pan, []byte("0000"))), ErrInput},
		{"ibm: before it", failure(IBM3624(double, table, Validation{-1, 4, 'F'}, pan, []byte("0000"))), ErrInput},
		{"ibm: nothing of it", failure(IBM3624(double, table, Validation{0, 0, 'F'}, pan, []byte("0000"))), ErrInput},
		{"ibm: pad", failure(IBM3624(double, table, Validation{0, 8, 'G'}, pan, []byte("0000"))), ErrInput},
		{"ibm: offset", failure(IBM3624(double, table, v, pan, []byte("00x0"))), ErrInput},
		{"ibm: table", failure(IBM3624(double, Table{}, v, pan, []byte("0000"))), ErrInput},
		{"ibm: key", failure(IBM3624(&key.Key{}, table, v, pan, []byte("0000"))), ErrKey},
		{"table: short", failure(ParseTable([]byte("012345678901234"))), ErrInput},
		{"table: letter", failure(ParseTable([]byte("012345678901234A"))), ErrInput},
		{"emv: key", failure(SessionKey(triple, Chip{PAN: pan})), ErrKey},
		{"emv: number", failure(SessionKey(double, Chip{PAN: pan[:5]})), ErrInput},
		{"emv: sequence", failure(SessionKey(double, Chip{PAN: pan, Sequence: []byte("1")})), ErrInput},
		{"emv: master", failure(SessionKey(double, Chip{PAN: pan, Master: 2})), ErrInput},
		{"emv: session", failure(SessionKey(double, Chip{PAN: pan, Session: 3})), ErrInput},
		{"emv: cryptogram", failure(Cryptogram(triple, mac.OneAndZeros, nil)), mac.ErrAlgorithm},
		{"emv: answer 1", failure(Answer1(single, [8]byte{}, [2]byte{})), ErrKey},
		{"emv: answer 2", failure(Answer2(double, [8]byte{}, [4]byte{}, make([]byte, 9))), ErrInput},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v", c.name, c.err)
		}
	}
}

func TestTable(t *testing.T) {
	for _, c := range []struct {
		text string
		want int
	}{{"0123456789012345", 10}, {"1234567890123456", 10}, {"0000000000000000", 1}, {"0123456701234567", 8}, {"0123456012345601", 7}} {
		table, err := ParseTable([]byte(c.text))
		if err != nil || table.Different() != c.want {
			t.Errorf("%s: %d %v", c.text, table.Different(), err)
		}
		for i := range byte(16) {
			if table.at(i) != c.text[i] {
				t.Errorf("%s at %d: %c", c.text, i, table.at(i))
			}
		}
	}
}

// Published answers of an issuer's host: Visa CVN 10 and 18, Mastercard session
// keys, both ways to a card's key, both methods of an answer. data is what the
// card signed.
func TestEMV(t *testing.T) {
	imk := "0123456789ABCDEFFEDCBA9876543210"
	ctq := "0000000040000000000000000124800004800001241911050152BF45851800001C"
	for _, c := range []struct {
		name     string
		imk      string
		chip     Chip
		kcv      string
		padding  mac.Padding
		data     string
		arqc     string
		arc, csu string
		auth     string
		arpc     string
	}{
		{"CVN 10", imk, Chip{PAN: []byte("1234567890123456"), Sequence: []byte("00"), ATC: [2]byte{0, 0x1C}}, "BAB0", mac.Zeros, ctq + "03A06010", "29CCA15AE665FA2E", "3030", "", "", "28993816AFAE4AEB"},
		{"CVN 18", imk, Chip{PAN: []byte("1234567890123456"), ATC: [2]byte{0, 0x1C}, Session: CommonSession}, "22C8", mac.OneAndZeros, ctq + "06011203A0B800", "7A788EA6B8A3E733", "", "00000000", "", "9AF514C1"},
		{"SKD", imk, Chip{PAN: []byte("1234567890123456"), ATC: [2]byte{0, 0x1C}, UN: [4]byte{0xAB, 0xCD, 0xEF, 0x12}, Session: MastercardSKD}, "2FD5", 0, "", "18932FECA2D84326", "0000", "", "", "4DF171A49396C363"},
		{"option A, 17 digits", imk, Chip{PAN: []byte("12345678901234567"), Sequence: []byte("45")}, "FF08", 0, "", "19C1FBC83EBDC0D5", "0000", "", "", "78A372523FA35A03"},
		{"option A, no sequence", imk, Chip{PAN: []byte("12345678901234567")}, "", 0, "", "8698A7319324FD93", "0000", "", "", "BEA11C8F4A47EF6F"},
		{"option B, 16 digits", imk, Chip{PAN: []byte("1234567890123456"), Master: OptionB}, "BAB0", 0, "", "", "", "", "", ""},
		{"option B, 17 digits", imk, Chip{PAN: []byte("12345678901234567"), Sequence: []byte("45"), Master: OptionB}, "0BAF", 0, "", "", "", "", "", ""},
		{"option B, 17, no sequence", imk, Chip{PAN: []byte("12345678901234567"), Master: OptionB}, "4626", 0, "", "", "", "", "", ""},
		{"option B, 18 digits", imk, Chip{PAN: []byte("123456789012345679"), Sequence: []byte("00"), Master: OptionB}, "C2F3", 0, "", "", "", "", "", ""},
		{"option B, letters in the hash", imk, Chip{PAN: []byte("000000000000000005"), Sequence: []byte("23"), Master: OptionB}, "DD73", 0, "", "", "", "", "", ""},
		{"and its session", imk, Chip{PAN: []byte("000000000000000005"), Sequence: []byte("23"), ATC: [2]byte{0, 0x1C}, Master: OptionB, Session: CommonSession}, "04F8", mac.OneAndZeros, ctq + "06011203A0B800", "8CAD6F2489C640B1", "", "00000000", "12345678", "E39F1876"},
		{"project, CVN 10", "12345678123456781234567812345678", Chip{PAN: []byte("1234567890123456"), ATC: [2]byte{0x34, 0x56}}, "", mac.Zeros, "000000010000000000001000084000000010800840980704001111111158003456A08003242000", "26C8A1042D1CAF3E", "3030", "", "", "98DE7C7B3D80A831"},
		{"project, common", "12345678123456781234567812345678", Chip{PAN: []byte("1234567890123456"), ATC: [2]byte{0x34, 0x56}, Session: CommonSession}, "", mac.Zeros, "000000010000000000001000084000000010800840980704001111111158003456A08003242000", "36DBEE15F36B1E7F", "", "", "", ""},
	} {
		session, err := SessionKey(tdes(t, unhex(t, c.imk)), c.chip)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		check(t, c.name+" KCV", zeros(t, &session)[:len(c.kcv)/2], c.kcv)
		if !session.OddParity() {
			t.Errorf("%s: even parity", c.name)
		}
		arqc := unhex(t, c.arqc)
		if c.data != "" {
			got, err := Cryptogram(&session, c.padding, unhex(t, c.data))
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			check(t, c.name+" ARQC", got[:], c.arqc)
		}
		if c.arc != "" {
			got, err := Answer1(&session, [8]byte(arqc), [2]byte(unhex(t, c.arc)))
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			check(t, c.name+" ARPC 1", got[:], c.arpc)
		}
		if c.csu != "" {
			got, err := Answer2(&session, [8]byte(arqc), [4]byte(unhex(t, c.csu)), unhex(t, c.auth))
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			check(t, c.name+" ARPC 2", got[:], c.arpc)
		}
	}
}

func zeros(t *testing.T, k *key.Key) []byte {
	t.Helper()
	c, err := k.Cipher()
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, 8)
	c.Encrypt(out, out)
	return out
}

func check(t *testing.T, name string, got []byte, want string) {
	t.Helper()
	if !bytes.Equal(got, unhex(t, want)) {
		t.Errorf("%s: %X, want %s", name, got, want)
	}
}

func TestNothingPrintsACode(t *testing.T) {
	c, err := PVV(tdes(t, unhex(t, "0123456789ABCDEFFEDCBA9876543210")), '1', []byte("1122334455667788"), []byte("4524"))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{c, &c, []Code{c}, struct{ C Code }{c}} {
		var out strings.Builder
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
			fmt.Fprintf(&out, verb, v)
		}
		slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{} // its digits are now and then the code's
			}
			return a
		}})).Info("x", "c", v)
		if _, err := json.Marshal(v); err == nil {
			t.Errorf("%T was marshalled", v)
		}
		for _, mark := range []string{"8523", "38353233", "56 53 50 51", "0x38, 0x35"} {
			if strings.Contains(out.String(), mark) {
				t.Errorf("%T shows the code: %s", v, out.String())
			}
		}
	}
	c.Wipe()
	if c != (Code{}) || c.Equal(nil) {
		t.Error("a code is left")
	}
}

// FuzzIssuer: nothing panics on any input.
func FuzzIssuer(f *testing.F) {
	f.Add([]byte("4111111111111111"), []byte("2712"), []byte("101"), 0, 16, byte('F'))
	f.Add([]byte("1122334455667788"), []byte("4524"), []byte("00"), 3, 8, byte('1'))
	f.Fuzz(func(t *testing.T, pan, a, b []byte, start, length int, pad byte) {
		k := tdes(t, []byte("0123456789abcdef"))
		table := Table([]byte("0123456789012345"))
		if c, err := CVV(k, pan, a, b); err == nil && c.Len() != 3 {
			t.Errorf("a CVV of %d digits", c.Len())
		}
		if c, err := PVV(k, pad, pan, a); err == nil && c.Len() != 4 {
			t.Errorf("a PVV of %d digits", c.Len())
		}
		if c, err := IBM3624(k, table, Validation{start, length, pad}, pan, a); err == nil && c.Len() != len(a) {
			t.Errorf("a PIN of %d digits", c.Len())
		}
		_, _ = SessionKey(k, Chip{PAN: pan, Sequence: b, Master: MasterMethod(pad % 3), Session: SessionMethod(pad % 4)})
	})
}
