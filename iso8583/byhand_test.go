package iso8583

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// rules are how a dialect writes numbers, text and lengths, as its source says
// (ISO 8583:1987 §4 and annex; for the schemes what docs and reference list as
// public). They are typed here once more, in other words than the dialect file's,
// so that a golden trace is held to the rule and not to the compiled dialect.
type rules struct {
	numbers string // char: a character a digit; bcd: two digits a byte, a zero on the left where they are odd
	text    string // ascii or ebcdic
	length  string // char: two characters; bcd: one byte of two digits; bin: one byte. It counts digits or characters
	bitmap  string // bin, or hex: sixteen characters
	edition string // 87, 93, 03: which elements hold local time and code, how wide they are
	except  map[int]string
}

func byHand() map[string]rules {
	ascii := rules{"char", "ascii", "char", "bin", "87", nil}
	ebcdic := rules{"char", "ebcdic", "char", "bin", "93", nil}
	hexed := func(r rules) rules { r.bitmap = "hex"; return r }
	of := func(r rules, edition string) rules { r.edition = edition; return r }
	return map[string]rules{
		"ascii87": ascii, "ascii87-single": ascii, "ancv": hexed(ascii), "unionpay": ascii, "ifsf": of(ascii, "93"), "iso93": hexed(of(ascii, "93")),
		"amex": ebcdic, "discover": ebcdic,
		"mastercard": {"char", "ebcdic", "char", "bin", "87", map[int]string{70: "f0f6f1"}}, // 061: sign-on of a group
		"bcd87":      {"bcd", "ascii", "bcd", "bin", "87", nil},
		"as2805":     {"bcd", "ascii", "bcd", "bin", "87", nil},
		"cb":         {"bcd", "ascii", "bin", "bin", "87", nil},
		"visa":       {"bcd", "ebcdic", "bin", "bin", "87", map[int]string{70: "0071"}},   // its own number
		"jcb":        {"bcd", "ebcdic", "bin", "bin", "87", map[int]string{49: "f9f7f8"}}, // its DE 49 is text
		"cmf": {"bcd", "ascii", "bcd", "bin", "03", map[int]string{
			3: "303030303030",                     // characters, in an edition that packs the rest
			4: "9782000000001051",                 // currency, minor units, amount
			7: "1123035512", 12: "20261123045512", // with the century
			41: "31303030303030312020202020202020", 42: "15393730303030303030303030303031", // sixteen wide; LL
		}},
	}
}

// characters is text in a code page. EBCDIC, code page 1047: digits from F0,
// letters in three runs.
func (r rules) characters(s string) string {
	if r.text == "ascii" {
		return hex.EncodeToString([]byte(s))
	}
	var b []byte
	for _, c := range []byte(s) {
		switch {
		case c >= '0' && c <= '9':
			c = 0xF0 + c - '0'
		case c >= 'A' && c <= 'I':
			c = 0xC1 + c - 'A'
		case c >= 'J' && c <= 'R':
			c = 0xD1 + c - 'J'
		case c >= 'S' && c <= 'Z':
			c = 0xE2 + c - 'S'
		case c == ' ':
			c = 0x40
		}
		b = append(b, c)
	}
	return hex.EncodeToString(b)
}

func (r rules) digits(s string) string {
	if r.numbers == "char" {
		return r.characters(s)
	}
	if len(s)%2 == 1 {
		s = "0" + s
	}
	return s
}

func (r rules) variable(s string) string {
	var length string
	switch n := fmt.Sprintf("%02d", len(s)); r.length {
	case "char":
		length = r.characters(n)
	case "bcd":
		length = n
	default:
		length = fmt.Sprintf("%02x", len(s))
	}
	return length + r.digits(s)
}

