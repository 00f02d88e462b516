package sim

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"authswitch/iso8583/dialects"
)

// FuzzHandle: no frame makes a simulator panic or wait, whatever its codec;
// what it appends can be cut into frames again.
func FuzzHandle(f *testing.F) {
	f.Add(authorization("000001", 1000))
	f.Add(authorization("000001", 1010))
	f.Add(authorization("000001", 1076))
	f.Add(authorization("000001", 1078))
	f.Add(authorization("000001", 1080))
	f.Add(reversal("0420", "000001", 1000))
	f.Add(networkRequest("301"))
	f.Add(networkRequest("001"))
	f.Add(text87("0600", 7, "0314101500", 11, "000001"))
	var conns []*conn
	for _, which := range []Codec{CodecFast, CodecMoov} {
		s, err := New(Config{Name: "fuzz", Dialect: "ascii87", Listen: "-", Ledger: filepath.Join(f.TempDir(), "ledger"), Codec: which, MaxDecisions: 1000},
			Deps{Now: time.Now, Dialects: dialects.FS, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			f.Fatal(err)
		}
		f.Cleanup(func() { s.ledger.close() })
		c, err := s.newCodec()
		if err != nil {
			f.Fatal(err)
		}
		conns = append(conns, &conn{Simulator: s, codec: c})
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) == 0 {
			return
		}
		for _, c := range conns {
			c.out, c.pieces, c.hangUp = c.out[:0], c.pieces[:0], false
			c.handle(frame)
			if c.hangUp {
				continue // half a frame, or none
			}
			for rest := c.out; len(rest) > 0; {
				_, used, err := c.framing.cut(rest)
				if err != nil || used == 0 {
					t.Fatalf("answer % x: %v", c.out, err)
				}
				rest = rest[used:]
			}
		}
	})
}
