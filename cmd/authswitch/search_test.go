package main_test

import (
	"bytes"
	"context"
	"encoding/base64"
	endian "encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// search looks for secrets in every spelling in which they could have been
// written down. What it says names the secret by its last four digits only.
type search struct {
	needles []needle
	bytes   int64 // looked at
	rows    int   // of Pebbles
	found   []string

	// The needles by their first bytes: thousands of them go through gigabytes.
	indexed int
	starts  map[uint32][]int
	filter  [1 << 16]bool
	short   []int // shorter than that
}

type needle struct {
	what string
	raw  []byte
}

func (s *search) add(what string, raw []byte) { s.needles = append(s.needles, needle{what, raw}) }

// text adds a word in the spellings of text.
func (s *search) text(what, word string) {
	s.add(what, []byte(word))
	s.binary(what+" in EBCDIC", ebcdic(word))
	s.add(what+" in hex", []byte(hex.EncodeToString([]byte(word))))
	s.add(what+" in HEX", []byte(strings.ToUpper(hex.EncodeToString([]byte(word)))))
	s.base64(what, []byte(word))
}

// binary adds bytes as they are, in hex and in base64.
func (s *search) binary(what string, raw []byte) {
	s.add(what, raw)
	s.add(what+" in hex", []byte(hex.EncodeToString(raw)))
	s.add(what+" in HEX", []byte(strings.ToUpper(hex.EncodeToString(raw))))
	s.base64(what, raw)
}

// halfway adds a number packed so that it begins in the lower half of a byte. As
// bytes it is looked for with every neighbour of its first and last digit: seven
// bytes with as many zeros as test cards have are also found in two addresses.
func (s *search) halfway(what, pan string) {
	whole := packed(pan[1:])
	s.add(what+" in hex", []byte(hex.EncodeToString(whole)))
	s.add(what+" in HEX", []byte(strings.ToUpper(hex.EncodeToString(whole))))
	s.base64(what, whole)
	for before := range 16 {
		for after := range 16 {
			raw := append([]byte{byte(before)<<4 | pan[0]&15}, whole...)
			if len(pan)%2 == 0 {
				raw = append(raw, pan[len(pan)-1]<<4|byte(after))
			}
			s.add(what, raw)
		}
	}
}

// base64 adds what stays the same of the encoding whatever stands around the
// bytes, for each place at which they can begin within three.
func (s *search) base64(what string, raw []byte) {
	for shift := range 3 {
		whole := append(make([]byte, shift), raw...)
		first := (shift*8 + 5) / 6 // characters that also encode what is before
		last := len(whole) * 8 / 6 // and those that also encode what is after
		standard := base64.RawStdEncoding.EncodeToString(whole)[first:last]
		url := base64.RawURLEncoding.EncodeToString(whole)[first:last]
		s.add(fmt.Sprintf("%s in base64, %d on", what, shift), []byte(standard))
		if url != standard {
			s.add(fmt.Sprintf("%s in base64url, %d on", what, shift), []byte(url))
		}
	}
}

// card adds a card number: as text, with the usual separators, packed two
// digits a byte beginning at either half, and in UTF-16.
func (s *search) card(pan string) {
	what := "card …" + pan[len(pan)-4:]
	s.text(what, pan)
	for _, separator := range []string{" ", "-"} {
		groups := pan[:4] + separator + pan[4:8] + separator + pan[8:12] + separator + pan[12:]
		if len(pan) == 15 {
			groups = pan[:4] + separator + pan[4:10] + separator + pan[10:]
		}
		s.add(what+" in groups", []byte(groups))
	}
	s.binary(what+" in BCD", packed(pan))
	s.halfway(what+" in BCD, half a byte on", pan)
	var little, big []byte
	for _, u := range utf16.Encode([]rune(pan)) {
		little, big = append(little, byte(u), byte(u>>8)), append(big, byte(u>>8), byte(u))
	}
	s.add(what+" in UTF-16LE", little)
	s.add(what+" in UTF-16BE", big)
}

// code adds the contexts of a security code. Its digits alone stand
// everywhere; in these places they can be nothing else.
func (s *search) code(pan, expiry, cvv string) {
	what := "security code of …" + pan[len(pan)-4:]
	s.text(what+" after number and expiry", pan+expiry+cvv)
	s.text(what+" after last four and expiry", pan[len(pan)-4:]+expiry+cvv)
	s.binary(what+" after number and expiry in BCD", packed(pan+expiry+cvv))
	// Each acquirer's own element, with its tag and length.
	s.binary(what+" in Visa's DE 126.10", ebcdic("11"+fmt.Sprintf("%4s", cvv)))
	s.binary(what+" in Mastercard's DE 48.92", ebcdic(fmt.Sprintf("92%02d%s", len(cvv), cvv)))
	s.binary(what+" in CB's DE 59.0402", append([]byte{0x04, 0x02, byte(len(cvv))}, cvv...))
	s.binary(what+" in American Express's DE 53", ebcdic(fmt.Sprintf("%02d%s", len(cvv), cvv)))
}

// codeNames are the words beside which a security code would stand.
func (s *search) codeNames() {
	for _, word := range []string{`"cvv":`, `"cvv" :`, `\"cvv\":`, `cvv=`, `cvc2`, `cvv2=`} {
		s.add("the word "+word, []byte(word))
	}
}

// packed is decimal digits two a byte; an odd last one is left out.
func packed(digits string) []byte {
	b, err := hex.DecodeString(digits[:len(digits)&^1])
	if err != nil {
		panic(err) // the caller's constant is not decimal
	}
	return b
}

// ebcdic is the part of code page 037 that these tests need.
func ebcdic(s string) []byte {
	b := make([]byte, len(s))
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			b[i] = 0xF0 + c - '0'
		case c >= 'A' && c <= 'F':
			b[i] = 0xC1 + c - 'A'
		case c >= 'a' && c <= 'f':
			b[i] = 0x81 + c - 'a'
		case c == ' ':
			b[i] = 0x40
		default:
			b[i] = 0x6F // not searched for
		}
	}
	return b
}