// elements are what a message of the example must hold, by hand.
func (r rules) elements(title string) map[int]string {
	first, _, _ := strings.Cut(title, " ") // "authorization moto" has the numbers of "authorization"
	stan, at := map[string]string{"authorization": "17", "sign-on": "3"}[first], "1123035512"
	if stan == "" {
		stan, at = "18", "1123035522"
	}
	width := 6
	local := "045512"
	switch r.edition {
	case "93":
		local = "261123045512"
	case "03":
		width = 12
	}
	want := map[int]string{
		2: r.variable("4111111111111111"), 3: r.digits("000000"), 4: r.digits("000000001051"), 7: r.digits(at),
		11: r.digits(strings.Repeat("0", width-len(stan)) + stan), 12: r.digits(local), 13: r.digits("1123"), 14: r.digits("2712"),
		19: r.digits("250"), 32: r.variable("970001"), 33: r.variable("970002"),
		37: r.characters("632700000017"), 41: r.characters("10000001"), 42: r.characters("970000000000001"), 49: r.digits("978"),
	}
	if r.edition == "87" {
		want[18] = r.digits("5942")
		want[70] = r.digits("001")
	} else {
		want[26] = r.digits("5942")
	}
	for de, text := range r.except {
		if want[de] = text; de == 7 {
			want[de] = at
		}
	}
	return want
}

var elementLine = regexp.MustCompile(`^([0-9a-f]+)\s+# (?:DE (\d+)\b|(bitmap))`)

// TestByHand holds every golden trace of ours to the encoding rules, element by
// element, and its bitmaps to the elements listed under them. It uses nothing of
// the codec: TestGolden holds the codec to the traces.
func TestByHand(t *testing.T) {
	all := byHand()
	for _, name := range dialectNames(t) {
		r, known := all[name]
		if !known {
			t.Errorf("%s: its rules are not written down", name)
			continue
		}
		raw, err := os.ReadFile(filepath.Join("testdata", "golden", name+".txt"))
		if err != nil {
			t.Fatal(err)
		}
		for _, section := range strings.Split(string(raw), "\n== ")[1:] {
			title, body, _ := strings.Cut(section, "\n")
			if title == "answer" || title == "reversal answer" {
				bitmapOf(t, r, name+" "+title, body)
				continue // a peer's values are its own
			}
			checked := 0
			want := r.elements(title)
			for _, m := range lines(body) {
				de, _ := strconv.Atoi(m[2])
				if want[de] == "" {
					continue
				}
				checked++
				if m[1] != want[de] && !(de == 2 && title == "sign-on") {
					t.Errorf("%s %s: DE %d is %s, by hand %s", name, title, de, m[1], want[de])
				}
			}
			bitmapOf(t, r, name+" "+title, body)
			if least := map[string]int{"sign-on": 2, "authorization": 11}[title]; checked < max(least, 2) {
				t.Errorf("%s %s: only %d elements could be checked", name, title, checked)
			}
		}
	}
}

func lines(body string) [][]string {
	var all [][]string
	for line := range strings.Lines(body) {
		if m := elementLine.FindStringSubmatch(line); m != nil {
			all = append(all, m)
		}
	}
	return all
}

// bitmapOf holds a bitmap to the elements that are listed.
func bitmapOf(t *testing.T, r rules, what, body string) {
	t.Helper()
	var bits []byte
	for _, m := range lines(body) {
		if m[3] != "" {
			text := m[1]
			if r.bitmap == "hex" {
				raw, err := hex.DecodeString(text)
				if err != nil {
					t.Fatal(err)
				}
				text = string(raw)
			}
			var err error
			if bits, err = hex.DecodeString(text); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if len(bits) > 8 {
				bits[0] ^= 0x80 // announces the second
			}
			continue
		}
		de, _ := strconv.Atoi(m[2])
		if de < 2 || de > 8*len(bits) {
			t.Errorf("%s: DE %d beyond the bitmap", what, de)
			continue
		}
		bits[(de-1)/8] ^= 0x80 >> ((de - 1) % 8)
	}
	for i, b := range bits {
		if b != 0 {
			t.Errorf("%s: bitmap and elements differ in byte %d: %08b", what, i+1, b)
		}
	}
}
