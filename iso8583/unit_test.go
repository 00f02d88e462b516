package iso8583

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"authswitch/card"
	"authswitch/iso8583/dialects"
	"authswitch/payment"
)

// overlay is the shipped files and one more, which extends ascii87.
func overlay(t *testing.T, text string) (*Dialect, error) {
	t.Helper()
	files := fstest.MapFS{"x.yaml": {Data: []byte("name: x\nextends: ascii87\n" + text)}}
	names, err := fs.Glob(dialects.FS, "*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		raw, err := fs.ReadFile(dialects.FS, name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = &fstest.MapFile{Data: raw}
	}
	return Load(files, "x")
}

func TestRefusedFiles(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"fields: {48: null, 2: {formt: n19}}", "line 3: field formt not found"},
		{"surprise: 1", "line 3: field surprise not found"},
		{"messages: {\"0100\": {elements: {4: {form: amount}}}}", "field form not found"},
		{"messages: {\"0100\": {elements: {4: amont}}}", "source \"amont\" is not known"},
		{"messages: {\"0100\": {elements: {22: {by: channel, values: {telex: \"1\"}}}}}", "no \"telex\""},
		{"messages: {\"0100\": {elements: {48.99: cvv}}}", "no such piece"},
		{"messages: {\"0420\": {conditional: [35]}}", "may not travel in a 0420"},
		{"messages: {\"0420\": {elements: {48.92: cvv}}}", "may not travel in a 0420"},
		{"messages: {\"0220\": {conditional: [52]}}", "may not travel in a 0220"},
		{"messages: {\"1100\": {mandatory: [2]}}", "version digit"},
		{"fields: {2: {sensitive: \"\"}}", "not marked sensitive: pan"},
		{"fields: {35: {sensitive: \"\"}}", "not marked sensitive: track"},
		{"fields: {4: {format: q12}}", "format \"q12\""},
		{"fields: {4: {enc: Morse}}", "encoding \"Morse\" is not known"},
		{"fields: {41: {enc: BCD}}", "cannot be packed digits"},
		{"fields: {52: {enc: ASCII}}", "must be Binary or HexToASCII"},
		{"fields: {65: {format: n1}}", "no such element"},
		{"fields: {129: {format: n1}}", "no such element"},
		{"fields: {60: {subfields: {\"1\": {format: n1}}}}", "subfields without a kind"},
		{"fields: {60: {kind: heap}}", "kind \"heap\" is not known"},
		{"fields: {60: {kind: tlv}}", "wants a tag with a length"},
		{"fields: {60: {kind: positional, subfields: {one: {format: n1}}}}", "cannot be an id here"},
		{"fields: {39: null}", "DE 39"},
		{"responses: {\"51\": refuse insufficient_funds}", "action \"refuse\" is not known"},
		{"responses: {\"51\": decline because}", "reason \"because\" is not known"},
		{"responses: {\"51\": decline insufficient_funds soon}", "\"soon\" is not known"},
		{"responses: {\"510\": decline insufficient_funds}", "has not the length"},
		{"reversal: {accept: [\"77\"]}", "used and not mapped"},
		{"reversal: {stan: other}", "not new or same"},
		{"correlation: {elements: [11]}", "never DE 11 alone"},
		{"correlation: {elements: [11, 4]}", "cannot be part of a correlation key"},
		{"network: {functions: {echo: null}}", "no code for network function echo"},
		{"network: {functions: {echo: \"001\"}}", "share code"},
		{"framing: {bytes: 5}", "bytes 2 to 4"},
		{"framing: {length: ascii, bytes: 2}", "does not fit the length prefix"},
		{"framing: {trailer: zz}", "not hexadecimal"},
		{"header: {fields: [{name: a, length: 2, value: \"010203\"}]}", "does not fit 2 bytes"},
		{"header: {fields: [{name: a, length: 2, answer: b}]}", "no field of its length"},
		{"mac: [63]", "mac: DE 63"},
		{"payments: {reversal: \"0440\"}", "not under messages"},
		{"status: null", "how far it may be trusted"},
		{"extends: ../secret", "key \"extends\" already"},
	} {
		_, err := overlay(t, c.text)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s\n\tgot %v\n\twant %s", c.text, err, c.want)
		}
	}
	if _, err := overlay(t, ""); err != nil {
		t.Errorf("a dialect that differs in name only: %v", err)
	}
	if _, err := Load(dialects.FS, "../iso8583"); err == nil {
		t.Error("a path is taken for a name")
	}
}