// look searches one piece.
func (s *search) look(where string, b []byte) {
	s.bytes += int64(len(b))
	s.index()
	for _, n := range s.short {
		if i := bytes.Index(b, s.needles[n].raw); i >= 0 {
			s.found = append(s.found, fmt.Sprintf("%s, byte %d: %s", where, i, s.needles[n].what))
		}
	}
	var seen map[int]bool
	for i := 0; i+startBytes <= len(b); i++ {
		start := endian.LittleEndian.Uint32(b[i:])
		if !s.filter[hashOf(start)] {
			continue
		}
		for _, n := range s.starts[start] {
			if seen[n] || !bytes.HasPrefix(b[i:], s.needles[n].raw) {
				continue
			}
			if seen == nil {
				seen = map[int]bool{}
			}
			seen[n] = true
			s.found = append(s.found, fmt.Sprintf("%s, byte %d: %s", where, i, s.needles[n].what))
		}
	}
}

const startBytes = 4

func hashOf(start uint32) uint16 { return uint16(start * 0x9E3779B1 >> 16) }

// index takes in the needles that were added since.
func (s *search) index() {
	if s.starts == nil {
		s.starts = map[uint32][]int{}
	}
	for ; s.indexed < len(s.needles); s.indexed++ {
		raw := s.needles[s.indexed].raw
		if len(raw) < startBytes {
			s.short = append(s.short, s.indexed)
			continue
		}
		start := endian.LittleEndian.Uint32(raw)
		s.starts[start], s.filter[hashOf(start)] = append(s.starts[start], s.indexed), true
	}
}

// tree searches every file below dir as it is, every table of a Pebble with
// its blocks unpacked, overwritten rows included, and every Pebble through its
// own reader, which also puts together what its log has in pieces.
func (s *search) tree(dir string) error { return s.treeBut(dir, nil) }

