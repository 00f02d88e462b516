package iso8583

import (
	"io/fs"
	"strings"
	"sync"
	"testing"

	"go.yaml.in/yaml/v3"

	"authswitch/iso8583/dialects"
)

// dialectNames are the files that can be loaded.
func dialectNames(t testing.TB) []string {
	t.Helper()
	names, err := Names(dialects.FS)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// loaded keeps compiled dialects for the tests: they are immutable, and under
// the race detector each takes a tenth of a second to read.
var loaded sync.Map

func load(t testing.TB, name string) *Dialect {
	t.Helper()
	if d, ok := loaded.Load(name); ok {
		return d.(*Dialect)
	}
	d, err := Load(dialects.FS, name)
	if err != nil {
		t.Fatal(err)
	}
	loaded.Store(name, d)
	return d
}

func TestLoadAll(t *testing.T) {
	for _, name := range dialectNames(t) {
		d := load(t, name)
		for _, f := range d.Lint() {
			t.Errorf("%s: %s", name, f)
		}
		var doc strings.Builder
		if err := d.Doc(&doc); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"# Dialect " + name, d.Status(), "| " + d.AuthorizationMTI().String() + " | authorization request |", "| 39 |", "masked: pan"} {
			if !strings.Contains(doc.String(), want) {
				t.Errorf("%s: the description lacks %q", name, want)
			}
		}
	}
}

func fsFile(name string) ([]byte, error) { return fs.ReadFile(dialects.FS, name) }

// Two dialects that differ in name only are one, and every file says in its
// first line how far it may be trusted.
func TestDistinct(t *testing.T) {
	seen := map[string]string{}
	for _, name := range dialectNames(t) {
		f, err := readFile(dialects.FS, name)
		if err != nil {
			t.Fatal(err)
		}
		f.Name, f.Status, f.About, f.Extends = "", "", "", ""
		text, err := yaml.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[string(text)]; ok {
			t.Errorf("%s and %s differ in name only", name, other)
		}
		seen[string(text)] = name
		raw, err := fsFile(name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(raw), "# status: ") {
			t.Errorf("%s: the first line does not give the status", name)
		}
	}
	if len(seen) < 14 {
		t.Errorf("%d dialects: some are missing", len(seen))
	}
}

// Between them the files use every encoding, prefix, structure and framing the
// compiler knows, so that each is in the golden traces and in the differential
// test.
func TestEverythingIsUsed(t *testing.T) {
	used := map[string]bool{}
	var visit func(e *element)
	visit = func(e *element) {
		used["encoding "+moovNames[e.coding]] = true
		if !e.fixed {
			used["prefix "+moovNames[e.prefix]] = true
		}
		if e.filler == 15 {
			used["filler F"] = true
		}
		if e.bytesUnit {
			used["length in bytes"] = true
		}
		if e.composite == nil {
			return
		}
		used["kind "+kindNames[e.composite.kind]] = true
		for _, piece := range e.composite.elements {
			visit(piece)
		}
	}
	for _, name := range dialectNames(t) {
		d := load(t, name)
		for _, e := range d.elements {
			if e != nil {
				visit(e)
			}
		}
		f := d.Framing()
		used["framing "+string(f.LengthEncoding)] = true
		used["inclusive"] = used["inclusive"] || f.Inclusive
		used["reserved"] = used["reserved"] || f.Reserved > 0
		used["trailer"] = used["trailer"] || len(f.Trailer) > 0
		used["heartbeat"] = used["heartbeat"] || f.Heartbeat
		used["header"] = used["header"] || len(f.Header.Fields) > 0
		used["mti "+moovNames[d.mtiCoding]] = true
		used["bitmap "+moovNames[d.bitmapCoding]] = true
		used["version "+string('0'+rune(d.file.MTI.Version))] = true
		used["page "+d.ebcdic.page] = true
	}
	for _, want := range []string{
		"encoding ASCII", "encoding BCD", "encoding LBCD", "encoding EBCDIC", "encoding Binary", "encoding HexToASCII",
		"prefix ASCII", "prefix BCD", "prefix EBCDIC", "prefix Binary", "prefix HexToASCII", "prefix BerTLV", "prefix None.Fixed",
		"kind positional", "kind bitmap", "kind tlv", "kind ber", "kind delimited", "kind usage", "filler F", "length in bytes",
		"framing binary", "framing bcd", "framing ascii", "inclusive", "reserved", "trailer", "heartbeat", "header",
		"mti ASCII", "mti BCD", "mti EBCDIC", "bitmap Binary", "bitmap HexToASCII", "version 0", "version 1", "version 2", "page EBCDIC", "page EBCDIC1047",
	} {
		if !used[want] {
			t.Errorf("no dialect uses %s", want)
		}
	}
}