// The third bitmap as DE 65, and bitmaps in EBCDIC hexadecimal, are in no
// shipped file.
func TestBitmaps(t *testing.T) {
	d, err := overlay(t, "bitmap: {count: 3, contiguous: false}\nfields: {130: {format: n4, description: third bitmap}}")
	if err != nil {
		t.Fatal(err)
	}
	var b Builder
	b.Start(0x0800)
	b.SetUint(11, 17)
	b.SetUint(70, 301)
	b.SetUint(130, 1234)
	got, err := d.Pack(nil, &b)
	if err != nil {
		t.Fatal(err)
	}
	want := "0800" + "\x80\x20\x00\x00\x00\x00\x00\x00" + "\x84\x00\x00\x00\x00\x00\x00\x00" + "000017" + "\x40\x00\x00\x00\x00\x00\x00\x00" + "301" + "1234"
	if string(got) != want {
		t.Errorf("got  %x\nwant %x", got, want)
	}
	var m Message
	if err := d.Unpack(&m, got); err != nil || string(m.Bytes(130)) != "1234" || string(m.Bytes(70)) != "301" {
		t.Errorf("read back: %v", err)
	}
	if _, err := d.MoovSpec(); err == nil {
		t.Error("moov cannot have such a bitmap")
	}
	d, err = overlay(t, "bitmap: {enc: EBCDIC}")
	if err != nil {
		t.Fatal(err)
	}
	b.Clear(130)
	if got, err = d.Pack(nil, &b); err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(got[4:], []byte("\xC1\xF0")) && !bytes.HasPrefix(got[4:], []byte("\xF8\xF0\xF2\xF0")) {
		t.Errorf("bitmap is %x", got[4:])
	}
	if err := d.Unpack(&m, got); err != nil || string(m.Bytes(70)) != "301" {
		t.Errorf("read back: %v", err)
	}
}

func TestReject(t *testing.T) {
	d := load(t, "visa")
	var b Builder
	b.Start(0x0800)
	b.SetUint(7, 1123035512)
	b.SetUint(11, 17)
	b.SetUint(70, 301)
	frame, err := d.Pack(nil, &b)
	if err != nil {
		t.Fatal(err)
	}
	rejected := append([]byte{0x1A}, make([]byte, 25)...)
	copy(rejected[22:], "\x80\x00\x05\x12")
	var m Message
	if err := d.Unpack(&m, append(rejected, frame...)); err != nil {
		t.Fatal(err)
	}
	if !m.Rejected() || !bytes.Equal(m.RejectCode(), []byte{0x05, 0x12}) || m.MTI() != 0x0800 || string(m.Bytes(11)) != "000017" {
		t.Errorf("rejected %v, code %x, %s", m.Rejected(), m.RejectCode(), m.MTI())
	}
	if _, network := d.DecodeNetwork(&m); network {
		t.Error("our own message, returned, is taken for the peer's")
	}
	// The answer to a peer's request swaps stations and echoes what it must.
	copy(frame[5:11], "\x01\x02\x03\x0A\x0B\x0C")
	frame[11] = 0x77
	if err := d.Unpack(&m, frame); err != nil {
		t.Fatal(err)
	}
	answer, err := d.EncodeAnswer(nil, &m, payment.MakeResponseCode([]byte("30")))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(answer[5:12], []byte("\x0A\x0B\x0C\x01\x02\x03\x77")) || int(answer[3])<<8|int(answer[4]) != len(answer) {
		t.Errorf("header %x", answer[:22])
	}
	if err := d.Unpack(&m, answer); err != nil || m.MTI() != 0x0810 || string(m.Bytes(39)) != "30" || string(m.Bytes(11)) != "000017" {
		t.Errorf("answer %s: %v", m.MTI(), err)
	}
}

