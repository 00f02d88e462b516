package sim

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"authswitch/iso8583/dialects"
)

// The tests speak to a simulator over TCP with frames put together by hand
// from ISO 8583:1987, so that no codec of ours is on their side.

const visaCard = "4111111111111111"

// text87 builds an all-ASCII 1987 message with binary bitmaps: elements are
// given in order as "N" and their wire form, prefix included.
func text87(mti string, elements ...any) []byte {
	var bitmap [16]byte
	var body []byte
	last := 0
	for i := 0; i < len(elements); i += 2 {
		de := elements[i].(int)
		if de <= last {
			panic("elements out of order")
		}
		last = de
		bitmap[(de-1)/8] |= 0x80 >> ((de - 1) % 8)
		body = append(body, elements[i+1].(string)...)
	}
	maps := bitmap[:8]
	if last > 64 {
		bitmap[0] |= 0x80
		maps = bitmap[:]
	}
	return append(append([]byte(mti), maps...), body...)
}

// fixed87 are the lengths of the fixed elements that answers carry; the others
// have a prefix of that many digits, negated.
var fixed87 = map[int]int{
	2: -2, 3: 6, 4: 12, 7: 10, 11: 6, 12: 6, 13: 4, 32: -2, 33: -2, 37: 12, 38: 6, 39: 2, 41: 8, 42: 15, 48: -3, 49: 3, 64: 8, 66: 1, 70: 3, 90: 42, 95: 42,
}

// parse87 takes such a message apart.
func parse87(t testing.TB, b []byte) map[int]string {
	t.Helper()
	m, err := take87(b)
	if err != nil {
		t.Fatalf("answer %q: %v", b, err)
	}
	return m
}

func take87(b []byte) (map[int]string, error) {
	if len(b) < 12 {
		return nil, io.ErrUnexpectedEOF
	}
	m := map[int]string{0: string(b[:4])}
	b = b[4:]
	bitmap := b[:8]
	if b[0]&0x80 != 0 {
		bitmap = b[:16]
	}
	b = b[len(bitmap):]
	for de := 2; de <= 8*len(bitmap); de++ {
		if bitmap[(de-1)/8]&(0x80>>((de-1)%8)) == 0 {
			continue
		}
		n, ok := fixed87[de]
		if !ok {
			return nil, fmt.Errorf("DE %d in an answer", de)
		}
		if n < 0 {
			width := -n
			if len(b) < width {
				return nil, io.ErrUnexpectedEOF
			}
			n = 0
			for _, c := range b[:width] {
				n = n*10 + int(c-'0')
			}
			b = b[width:]
		}
		if len(b) < n {
			return nil, io.ErrUnexpectedEOF
		}
		m[de], b = string(b[:n]), b[n:]
	}
	if len(b) > 0 {
		return nil, fmt.Errorf("%d bytes left", len(b))
	}
	return m, nil
}

// authorization is a 0100 of a card for an amount.
func authorization(stan string, amount int) []byte {
	return payment87("0100", stan, "0314101500", amount)
}

func payment87(mti, stan, transmitted string, amount int) []byte {
	return text87(mti, 2, "16"+visaCard, 3, "000000", 4, fmt.Sprintf("%012d", amount), 7, transmitted, 11, stan, 12, "111500", 13, "0314",
		14, "2712", 18, "5999", 22, "810", 25, "59", 32, "0512345", 37, "632700"+stan, 41, "TERM0001", 42, "MERCHANT0000001",
		43, "PARCELS                  PARIS        FR", 48, "0079203"+"123", 49, "978")
}

// reversal is a 0420 whose DE 90 names the authorization with the same STAN.
// Its own STAN and RRN are others, so that only DE 90 can find the original.
func reversal(mti, original string, amount int) []byte {
	return reversalOf(mti, "0100"+original+"0314101500"+"00000012345"+"00000000000", amount, "TERM0001", "")
}

func reversalOf(mti, de90 string, amount int, terminal, de95 string) []byte {
	elements := []any{
		2, "16" + visaCard, 3, "000000", 4, fmt.Sprintf("%012d", amount), 7, "0314101507", 11, "900001", 12, "111500", 13, "0314",
		18, "5999", 32, "0512345", 37, "632700777777", 39, "68", 41, terminal, 42, "MERCHANT0000001", 49, "978", 90, de90,
	}
	if de95 != "" {
		elements = append(elements, 95, de95)
	}
	return text87(mti, elements...)
}

func networkRequest(function string) []byte {
	return text87("0800", 7, "0314101500", 11, "000001", 70, function)
}

// bench is one running simulator and a connection to it.
type bench struct {
	t      testing.TB
	sim    *Simulator
	config Config
	addr   string
	conn   net.Conn
	stop   func() error
}

var testNow = time.Date(2026, 3, 14, 10, 15, 0, 123456000, time.UTC)

// start runs a simulator of the plain 1987 ASCII dialect.
func start(t *testing.T, change func(*Config)) *bench {
	t.Helper()
	c := Config{
		Name: "test", Dialect: "ascii87", Listen: "127.0.0.1:0", Ledger: filepath.Join(t.TempDir(), "ledger.jsonl"), Codec: CodecFast, LateAfter: 20 * time.Millisecond,
		// What these tests show does not depend on the disk; ledger_test.go waits for it.
		LedgerSync: SyncNone,
	}
	if change != nil {
		change(&c)
	}
	return startWith(t, c)
}

