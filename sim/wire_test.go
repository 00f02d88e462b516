package sim

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"authswitch/iso8583"
	"authswitch/iso8583/dialects"
)

// wireFrame is a message of a dialect for a wire file, with a card and a security
// code in it.
func wireFrame(t *testing.T, d *iso8583.Dialect, mti iso8583.MTI) []byte {
	t.Helper()
	var b iso8583.Builder
	b.Start(mti)
	for de, value := range map[int]string{2: "4111111111111111", 3: "000000", 4: "000000001000", 7: "0314101500", 11: "000017", 37: "632700000017"} {
		b.Set(de, []byte(value))
	}
	b.SetSub(48, "92", []byte("937"))
	frame, err := d.Pack(nil, &b)
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

func wireLines(t *testing.T, path string) (lines []WireLine, raw string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var l WireLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l)
	}
	return lines, string(b)
}

// A wire file has payments both ways, masked, the first of each second only, and
// no network management message; it is added to after a start, and turned over.
func TestWire(t *testing.T) {
	d, err := iso8583.Load(dialects.FS, "ascii87")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "a.wire")
	w, err := openWire(path, d)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 3, 14, 10, 15, 0, 0, time.UTC)
	frame := wireFrame(t, d, 0x0100)
	m := &message{mti: [4]byte{'0', '1', '0', '0'}}
	m.put(11, []byte("000017"))
	m.put(37, []byte("632700000017"))
	kept := 0
	for range 2 * wirePerSecond {
		if w.received(at, m, frame) {
			kept++
			w.sent(at, m, frame)
		}
	}
	if w.received(at, &message{mti: [4]byte{'0', '8', '0', '0'}}, frame) {
		t.Error("a network management message is kept")
	}
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	if w, err = openWire(path, d); err != nil {
		t.Fatal(err)
	}
	if !w.received(at.Add(time.Second), m, frame) || kept != wirePerSecond {
		t.Errorf("%d kept of a second; and the next", kept)
	}
	lines, raw := wireLines(t, path)
	if len(lines) != 2*wirePerSecond+1 || lines[0].Way != "received" || lines[1].Way != "sent" || lines[0].RRN != "632700000017" || lines[0].MTI != "0100" || lines[0].STAN != "000017" {
		t.Errorf("%d lines, %+v", len(lines), lines[0])
	}
	if !strings.Contains(lines[0].Text, "411111******1111") || strings.Contains(raw, "4111111111111111") || strings.Contains(raw, "937") {
		t.Errorf("not masked: %s", lines[0].Text)
	}
	w.size = wireBytes
	w.sent(at, m, frame)
	w.sent(at, m, frame)
	if lines, _ := wireLines(t, path); len(lines) != 1 {
		t.Errorf("%d lines in a file that was turned over", len(lines))
	}
	if lines, _ := wireLines(t, path+".1"); len(lines) != 2*wirePerSecond+2 {
		t.Errorf("%d lines in the one before", len(lines))
	}
	if err := w.close(); err != nil {
		t.Error(err)
	}
	var none *wire
	if none.received(at, m, frame) || none.close() != nil {
		t.Error("a simulator without a wire file")
	}
}