// treeBut leaves some files out.
func (s *search) treeBut(dir string, except []string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		if entry.IsDir() {
			if manifests, _ := filepath.Glob(filepath.Join(path, "MANIFEST-*")); len(manifests) > 0 {
				return s.pebble(name, path)
			}
			return nil
		}
		if slices.Contains(except, path) || !entry.Type().IsRegular() {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		s.look(name, b)
		if filepath.Ext(path) == ".sst" {
			return s.table(name, b)
		}
		return nil
	})
}

func (s *search) pebble(name, dir string) (err error) {
	db, err := pebble.Open(dir, &pebble.Options{ReadOnly: true, FormatMajorVersion: pebble.FormatNewest, Logger: silent{}})
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	it, err := db.NewIter(nil)
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		value, err := it.ValueAndErr()
		if err != nil {
			return errors.Join(err, it.Close())
		}
		s.row(name, it.Key(), value)
	}
	return it.Close()
}

func (s *search) row(name string, key, value []byte) {
	s.rows++
	s.look(fmt.Sprintf("%s, row %d", name, s.rows), slices.Concat(key, value))
}

// table reads all rows of a table, those that newer tables hide too.
func (s *search) table(name string, file []byte) (err error) {
	o := &pebble.Options{FormatMajorVersion: pebble.FormatNewest}
	o.EnsureDefaults()
	memory := vfs.NewMem()
	f, err := memory.Create("table", vfs.WriteCategoryUnspecified)
	if err != nil {
		return s.wrap(name, err)
	}
	if _, err := f.Write(file); err != nil {
		return s.wrap(name, err)
	}
	if err := f.Close(); err != nil {
		return s.wrap(name, err)
	}
	opened, err := memory.Open("table")
	if err != nil {
		return s.wrap(name, err)
	}
	readable, err := sstable.NewSimpleReadable(opened)
	if err != nil {
		return s.wrap(name, err)
	}
	reader, err := sstable.NewReader(context.Background(), readable, o.MakeReaderOptions())
	if err != nil {
		return s.wrap(name, err)
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	it, err := reader.NewIter(sstable.NoTransforms, nil, nil, sstable.AssertNoBlobHandles)
	if err != nil {
		return s.wrap(name, err)
	}
	for kv := it.First(); kv != nil; kv = it.Next() {
		value, _, err := kv.Value(nil)
		if err != nil {
			return errors.Join(s.wrap(name, err), it.Close())
		}
		s.row(name+", unpacked", kv.K.UserKey, value)
	}
	return errors.Join(it.Error(), it.Close())
}

func (s *search) wrap(name string, err error) error { return fmt.Errorf("table %s: %w", name, err) }

type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}
func (silent) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}

