package link

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"authswitch/iso8583"
)

func framing(encoding iso8583.LengthEncoding, digits int, change func(f *iso8583.Framing)) iso8583.Framing {
	f := iso8583.Framing{LengthEncoding: encoding, LengthBytes: digits, MaxMessage: 80}
	if change != nil {
		change(&f)
	}
	return f
}

func inclusive(f *iso8583.Framing) { f.Inclusive = true }
func reserved(f *iso8583.Framing)  { f.Reserved = 2 }
func trailer(f *iso8583.Framing)   { f.Trailer = []byte{3} }
func heartbeat(f *iso8583.Framing) { f.Heartbeat = true }

// framings are the forms acquirers use, each with a message of 18 bytes as it
// stands in the stream, written by hand.
func framings() []struct {
	name    string
	framing iso8583.Framing
	prefix  string // hexadecimal
	trailer string
} {
	return []struct {
		name    string
		framing iso8583.Framing
		prefix  string
		trailer string
	}{
		{"binary 2", framing(iso8583.LengthBinary, 2, nil), "0012", ""},
		{"binary 2 inclusive", framing(iso8583.LengthBinary, 2, inclusive), "0014", ""},
		{"binary 2 reserved", framing(iso8583.LengthBinary, 2, reserved), "00120000", ""},
		{"binary 2 trailer counted", framing(iso8583.LengthBinary, 2, trailer), "0013", "03"},
		{"binary 3", framing(iso8583.LengthBinary, 3, nil), "000012", ""},
		{"binary 4", framing(iso8583.LengthBinary, 4, nil), "00000012", ""},
		{"ascii 4", framing(iso8583.LengthASCII, 4, nil), "30303138", ""},
		{"ascii 4 inclusive", framing(iso8583.LengthASCII, 4, inclusive), "30303232", ""},
		{"bcd 2", framing(iso8583.LengthBCD, 2, nil), "0018", ""},
		{"bcd 2 inclusive", framing(iso8583.LengthBCD, 2, inclusive), "0020", ""},
		{"heartbeat", framing(iso8583.LengthBinary, 2, heartbeat), "0012", ""},
	}
}

var eighteen = []byte("0100 eighteen bytes")[:18]

func TestFraming(t *testing.T) {
	for _, c := range framings() {
		t.Run(c.name, func(t *testing.T) {
			f, err := newFramer(c.framing)
			if err != nil {
				t.Fatal(err)
			}
			frame := f.append(nil, eighteen)
			if want := c.prefix + hex.EncodeToString(eighteen) + c.trailer; hex.EncodeToString(frame) != want {
				t.Fatalf("got %x, want %s", frame, want)
			}
			if len(frame) != len(eighteen)+f.overhead() {
				t.Fatalf("overhead %d is wrong", f.overhead())
			}
			stream := append(bytes.Clone(frame), frame...)
			for n := range frame {
				if _, size, err := f.cut(stream[:n]); size != 0 || err != nil {
					t.Fatalf("%d bytes of a frame: size %d, %v", n, size, err)
				}
			}
			payload, size, err := f.cut(stream)
			if err != nil || size != len(frame) || !bytes.Equal(payload, eighteen) {
				t.Fatalf("cut: %q, %d, %v", payload, size, err)
			}
		})
	}
}

func TestFramingLost(t *testing.T) {
	cases := []struct {
		name    string
		framing iso8583.Framing
		stream  string
	}{
		{"zero without heartbeat", framing(iso8583.LengthBinary, 2, nil), "0000"},
		{"longer than any message", framing(iso8583.LengthBinary, 2, nil), "0051"},
		{"as long as can be said", framing(iso8583.LengthBinary, 4, nil), "ffffffff"},
		{"inclusive, shorter than itself", framing(iso8583.LengthBinary, 2, inclusive), "0001"},
		{"letters where digits belong", framing(iso8583.LengthASCII, 4, nil), "30304131"},
		{"HTTP", framing(iso8583.LengthASCII, 4, nil), hex.EncodeToString([]byte("GET / HTTP/1.1"))},
		{"a nibble that is no digit", framing(iso8583.LengthBCD, 2, nil), "00a8"},
		{"no trailer", framing(iso8583.LengthBinary, 2, trailer), "0003313204"},
		{"only a trailer", framing(iso8583.LengthBinary, 2, trailer), "000103"},
	}
	for _, c := range cases {
		f, err := newFramer(c.framing)
		if err != nil {
			t.Fatal(err)
		}
		stream, err := hex.DecodeString(c.stream)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := f.cut(stream); !errors.Is(err, ErrFraming) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestHeartbeatFrame(t *testing.T) {
	for _, change := range []func(*iso8583.Framing){nil, inclusive, reserved} {
		f, err := newFramer(framing(iso8583.LengthBinary, 2, func(f *iso8583.Framing) {
			heartbeat(f)
			if change != nil {
				change(f)
			}
		}))
		if err != nil {
			t.Fatal(err)
		}
		payload, size, err := f.cut(f.appendHeartbeat(nil))
		if payload != nil || size != f.prefix || err != nil {
			t.Errorf("%q, %d, %v", payload, size, err)
		}
	}
}

func TestImpossibleFraming(t *testing.T) {
	for _, c := range []struct {
		framing iso8583.Framing
		want    string
	}{
		{framing("octal", 2, nil), "unknown"},
		{framing(iso8583.LengthBinary, 0, nil), "impossible"},
		{framing(iso8583.LengthBinary, 2, func(f *iso8583.Framing) { f.MaxMessage = 0 }), "impossible"},
		{framing(iso8583.LengthBCD, 2, func(f *iso8583.Framing) { f.MaxMessage = 10_000 }), "cannot count"},
		{framing(iso8583.LengthASCII, 4, func(f *iso8583.Framing) { f.MaxMessage = 9_998; f.Inclusive = true }), "cannot count"},
	} {
		if _, err := newFramer(c.framing); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.framing, err, c.want)
		}
	}
}

// FuzzFraming: whatever arrives, in whatever pieces, cutting it never panics,
// never reads past what is there, always makes progress, and what it hands
// over is what the stream holds.
func FuzzFraming(f *testing.F) {
	for i, c := range framings() {
		r, err := newFramer(c.framing)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), r.append(r.append(nil, eighteen), []byte("x")))
	}
	f.Add(uint8(10), []byte{0, 0, 0, 0, 0, 1, 'x'})
	f.Fuzz(func(t *testing.T, form uint8, stream []byte) {
		all := framings()
		r, err := newFramer(all[int(form)%len(all)].framing)
		if err != nil {
			t.Fatal(err)
		}
		for rest := stream; len(rest) > 0; {
			payload, size, err := r.cut(rest)
			if err != nil || size == 0 {
				if size != 0 || payload != nil {
					t.Fatalf("an error or an incomplete frame with %d bytes taken", size)
				}
				return
			}
			if size > len(rest) || len(payload) > r.largest {
				t.Fatalf("%d bytes taken of %d, a payload of %d", size, len(rest), len(payload))
			}
			if payload != nil && !bytes.Equal(payload, rest[r.prefix:r.prefix+len(payload)]) {
				t.Fatal("the payload is not what the stream holds")
			}
			if payload != nil && len(payload)+r.overhead() != size {
				t.Fatalf("a payload of %d in a frame of %d", len(payload), size)
			}
			rest = rest[size:]
		}
	})
}
