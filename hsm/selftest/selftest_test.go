package selftest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

func document(t testing.TB) []byte {
	t.Helper()
	text, err := os.ReadFile("../testdata/payment-crypto.json")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func run(t testing.TB, vectors string) (lines []string, failed, checked int) {
	t.Helper()
	var out strings.Builder
	failed, checked, err := Run([]byte(vectors), &out)
	if err != nil {
		t.Fatalf("%s: %v", vectors[:min(len(vectors), 200)], err)
	}
	text := strings.TrimSuffix(out.String(), "\n")
	if text == "" {
		return nil, failed, checked
	}
	return strings.Split(text, "\n"), failed, checked
}

// Every published answer holds, every family is looked at in the document's
// order, and no two lines are of one case.
func TestPublished(t *testing.T) {
	lines, failed, checked := run(t, string(document(t)))
	for _, line := range lines {
		if f := strings.Fields(line); len(f) != 3 || f[0] != "pass" {
			t.Error(line)
		}
	}
	if failed != 0 || checked != len(lines) || checked < 70 {
		t.Errorf("%d of %d failed, %d lines", failed, checked, len(lines))
	}
	seen := map[string]bool{}
	var order []string
	for _, line := range lines {
		if seen[line] {
			t.Errorf("twice: %s", line)
		}
		seen[line] = true
		if f := strings.Fields(line)[1]; len(order) == 0 || order[len(order)-1] != f {
			order = append(order, f)
		}
	}
	var want []string
	for _, f := range families() {
		want = append(want, f.name)
	}
	if !slices.Equal(order, want) {
		t.Errorf("families %v, want %v", order, want)
	}
}

// A vector is only worth something if it can fail: every value in the document,
// changed, makes some case fail.
func TestEveryValueCounts(t *testing.T) {
	var d map[string]any
	if err := json.Unmarshal(document(t), &d); err != nil {
		t.Fatal(err)
	}
	// Words about a case, and values that its algorithm does not use.
	silent := []string{"source", "why", "about", "un", "psn", "scheme", "pad"}
	count := 0
	var walk func(path string, v any, set func(any))
	walk = func(path string, v any, set func(any)) {
		switch v := v.(type) {
		case map[string]any:
			for name, inside := range v {
				if slices.Contains(silent, name) || strings.HasSuffix(name, "refused") {
					continue
				}
				walk(path+"."+name, inside, func(x any) { v[name] = x })
			}
		case []any:
			for i, inside := range v {
				walk(fmt.Sprint(path, ".", i), inside, func(x any) { v[i] = x })
			}
		case string:
			set(changed(path, v))
			text, err := json.Marshal(d)
			if err != nil {
				t.Fatal(err)
			}
			if lines, failed, _ := run(t, string(text)); failed == 0 {
				t.Errorf("%s changed from %s: %d lines, none fails", path, v, len(lines))
			}
			set(v)
			count++
		}
	}
	walk("", d, func(any) {})
	if count < 150 {
		t.Errorf("%d values were changed", count)
	}
}

// changed turns a digit to another that is still of its kind: the second of a
// key, for the lowest bit of a DES byte means nothing.
func changed(path, s string) string {
	at := len(s) - 1
	if strings.HasSuffix(path, "key") || strings.HasSuffix(path, "bdk") || strings.HasSuffix(path, "k") {
		at = 0
	}
	if strings.HasSuffix(path, ".pan") {
		at = len(s) - 3 // the check digit is no part of most
	}
	if strings.HasSuffix(path, ".table") {
		return strings.Repeat("7", len(s))
	}
	if strings.HasSuffix(path, ".ksn") || strings.HasSuffix(path, ".counter") {
		return s[:at] + "4"
	}
	if strings.HasSuffix(path, ".data") || strings.HasSuffix(path, ".algorithm") {
		at = 0
	}
	b := []byte(s)
	if strings.HasSuffix(path, ".service_code") {
		b[at] = '7' // 002 happens to give the value of 000
	} else if b[at] == '2' {
		b[at] = '4'
	} else {
		b[at] = '2'
	}
	return string(b)
}

func TestRefusedBlocksAreLookedAt(t *testing.T) {
	for _, c := range []string{
		`{"tr31_refused":[{"kbpk":"89E88CF7931444F334BD7547FC3F380C","block":"A0072P0TE00E0000F5161ED902807AF26F1D62263644BD24192FDB3193C730301CEE8701"}]}`,
		`{"pin_block_refused":[{"format":0,"pan":"5555555551234567","block":"041261AAAAEDCBA9"}]}`,
		`{"pin_block_refused":[{"format":4,"key":"00112233445566778899AABBCCDDEEFF","pan":"1234567890123456789","block":"28B41FDDD29B743E93124BD8E32D921E"}]}`,
	} {
		if lines, failed, _ := run(t, c); failed != 1 || !strings.HasSuffix(lines[0], `1 "accepted"`) {
			t.Errorf("%s: %v", c, lines)
		}
	}
	if lines, failed, _ := run(t, `{"pin_block_refused":[{"format":4,"key":"00112233445566778899AABBCCDDEEFF","pan":"1234567890123456780","block":"28B41FDDD29B743E93124BD8E32D921E"}]}`); failed != 0 {
		t.Error(lines)
	}
}

// Further published answers in the same format, of parts that the document has
// no case of: EMV with padding 2 and both answers, a counter of ten ones, AES-192,
// single DES, formats and lengths of PIN blocks.
func TestFurther(t *testing.T) {
	for _, c := range []string{
		`{"emv":{"imk":"0123456789ABCDEFFEDCBA9876543210","pan":"1234567890123456","psn":"00","atc":"001C",
		  "data":"0000000040000000000000000124800004800001241911050152BF45851800001C06011203A0B800",
		  "cases":[{"scheme":"Visa CVN18, pad 2","arqc":"7A788EA6B8A3E733"}],
		  "arpc":[{"method":2,"scheme":"CSKD","csu":"00000000","arqc":"7A788EA6B8A3E733","arpc":"9AF514C1"},
		          {"method":1,"scheme":"Mastercard SKD","un":"ABCDEF12","arc":"0000","arqc":"18932FECA2D84326","arpc":"4DF171A49396C363"}]}}`,
		`{"emv":[{"imk":"0123456789ABCDEFFEDCBA9876543210","pan":"000000000000000005","psn":"23","atc":"001C",
		  "cases":[{"scheme":"CSKD, option B","data":"0000000040000000000000000124800004800001241911050152BF45851800001C06011203A0B800","arqc":"8CAD6F2489C640B1"}],
		  "arpc":[{"method":2,"scheme":"CSKD, option B","csu":"00000000","proprietary":"12345678","arqc":"8CAD6F2489C640B1","arpc":"E39F1876"}]}]}`,
		`{"dukpt_tdes":{"bdk":"0123456789ABCDEFFEDCBA9876543210","clear_pin_block":"041274EDCBA9876F",
		  "cases":[{"ksn":"FFFF9876543210EFF801","pin":"3A86BF003F835C9D"},{"ksn":"FFFF9876543210E20000","pin":"83F14581B8946B2D"}]}}`,
		`{"dukpt_aes":{"bdk":"FEDCBA9876543210F1F1F1F1F1F1F1F1","initial_key_id":"1234567890123456","cases":[{"counter":"00845FED","pin_key":"D1DDA386AA4A556AF0119FDCB5D132C6"}]}}`,
		`{"cmac":[{"algorithm":"AES-192","key":"8E73B0F7DA0E6452C810F32B809079E562F8EAD2522C6B7B","message":"6BC1BEE22E409F96E93D7E117393172A","mac":"9E99A7BF31E710900662F65E617C5184"}]}`,
		`{"pin_block_clear":[{"format":2,"pin":"1234","block":"241234FFFFFFFFFF"},{"format":3,"pin":"123456","pan":"2223334445550","fill":"AFBECDDC","block":"361216759CFA8889"},
		  {"format":0,"pin":"1234","pan":"43219876543210987","block":"0412AC89ABCDEF67"},{"format":1,"pin":"1234","fill":"6F789ABCDE","block":"1412346F789ABCDE"}]}`,
		`{"kcv_tdes":[{"key":"0123456789ABCDEF","kcv":"D5D44FF720683D0D"}]}`,
		`{"tr31":[{"kbpk":"4141414141414141414141414141414141414141414141414141414141414141","key":"1FA1F7CEC798D91545DA8AE0C7796BD9",
		  "block":"D0112B0TN00N000037DB9B046B7B0048785690759580ABC3B9842AB4BB7717B49E92528E575785D8123559376A2553B27BE94F054F4E971C"}]}`,
	} {
		lines, failed, checked := run(t, c)
		if failed != 0 || checked == 0 {
			t.Errorf("%s", strings.Join(lines, "\n"))
		}
	}
}

func TestBadDocuments(t *testing.T) {
	for _, c := range []string{"", "x", "[]", `"text"`, `{"tr31":`, `{"tr31":[]`, `{} {}`, `{}x`, "{\"a\":1,}"} {
		if _, _, err := Run([]byte(c), &strings.Builder{}); !errors.Is(err, ErrDocument) {
			t.Errorf("%q: %v", c, err)
		}
	}
	if _, _, err := Run(make([]byte, maxBytes+1), &strings.Builder{}); !errors.Is(err, ErrDocument) {
		t.Errorf("huge: %v", err)
	}
	if _, _, err := Run(document(t), full{}); !errors.Is(err, errFull) {
		t.Errorf("nowhere to print: %v", err)
	}
}

var errFull = errors.New("disk full")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }

// What is malformed fails with its reason, what is unknown is skipped, and
// neither is ever a pass.
func TestLines(t *testing.T) {
	for _, c := range []struct{ document, want string }{
		{`{}`, ""},
		{`{"about":"x"}`, ""},
		{`{"rsa":[{"n":"01"}]}`, "skip rsa"},
		{`{"two words":[]}`, "skip two_words"},
		{`{"about":"x","new\nline":1,"cvv":[]}`, "skip new_line|fail cvv document \"no case\""},
		{`{"cvv":7}`, `fail cvv document "case 1 is not an object"`},
		{`{"cvv":null}`, `fail cvv document "case 1 is not an object"`},
		{`{"cvv":[null]}`, `fail cvv document "case 1 is not an object"`},
		{`{"cvv":[7]}`, `fail cvv document "case 1 is not an object"`},
		{`{"cvv":[{}]}`, `fail cvv 1 "no cvk"`},
		{`{"tr31":[{}]}`, `fail tr31 1 "no block"`},
		{`{"tr31":[{"block":"E0016","key":"","kbpk":"0123456789ABCDEFFEDCBA9876543210"}]}`, `fail tr31 1 "key block version does not fit"`},
		{`{"tr31_refused":[{"block":"E0016","kbpk":"0123456789ABCDEFFEDCBA9876543210"}]}`, `pass tr31_refused 1`},
		{`{"tr31_refused":[{"block":"A0016","kbpk":"zz"}]}`, `fail tr31_refused 1 "kbpk is not hexadecimal"`},
		{`{"kcv_tdes":[{"key":"0123","kcv":"08D7B4"}]}`, `fail kcv_tdes 1 "key: impossible key length"`},
		{`{"kcv_tdes":[{"key":"0123456789ABCDEFFEDCBA9876543210","kcv":""}]}`, `fail kcv_tdes 1 "the case shows nothing"`},
		{`{"mac_iso9797":[{"algorithm":"2","key":"00","mac":"00","text":"x","padding":1}]}`, `fail mac_iso9797 1 "unknown algorithm \"2\""`},
		{`{"mac_iso9797":[{"algorithm":"1","key":"0123456789ABCDEF","mac":"00000000","text":"x","padding":true}]}`, `fail mac_iso9797 1 "padding is neither text nor a number"`},
		{`{"cmac":[{"algorithm":"SHA-1","key":"00","message":"00","mac":"BB"}]}`, `fail cmac 1 "unknown algorithm \"SHA-1\""`},
		{`{"cmac":{"message":"00","cases":[{"algorithm":"AES-128","key":"2B7E151628AED2A6ABF7158809CF4F3C","bytes":2,"mac":"BB"}]}}`, `fail cmac 1 "the case shows nothing"`},
		{`{"emv":{"pan":"1","cases":[{"scheme":"Galactic"}]}}`, `fail emv 1.arqc "unknown scheme \"Galactic\""`},
		{`{"emv":{"imk":"00"}}`, `fail emv document "no case"`},
		{`{"dukpt_aes":{}}`, `fail dukpt_aes document "no case"`},
		{`{"dukpt_aes":{"x":{"bdk":"00"}}}`, `fail dukpt_aes x.bdk "bdk: impossible key length"`},
		{`{"dukpt_tdes":{"bdk":"0123456789ABCDEF"}}`, `fail dukpt_tdes 1.bdk "not a base derivation key of this method"`},
		{`{"pin_block_clear":[{"format":9,"pin":"12x4","pan":"4111111111111111","block":"00"}]}`, `fail pin_block_clear 1 "pin: PIN block refused"`},
		{`{"pin_block_clear":[{"format":-1,"pin":"1234","pan":"4111111111111111","block":"00"}]}`, `fail pin_block_clear 1 "format is not a number"`},
		{`{"pin_block_clear":[{"format":3,"pin":"1234","pan":"5555555551234567","fill":"","block":"341261AAAAEDCBA9"}]}`, `fail pin_block_clear 1 "the source of randomness failed"`},
	} {
		lines, failed, checked := run(t, c.document)
		if got := strings.Join(lines, "|"); got != c.want {
			t.Errorf("%s:\n%s\nwant %s", c.document, got, c.want)
		}
		if strings.Count(c.want, "fail ") != failed || strings.Count(c.want, "fail ")+strings.Count(c.want, "pass ") != checked {
			t.Errorf("%s: %d of %d", c.document, failed, checked)
		}
	}
}