func TestErrors(t *testing.T) {
	d := load(t, "ascii87")
	var m Message
	head := "0800" + "\x02\x20\x00\x00\x00\x00\x00\x00"
	for _, c := range []struct {
		frame string
		want  error
	}{
		{"", ErrTruncated},
		{"08", ErrTruncated},
		{"08X0" + head[4:], ErrMTI},
		{"0800\x02\x20", ErrTruncated},
		{head + "1123035512" + "00001", ErrTruncated},
		{head + "1123035512" + "000017" + "x", ErrTrailing},
		{head + "112303551A" + "000017", ErrDigits},
		{head + "+123035512" + "000017", ErrDigits},
		{"0800\x40\x00\x00\x00\x00\x00\x00\x00" + "20" + strings.Repeat("4", 20), ErrTooLong},
		{"0800\x40\x00\x00\x00\x00\x00\x00\x00" + "+2" + "44", ErrLength},
		{"0800\x00\x00\x00\x00\x00\x01\x00\x00" + "0059203", ErrTruncated},
		{"0800\x80\x00\x00\x00\x00\x00\x00\x00" + "\x80\x00\x00\x00\x00\x00\x00\x00", ErrUndefined},
		{strings.Repeat("0", MaxFrame+1), ErrTooLong},
	} {
		if err := d.Unpack(&m, []byte(c.frame)); !errors.Is(err, c.want) {
			t.Errorf("%.40q: %v, want %v", c.frame, err, c.want)
		}
	}
	a, i := example(t)
	for _, c := range []struct {
		change  func(*payment.Authorization, *payment.Intent)
		pointer string
		want    error
	}{
		{func(a *payment.Authorization, _ *payment.Intent) { a.Card.PAN = card.PAN{} }, "/card/number", ErrMissing},
		{func(_ *payment.Authorization, i *payment.Intent) { i.Amount.Value = 1e12 }, "/amount/value", ErrTooLong},
		{func(_ *payment.Authorization, i *payment.Intent) { i.Terms.MCC = "59421" }, "/merchant", ErrTooLong},
		{func(_ *payment.Authorization, i *payment.Intent) { i.Terms.Acquirer = "" }, "/merchant", ErrMissing},
		{func(a *payment.Authorization, _ *payment.Intent) {
			a.ThreeDS.AuthenticationValue = bytes.Repeat([]byte("A"), 40)
		}, "/three_d_secure/authentication_value", ErrTooLong},
		{func(a *payment.Authorization, _ *payment.Intent) { a.ThreeDS.ECI = []byte("x5") }, "/three_d_secure/eci", ErrDigits},
		{func(a *payment.Authorization, _ *payment.Intent) { a.Channel = payment.NoChannel }, "/channel", ErrMissing},
	} {
		a2, i2 := *a, *i
		c.change(&a2, &i2)
		dst := []byte("kept")
		out, err := d.EncodeAuthorization(dst, &a2, &i2)
		var fe *FieldError
		if !errors.As(err, &fe) || fe.Pointer != c.pointer || !errors.Is(err, c.want) || string(out) != "kept" {
			t.Errorf("%s: got %v (%q), want %v", c.pointer, err, out, c.want)
		}
	}
	var b Builder
	for _, de := range []int{-1, 0, 1, 65, 129, 193, 1000} {
		b.Start(0x0100)
		b.Set(de, []byte("1"))
		if _, err := d.Pack(nil, &b); !errors.Is(err, ErrUndefined) {
			t.Errorf("DE %d: %v", de, err)
		}
	}
}

