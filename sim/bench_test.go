package sim

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// BenchmarkAuthorizations keeps 256 requests in flight on one connection. The
// CPU reported is the whole process's, this client's included.
func BenchmarkAuthorizations(b *testing.B) {
	for _, r := range []struct {
		name  string
		codec Codec
		sync  LedgerSync
	}{{"fast/none", CodecFast, SyncNone}, {"fast/group", CodecFast, SyncGroup}, {"moov/group", CodecMoov, SyncGroup}} {
		b.Run(r.name, func(b *testing.B) { benchmark(b, r.codec, r.sync) })
	}
}

func benchmark(b *testing.B, codec Codec, sync LedgerSync) {
	const window = 256
	s := startWith(b, Config{
		Name: "bench", Dialect: "ascii87", Listen: "127.0.0.1:0", Ledger: filepath.Join(b.TempDir(), "l.jsonl"), Codec: codec, LedgerSync: sync,
	})
	frame := authorization("000000", 1000)
	frame = append(binary.BigEndian.AppendUint16(nil, uint16(len(frame))), frame...)
	at := 2 + 4 + 8 + 2 + 16 + 6 + 12 // DE 7, then DE 11
	if string(frame[at:at+10]) != "0314101500" {
		b.Fatal("DE 7 is elsewhere")
	}
	if err := s.conn.SetDeadline(time.Time{}); err != nil {
		b.Fatal(err)
	}
	places := make(chan struct{}, window)
	failed := make(chan error, 1)
	go func() {
		r := bufio.NewReaderSize(s.conn, 64<<10)
		for range b.N {
			var prefix [2]byte
			if _, err := io.ReadFull(r, prefix[:]); err != nil {
				failed <- err
				return
			}
			if _, err := r.Discard(int(binary.BigEndian.Uint16(prefix[:]))); err != nil {
				failed <- err
				return
			}
			<-places
		}
		failed <- nil
	}()
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu(b)
	var out []byte
	for i := range b.N {
		appendNumber(frame[at:at], uint64(101000000+i/999_999), 10)
		appendNumber(frame[at+10:at+10], uint64(i%999_999+1), 6)
		select {
		case places <- struct{}{}:
		default:
			if _, err := s.conn.Write(out); err != nil {
				b.Fatal(err)
			}
			out = out[:0]
			places <- struct{}{}
		}
		out = append(out, frame...)
	}
	if _, err := s.conn.Write(out); err != nil {
		b.Fatal(err)
	}
	if err := <-failed; err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/1000/float64(b.N), "cpu-µs/op")
}

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkDecide is the host alone: no connection, no codec.
func BenchmarkDecide(b *testing.B) {
	l, err := openLedger(filepath.Join(b.TempDir(), "l.jsonl"), false, nil)
	if err != nil {
		b.Fatal(err)
	}
	h := &host{
		config: Config{}, profile: profile87(), chooser: newChooser(nil), now: time.Now, ledger: l,
		book: newBook(1<<30, false), script: newScript(nil, nil), held: map[requestKey][]byte{},
	}
	m := &message{mti: [4]byte{'0', '1', '0', '0'}}
	m.put(2, []byte(visaCard))
	m.put(4, []byte("000000001000"))
	m.put(7, []byte("0314101500"))
	stan := []byte("000000")
	m.put(11, stan)
	m.put(32, []byte("12345"))
	m.put(37, []byte("632700000001"))
	m.put(41, []byte("TERM0001"))
	m.put(49, []byte("978"))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		copy(m.values[7], fmt.Append(nil, 1010000000+i/999_999))
		appendNumber(stan[:0], uint64(i%999_999), 6)
		if r := h.decide(m, &secured{}); r.line%256 == 0 {
			if err := l.wait(r.line); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := l.close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkReplay reads a ledger back: what a restart waits for.
func BenchmarkReplay(b *testing.B) {
	l := line{
		at: testNow, mti: [4]byte{'0', '1', '0', '0'}, stan: []byte("000000"), rrn: []byte("632700000001"), transmitted: []byte("0314101500"),
		acquirer: []byte("12345"), terminal: []byte("TERM0001"), amount: 1000, currency: []byte("978"), card: []byte(visaCard), decision: approved, code: "00",
	}
	r := replayer{book: newBook(1<<30, false), profile: profile87()}
	var text []byte
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		appendNumber(l.stan[:0], uint64(i%1_000_000), 6)
		text = l.appendTo(text[:0])
		if err := r.line(text); err != nil {
			b.Fatal(err)
		}
	}
}
