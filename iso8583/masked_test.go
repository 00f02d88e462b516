package iso8583

import (
	"bytes"
	"strings"
	"testing"
)

// TestMaskedFrame masks every golden frame: it stays a message of the dialect,
// of the same type, without anything of the card but six and four digits.
func TestMaskedFrame(t *testing.T) {
	for _, name := range dialectNames(t) {
		d := load(t, name)
		for title, s := range readGolden(t, name) {
			frame, mti, err := d.Masked(nil, s.frame)
			if err != nil {
				t.Errorf("%s %s: %v", name, title, err)
				continue
			}
			var was, is Message
			if err := d.Unpack(&was, s.frame); err != nil {
				t.Fatal(err)
			}
			if err := d.Unpack(&is, frame); err != nil || is.MTI() != mti || mti != was.MTI() {
				t.Errorf("%s %s: %s, %v", name, title, mti, err)
				continue
			}
			for de := was.Next(1); de != 0; de = was.Next(de) {
				e := d.elements[de]
				switch {
				case e.sensitive == plain && e.composite == nil && len(was.Bytes(de)) <= 16:
					if !bytes.Equal(is.Bytes(de), was.Bytes(de)) {
						t.Errorf("%s %s: DE %d is %q, was %q", name, title, de, is.Bytes(de), was.Bytes(de))
					}
				case e.sensitive == sensitivePAN && len(was.Bytes(de)) >= 12:
					if got := string(is.Bytes(de)); got != "4111110000001111" {
						t.Errorf("%s %s: DE %d is %s", name, title, de, got)
					}
				case e.sensitive != plain && e.composite != nil:
					if is.Has(de) {
						t.Errorf("%s %s: DE %d is still there", name, title, de)
					}
				case e.sensitive != plain:
					if strings.Trim(string(is.Bytes(de)), "0\x00") != "" {
						t.Errorf("%s %s: DE %d is %q", name, title, de, is.Bytes(de))
					}
				}
			}
		}
	}
}