// FuzzRun: no document panics.
func FuzzRun(f *testing.F) {
	f.Add([]byte(`{"about":"x","tr31":[{"kbpk":"DD7515F2BFC17F85CE48F3CA25CB21F6","block":"B0080P0TE00E000094B420079CC80BA3461F86FE26EFC4A3B8E4FA4C5F5341176EED7B727B8A248E","key":"3F419E1CB7079442AA37474C2EFBF8B8"}],"x":1}`))
	f.Add([]byte(`{"pin_block_clear":[{"format":3,"pin":"1234","pan":"5555555551234567","fill":"F","block":"341261AAAAEDCBA9"}]}`))
	f.Add([]byte(`{"emv":{"cases":[{"scheme":"SKD","un":"00","pan":"1"}],"arpc":[{"method":2}]}}`))
	f.Add([]byte(`{"dukpt_aes":{"x":{"bdk":"FEDCBA9876543210F1F1F1F1F1F1F1F1","cases":[{"counter":"01","key":""}]}}}`))
	f.Fuzz(func(t *testing.T, vectors []byte) {
		failed, checked, err := Run(vectors, &strings.Builder{})
		if failed > checked || err != nil && !errors.Is(err, ErrDocument) {
			t.Errorf("%d of %d, %v", failed, checked, err)
		}
	})
}
