package wire

import (
	"bytes"
	"errors"
	"testing"
)

func request(t testing.TB, op Op, id uint64, deadline int64, fields ...[]byte) []byte {
	t.Helper()
	b := BeginRequest(nil, op, id, deadline)
	for _, f := range fields {
		b = AppendBytes(b, f)
	}
	if err := Finish(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRequest(t *testing.T) {
	b := request(t, OpGenerateMAC, 7, -3, []byte("key"), nil, []byte("message"))
	two := append(bytes.Clone(b), b...)
	r, size, err := CutRequest(two)
	if err != nil || size != len(b) || r.Op != OpGenerateMAC || r.ID != 7 || r.Deadline != -3 {
		t.Fatalf("%+v %d %v", r, size, err)
	}
	f := Read(r.Body)
	if got := f.Bytes(); string(got) != "key" {
		t.Errorf("%q", got)
	}
	if got := f.Bytes(); len(got) != 0 {
		t.Errorf("%q", got)
	}
	if f.Done() == nil {
		t.Error("a field is left and nobody says so")
	}
	if got := f.String(); got != "message" || f.Done() != nil {
		t.Errorf("%q", got)
	}
	SetID(b, 9)
	if r, _, _ = CutRequest(b); r.ID != 9 {
		t.Errorf("id %d", r.ID)
	}
	for n := range len(b) {
		if _, size, err := CutRequest(b[:n]); size != 0 || err != nil {
			t.Errorf("%d bytes: %d %v", n, size, err)
		}
	}
}

func TestResponse(t *testing.T) {
	b := BeginResponse([]byte("before"), StatusOK, 12)
	b = append(b, "answer"...)
	if err := Finish(b, 6); err != nil {
		t.Fatal(err)
	}
	r, size, err := CutResponse(b[6:])
	if err != nil || size != len(b)-6 || r.Status != StatusOK || r.ID != 12 || string(r.Body) != "answer" {
		t.Fatalf("%+v %d %v", r, size, err)
	}
	b = SetStatus(b, 6, StatusBusy)
	if err := Finish(b, 6); err != nil {
		t.Fatal(err)
	}
	if r, _, err = CutResponse(b[6:]); err != nil || r.Status != StatusBusy || r.ID != 12 || len(r.Body) != 0 {
		t.Errorf("%+v %v", r, err)
	}
}

// Frames that are none, one line each.
func TestRefused(t *testing.T) {
	long := BeginRequest(nil, OpPing, 1, 0)
	long = append(long, make([]byte, MaxFrame-len(long))...)
	if err := Finish(long, 0); err != nil {
		t.Error("the longest frame is refused: ", err)
	}
	if err := Finish(append(long, 0), 0); !errors.Is(err, ErrTooLong) {
		t.Errorf("a byte more: %v", err)
	}
	for _, c := range []struct {
		frame string
		want  error
	}{
		{"\x00\x00\x00\x00", ErrFrame},
		{"\x00\x00\x00\x01", ErrFrame},
		{"\x00\x00\x00\x11", ErrFrame},
		{"\x00\x00\x1f\xfd", ErrTooLong},
		{"\xff\xff\xff\xff", ErrTooLong},
		{"GET / HTTP/1.1\r\n", ErrTooLong},
		{"\x00\x00\x00\x12\x02\x01\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x00", ErrVersion},
	} {
		r, size, err := CutRequest([]byte(c.frame))
		if !errors.Is(err, c.want) {
			t.Errorf("%q: %v", c.frame, err)
		}
		if c.want == ErrVersion && (r.ID != 5 || size != len(c.frame)) {
			t.Errorf("%q: id %d, size %d", c.frame, r.ID, size)
		}
	}
	if _, _, err := CutResponse([]byte("\x00\x00\x00\x0a\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00")); !errors.Is(err, ErrVersion) {
		t.Errorf("a response of another version: %v", err)
	}
	// A field longer than its length can say makes no frame.
	if err := Finish(AppendBytes(BeginRequest(nil, OpPing, 1, 0), make([]byte, 1<<16+5)), 0); !errors.Is(err, ErrTooLong) {
		t.Errorf("a field of 64 KiB: %v", err)
	}
}

func TestFields(t *testing.T) {
	b := AppendUint64(AppendUint16(append(AppendString(nil, "x"), 'B'), 258), 1<<40)
	b = append(b, "fixed"...)
	f := Read(b)
	var fixed [5]byte
	if s, c, n, m := f.String(), f.Byte(), f.Uint16(), f.Uint64(); s != "x" || c != 'B' || n != 258 || m != 1<<40 {
		t.Error(s, c, n, m)
	}
	if f.Fixed(fixed[:]); string(fixed[:]) != "fixed" || f.Done() != nil {
		t.Errorf("%q", fixed)
	}
	for _, cut := range [][]byte{nil, {0}, {0, 2, 'x'}, {0xff, 0xff}} {
		f := Read(cut)
		if got := f.Bytes(); got != nil || f.Byte() != 0 || f.Uint16() != 0 || f.Uint64() != 0 || !errors.Is(f.Done(), ErrFields) {
			t.Errorf("%x: %x", cut, got)
		}
	}
}

// Every operation and status has a name of its own: they are labels.
func TestNames(t *testing.T) {
	seen := map[string]Op{}
	for o := range OpCeremony {
		if s := o.String(); s != "unknown" {
			if was, ok := seen[s]; ok {
				t.Errorf("%d and %d are both %s", was, o, s)
			}
			seen[s] = o
		}
	}
	if len(seen) != 23 {
		t.Errorf("%d operations", len(seen))
	}
	for s := range Status(Statuses) {
		if s.String() == "undefined" {
			t.Errorf("status %d has no name", s)
		}
	}
	if Status(Statuses).String() != "undefined" || Op(0).String() != "unknown" || Op(200).String() != "ceremony" {
		t.Error("what is none has a name")
	}
}

func FuzzCut(f *testing.F) {
	f.Add(BeginRequest(nil, OpPing, 1, 2))
	b := AppendBytes(BeginRequest(nil, OpGenerateMAC, 1, 2), []byte("field"))
	_ = Finish(b, 0)
	f.Add(b)
	f.Add(append(b, b...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, size, err := CutRequest(b); err == nil && size > 0 {
			again := append(BeginRequest(nil, r.Op, r.ID, r.Deadline), r.Body...)
			if Finish(again, 0) != nil || !bytes.Equal(again, b[:size]) {
				t.Fatalf("%x became %x", b[:size], again)
			}
			fields := Read(r.Body)
			for fields.Done() != nil && !fields.bad {
				fields.Bytes()
			}
		}
		if r, size, err := CutResponse(b); err == nil && size > 0 {
			again := append(BeginResponse(nil, r.Status, r.ID), r.Body...)
			if Finish(again, 0) != nil || !bytes.Equal(again, b[:size]) {
				t.Fatalf("%x became %x", b[:size], again)
			}
		}
	})
}