// No dump shows what may not be shown, whatever the dialect; nor does an error.
func TestMasked(t *testing.T) {
	track, err := card.ParseTrack2([]byte("4111111111111111=27121010000012345678"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range dialectNames(t) {
		d := load(t, name)
		a, i := example(t)
		a.Card.Track2 = track
		i.Terms.AcceptorName = "4111111111111111/PARIS/FR"
		i.MTI = uint16(d.AuthorizationMTI())
		frame, err := d.EncodeAuthorization(nil, a, i)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		other := *i
		other.STAN = 18
		pan, err := card.ParsePAN([]byte("5555555555554444"))
		if err != nil {
			t.Fatal(err)
		}
		b := *a
		b.Card.PAN = pan
		second, err := d.EncodeAuthorization(nil, &b, &other)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := d.Describe(&out, frame); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := d.Describe(&out, frame[:len(frame)-1]); err == nil {
			t.Errorf("%s: a cut message is described without a fault", name)
		}
		if err := d.Diff(&out, frame, second); err != nil {
			t.Fatal(err)
		}
		for _, f := range d.Validate(frame) {
			out.WriteString(f.String())
		}
		text := out.String()
		for _, secret := range []string{"4111111111111111", "5555555555554444", "34313131", "4111 1111", "2712", "\"123\"", "313233", "F1F2F3", "41111111111111"} {
			if strings.Contains(strings.ToUpper(text), secret) {
				t.Errorf("%s: %s is shown:\n%s", name, secret, text)
			}
		}
		if !strings.Contains(text, "411111******1111") || !strings.Contains(text, "000018") {
			t.Errorf("%s: the dump shows nothing:\n%s", name, text)
		}
	}
}

func TestWipe(t *testing.T) {
	d := load(t, "bcd87")
	a, i := example(t)
	frame, err := d.EncodeAuthorization(nil, a, i)
	if err != nil {
		t.Fatal(err)
	}
	var m, n Message
	if err := d.Unpack(&m, frame); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{fmt.Sprintf("%v %+v %#v %x %d", m, m, m, m, m), fmt.Sprint(&m), m.LogValue().String()} {
		if !strings.HasPrefix(text, "message 0100") || len(text) > 64 {
			t.Errorf("a message prints as %q", text)
		}
	}
	m.Swap(&n)
	if m.Has(2) || string(n.Bytes(2)) != "4111111111111111" {
		t.Error("Swap does not exchange")
	}
	buf := n.buf[:cap(n.buf)]
	n.Wipe()
	if bytes.Contains(buf, []byte("4111")) || bytes.Contains(buf, frame[:8]) || n.Has(2) || n.Bytes(2) != nil {
		t.Error("Wipe leaves something")
	}
	var b Builder
	b.Start(0x0100)
	b.SetSub(48, "0092", []byte("123"))
	if _, err := d.Pack(nil, &b); err != nil {
		t.Fatal(err)
	}
	buf, scratch := b.buf[:cap(b.buf)], b.scratch[:cap(b.scratch)]
	b.Wipe()
	if len(bytes.Trim(buf, "\x00")) > 0 || len(bytes.Trim(scratch, "\x00")) > 0 {
		t.Error("the builder keeps something")
	}
}

func TestMAC(t *testing.T) {
	for _, name := range []string{"ifsf", "unionpay"} {
		d := load(t, name)
		a, i := example(t)
		frame, err := d.EncodeAuthorization(nil, a, i)
		if err != nil {
			t.Fatal(err)
		}
		body, mac, ok := d.MACSpan(frame)
		if !ok || body != d.headerLen || mac != len(frame)-8 || strings.Trim(string(frame[mac:]), "\x000") != "" {
			t.Errorf("%s: MAC at %d of %d, over from %d", name, mac, len(frame), body)
		}
	}
	d := load(t, "ascii87")
	a, i := example(t)
	frame, err := d.EncodeAuthorization(nil, a, i)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, ok := d.MACSpan(frame); ok {
		t.Error("a MAC is seen where there is none")
	}
	if _, _, ok := d.MACSpan(frame[:3]); ok {
		t.Error("a MAC is seen in a cut frame")
	}
	var b Builder
	b.Start(0x0100)
	b.SetUint(11, 1)
	b.Set(64, make([]byte, 8))
	frame, err = d.Pack([]byte("before"), &b)
	if err != nil || b.MACOffset() != len(frame)-len("before")-8 || b.BodyOffset() != 0 {
		t.Errorf("MACOffset %d of %d (%v)", b.MACOffset(), len(frame), err)
	}
}

// structure packs pieces and reads them back: as bytes, and piece by piece.
func TestStructures(t *testing.T) {
	type piece struct{ id, value string }
	for _, c := range []struct {
		dialect string
		de      int
		set     []piece
		content string
		read    []piece
	}{
		// EMV data keeps its order, its repeated and its unknown tags.
		{
			"ascii87", 55,
			[]piece{{"", "\x9F\x26\x08ABCDEFGH\x71\x01x\x71\x01y\x00\xDF\x01\x02ok\x82\x02\x18\x00"}},
			"\x9F\x26\x08ABCDEFGH\x71\x01x\x71\x01y\x00\xDF\x01\x02ok\x82\x02\x18\x00",
			[]piece{{"9F26", "ABCDEFGH"}, {"71", "x"}, {"DF01", "ok"}, {"82", "\x18\x00"}, {"9F27", ""}},
		},
		{"ascii87", 48, []piece{{"92", "123"}, {"77", "?"}, {"92", "456"}}, "92034567701?", []piece{{"92", "456"}, {"77", "?"}, {"78", ""}}},
		{"mastercard", 48, []piece{{"87", "M"}, {"42.01", "212"}}, "8701M42070103212", []piece{{"87", "M"}, {"42.01", "212"}, {"lead", ""}, {"42.02", ""}}},
		{"mastercard", 48, []piece{{"lead", "T"}, {"61", "00000"}}, "T610500000", []piece{{"lead", "T"}, {"61", "00000"}}},
		{"mastercard", 61, []piece{{"4", "5"}, {"14", "75001"}}, "000500000000000075001", []piece{{"4", "5"}, {"12", "00"}, {"14", "75001"}}},
		{"visa", 44, []piece{{"10", "M"}}, "          M", []piece{{"10", "M"}, {"6", "  "}, {"11", ""}}},
		{"visa", 60, []piece{{"8", "05"}}, "0000000005", []piece{{"8", "05"}, {"5", "00"}, {"9", ""}}},
		{"visa", 62, []piece{{"23", "\x41 "}, {"2", "123456789012345"}}, "\x40\x00\x02\x00\x00\x00\x00\x00\x01\x23\x45\x67\x89\x01\x23\x45\xC1\x40", []piece{{"2", "123456789012345"}, {"23", "A "}}},
		{"visa", 126, []piece{{"10.3", "12"}, {"10.1", "1"}}, "\x00\x40\x00\x00\x00\x00\x00\x00\xF1\x40\x40\x40\xF1\xF2", []piece{{"10.1", "1"}, {"10.3", "  12"}, {"10", "1   12"}}},
		{"visa", 34, []piece{{"4A.89", "1"}, {"02.80", "0"}}, "\x4A\x00\x03\x89\x01\xF1\x02\x00\x03\x80\x01\xF0", []piece{{"4A.89", "1"}, {"02.80", "0"}, {"4A.87", ""}}},
		{"unionpay", 48, []piece{{"ON", "42"}}, "ON42", []piece{{"ON", "42"}}},
		{"unionpay", 48, []piece{{"ON", "42"}, {"ZZ", "!"}, {"IP", "03"}}, "ASON00242ZZ001!IP00203", []piece{{"ON", "42"}, {"ZZ", "!"}, {"IP", "03"}}},
		{"as2805", 47, []piece{{"TCC", "07"}, {"XYZ", "free"}}, "TCC07\\XYZfree\\", []piece{{"TCC", "07"}, {"XYZ", "free"}, {"ECM", ""}}},
		{"jcb", 48, []piece{{"31", "0123456789012345"}}, "\xF3\xF1\xF0\xF8\x01\x23\x45\x67\x89\x01\x23\x45", []piece{{"31", "0123456789012345"}}},
		{"cmf", 4, []piece{{"3", "1051"}, {"1", "978"}, {"2", "2"}}, "9782000000001051", []piece{{"1", "978"}, {"2", "2"}, {"3", "000000001051"}}},
		{"amex", 60, []piece{{"lead", "AXAAD"}, {"2", "123456789012345"}}, "\xC1\xE7\xC1\xC1\xC4\x40\x00\x00\x00\xF1\xF2\xF3\xF4\xF5\xF6\xF7\xF8\xF9\xF0\xF1\xF2\xF3\xF4\xF5", []piece{{"2", "123456789012345"}}},
		{"bcd87", 48, []piece{{"0092", "123"}}, "\x00\x92\x02\xF1\x23", []piece{{"0092", "123"}}},
	} {
		d := load(t, c.dialect)
		var b Builder
		b.Start(d.AuthorizationMTI())
		b.SetSub(c.de, "99", []byte("cleared again"))
		b.Clear(c.de)
		for _, p := range c.set {
			if p.id == "" {
				b.Set(c.de, []byte(p.value))
			} else {
				b.SetSub(c.de, p.id, []byte(p.value))
			}
		}
		frame, err := d.Pack(nil, &b)
		if err != nil {
			t.Errorf("%s DE %d: %v", c.dialect, c.de, err)
			continue
		}
		var m Message
		if err := d.Unpack(&m, frame); err != nil {
			t.Errorf("%s DE %d: %v", c.dialect, c.de, err)
			continue
		}
		if got := m.Bytes(c.de); string(got) != c.content {
			t.Errorf("%s DE %d: packed %q, want %q", c.dialect, c.de, got, c.content)
		}
		for _, p := range c.read {
			if got := m.Sub(c.de, p.id); string(got) != p.value || (got == nil) != (p.value == "") {
				t.Errorf("%s DE %d.%s: %q, want %q", c.dialect, c.de, p.id, got, p.value)
			}
		}
	}
}