func startWith(t testing.TB, c Config) *bench {
	t.Helper()
	listening := make(chan net.Addr, 1)
	s, err := New(c, Deps{
		Now: func() time.Time { return testNow },
		Listen: func(ctx context.Context, network, address string) (net.Listener, error) {
			return (&net.ListenConfig{}).Listen(ctx, network, address)
		},
		Dialects:  dialects.FS,
		Log:       slog.New(slog.NewTextHandler(t.Output(), nil)),
		Listening: func(a net.Addr) { listening <- a },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	b := &bench{t: t, sim: s, config: c}
	stopped := false
	b.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-done
	}
	t.Cleanup(func() {
		if err := b.stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	select {
	case a := <-listening:
		b.addr = a.String()
	case err := <-done:
		t.Fatalf("it did not listen: %v", err)
	}
	b.conn = b.dial()
	return b
}

func (b *bench) dial() net.Conn {
	b.t.Helper()
	c, err := net.Dial("tcp", b.addr)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		b.t.Fatal(err)
	}
	return c
}

func (b *bench) send(messages ...[]byte) {
	b.t.Helper()
	var out []byte
	for _, m := range messages {
		out = binary.BigEndian.AppendUint16(out, uint16(len(m)))
		out = append(out, m...)
	}
	if _, err := b.conn.Write(out); err != nil {
		b.t.Fatal(err)
	}
}

// frame reads one frame.
func (b *bench) frame() []byte {
	b.t.Helper()
	m, err := b.read()
	if err != nil {
		b.t.Fatal(err)
	}
	return m
}

func (b *bench) read() ([]byte, error) {
	var prefix [2]byte
	if _, err := io.ReadFull(b.conn, prefix[:]); err != nil {
		return nil, err
	}
	m := make([]byte, binary.BigEndian.Uint16(prefix[:]))
	_, err := io.ReadFull(b.conn, m)
	return m, err
}

func (b *bench) receive() map[int]string {
	b.t.Helper()
	return parse87(b.t, b.frame())
}

// ask sends a message and reads its answer.
func (b *bench) ask(m []byte) map[int]string {
	b.t.Helper()
	b.send(m)
	return b.receive()
}

// quiet shows that nothing is under way on the connection: an echo sent now is
// the next thing answered.
func (b *bench) quiet() {
	b.t.Helper()
	if m := b.ask(networkRequest("301")); m[0] != "0810" || m[39] != "00" {
		b.t.Fatalf("an echo was answered with %v", m)
	}
}

// closed shows that the simulator closes the connection, and opens another.
func (b *bench) closed() {
	b.t.Helper()
	rest, err := io.ReadAll(b.conn)
	if err != nil && !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
		b.t.Fatalf("waiting for the end: %v", err)
	}
	if len(rest) > 0 {
		b.t.Fatalf("%d bytes before the end", len(rest))
	}
	b.conn = b.dial()
}

// entry is a line of the ledger.
type entry struct {
	At, MTI, STAN, RRN, Transmitted, Acquirer, Terminal, Currency, Card, Decision string
	Amount                                                                        int64
	ResponseCode                                                                  string `json:"response_code"`
	Local                                                                         string
	Original                                                                      *struct{ MTI, STAN, Transmitted, Acquirer, Local string }
}

func (b *bench) ledger() []entry {
	b.t.Helper()
	raw, err := os.ReadFile(b.config.Ledger)
	if err != nil {
		b.t.Fatal(err)
	}
	var entries []entry
	for s := bufio.NewScanner(bytes.NewReader(raw)); s.Scan(); {
		d := json.NewDecoder(bytes.NewReader(s.Bytes()))
		d.DisallowUnknownFields()
		var e entry
		if err := d.Decode(&e); err != nil {
			b.t.Fatalf("ledger line %q: %v", s.Text(), err)
		}
		entries = append(entries, e)
	}
	return entries
}

// decisions are "stan decision code amount" of each line.
func (b *bench) decisions() string {
	b.t.Helper()
	var lines []string
	for _, e := range b.ledger() {
		stan := e.STAN
		if e.Original != nil {
			stan = e.Original.STAN
		}
		lines = append(lines, fmt.Sprintf("%s %s %s %d", stan, e.Decision, e.ResponseCode, e.Amount))
	}
	return strings.Join(lines, "; ")
}

func (b *bench) wantDecisions(want string) {
	b.t.Helper()
	if got := b.decisions(); got != want {
		b.t.Errorf("ledger\n got %s\nwant %s", got, want)
	}
}

func TestApproval(t *testing.T) {
	for _, codec := range []Codec{CodecFast, CodecMoov} {
		t.Run(string(codec), func(t *testing.T) {
			b := start(t, func(c *Config) { c.Codec = codec })
			m := b.ask(authorization("000017", 1000))
			want := map[int]string{
				0: "0110", 2: visaCard, 3: "000000", 4: "000000001000", 7: "0314101500", 11: "000017", 12: "111500", 13: "0314", 32: "12345",
				37: "632700000017", 39: "00", 41: "TERM0001", 42: "MERCHANT0000001", 49: "978",
			}
			for de, v := range want {
				if m[de] != v {
					t.Errorf("DE %d: got %q, want %q", de, m[de], v)
				}
			}
			if len(m[38]) != 6 || len(m[48]) != 4+15+4+1 || !strings.Contains(m[48], "8701M") || !strings.Contains(m[48], "6315") {
				t.Errorf("DE 38 %q, DE 48 %q", m[38], m[48])
			}
			e := b.ledger()[0]
			if e.At != "2026-03-14T10:15:00.123456Z" || e.Card != "411111******1111" || e.Currency != "978" || e.Acquirer != "12345" ||
				e.Terminal != "TERM0001" || e.MTI != "0100" || e.RRN != "632700000017" || e.Transmitted != "0314101500" || e.Original != nil {
				t.Errorf("ledger %+v", e)
			}
			b.wantDecisions("000017 approved 00 1000")
		})
	}
}