// Whatever is planted, in each spelling and each place, is found: a search that
// cannot find would prove nothing.
func TestSearchFindsWhatIsPlanted(t *testing.T) {
	const expiry, cvv = "3012", "937"
	visa := func(s string) []byte { return append([]byte("before"), append([]byte(s), "after"...)...) }
	planted := map[string][]byte{
		"ASCII":                  visa(visaCard),
		"groups":                 visa("4111 1111 1111 1111"),
		"groups with hyphens":    visa("4111-1111-1111-1111"),
		"EBCDIC":                 append([]byte{0}, 0xF4, 0xF1, 0xF1, 0xF1, 0xF1, 0xF1, 0xF1, 0xF1, 0xF1, 0xF1, 0xF1, 0xF1, 0xF1, 0xF1, 0xF1, 0xF1),
		"BCD":                    {0x99, 0x41, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x99},
		"BCD half a byte on":     {0x94, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x19},
		"hex of ASCII":           visa("34313131313131313131313131313131"),
		"hex of EBCDIC":          visa("f4f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1"),
		"HEX of EBCDIC":          visa("F4F1F1F1F1F1F1F1F1F1F1F1F1F1F1F1"),
		"hex of BCD":             visa("0x4111111111111111"),
		"base64":                 []byte(base64.StdEncoding.EncodeToString(visa(visaCard))),
		"base64, one on":         []byte(base64.StdEncoding.EncodeToString(visa("x" + visaCard))),
		"base64, two on":         []byte(base64.StdEncoding.EncodeToString(visa("xx" + visaCard))),
		"base64 of BCD":          []byte(base64.StdEncoding.EncodeToString([]byte{1, 0x41, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 2})),
		"base64url of EBCDIC":    []byte(base64.URLEncoding.EncodeToString(append([]byte{1}, ebcdic(mastercardCard)...))),
		"base64 of JSON":         []byte(base64.StdEncoding.EncodeToString([]byte(`{"number":"` + mastercardCard + `"}`))),
		"UTF-16":                 []byte("4\x001\x001\x001\x001\x001\x001\x001\x001\x001\x001\x001\x001\x001\x001\x001\x00"),
		"fifteen digits, BCD":    {0x37, 0x82, 0x82, 0x24, 0x63, 0x10, 0x00, 0x5F},
		"fifteen digits, BCD 0":  {0x03, 0x78, 0x28, 0x22, 0x46, 0x31, 0x00, 0x05},
		"fifteen digits, groups": visa("3782 822463 10005"),
		"masked, expiry, code":   visa("411111******1111" + expiry + cvv),
		"Visa's element":         {0xF1, 0xF1, 0x40, 0xF9, 0xF3, 0xF7},
		"Mastercard's element":   {0xF9, 0xF2, 0xF0, 0xF3, 0xF9, 0xF3, 0xF7},
		"CB's element":           {0x04, 0x02, 0x03, '9', '3', '7'},
		"American Express's":     {0xF0, 0xF3, 0xF9, 0xF3, 0xF7},
		"JSON member":            visa(`"cvv":"937"`),
		"log attribute":          visa(`cvv=937`),
	}
	cards := func() *search {
		s := &search{}
		for _, pan := range []string{visaCard, mastercardCard, amexCard} {
			s.card(pan)
			s.code(pan, expiry, cvv)
		}
		s.codeNames()
		return s
	}
	for what, raw := range planted {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "file"), raw, 0o600); err != nil {
				t.Fatal(err)
			}
			s := cards()
			if err := s.tree(dir); err != nil || len(s.found) == 0 {
				t.Errorf("not found (%v)", err)
			}
		})
	}
	t.Run("nothing in what is masked", func(t *testing.T) {
		s := cards()
		s.look("ledger", []byte(`{"card":"411111******1111","expiry":"3012"} 378282****10005 "cvv_result":"M"`))
		if len(s.found) > 0 {
			t.Error(s.found)
		}
	})
	t.Run("in a packed table, overwritten since", func(t *testing.T) { plantedInPebble(t, cards(), true) })
	t.Run("in a log that was cut off", func(t *testing.T) { plantedInPebble(t, cards(), false) })
}

// plantedInPebble hides a number in a store: overwritten and in a compressed
// table, or in the log alone.
func plantedInPebble(t *testing.T, s *search, flushed bool) {
	dir := t.TempDir()
	o := &pebble.Options{FormatMajorVersion: pebble.FormatNewest, Logger: silent{}, DisableAutomaticCompactions: true}
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionFastest })
	db, err := pebble.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	set := func(value string) {
		for i := range 500 {
			if err := db.Set(fmt.Appendf(nil, "key-%03d", i), []byte(value), pebble.Sync); err != nil {
				t.Fatal(err)
			}
		}
	}
	set(`{"number":"4111111` + "11" + `1111111"} and what makes a block worth packing, worth packing, worth packing`)
	if flushed {
		if err := db.Flush(); err != nil {
			t.Fatal(err)
		}
		set("nothing")
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.tree(dir); err != nil {
		t.Fatal(err)
	}
	if len(s.found) == 0 || s.rows < 500 {
		t.Errorf("not found in %d rows", s.rows)
	}
	if unpacked := slices.ContainsFunc(s.found, func(f string) bool { return strings.Contains(f, "unpacked") }); unpacked != flushed {
		t.Errorf("found in an unpacked table: %v", unpacked)
	}
}
