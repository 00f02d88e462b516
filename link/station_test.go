package link

import (
	"bytes"
	"slices"
	"testing"

	"authswitch/iso8583"
)

// TestStationGrows: whatever makes the outgoing buffer grow, nothing of what
// waited in it stays behind in the memory that it leaves.
func TestStationGrows(t *testing.T) {
	f, err := newFramer(iso8583.Framing{LengthEncoding: iso8583.LengthBinary, LengthBytes: 2, MaxMessage: 4096, Heartbeat: true})
	if err != nil {
		t.Fatal(err)
	}
	for name, grow := range map[string]func(s *station){
		"a request or a network message": func(s *station) { s.queue(f, make([]byte, 100), noPlace) },
		"a heartbeat":                    func(s *station) { s.beat(f) },
	} {
		waiting := []byte("4111111111111111")
		left := slices.Clip(waiting)
		s := &station{out: left}
		grow(s)
		if !bytes.HasPrefix(s.out, []byte("4111111111111111")) {
			t.Errorf("%s: what waited is lost: %q", name, s.out)
		}
		if !bytes.Equal(left, make([]byte, len(left))) {
			t.Errorf("%s: the memory that was left holds %q", name, left)
		}
	}
}
