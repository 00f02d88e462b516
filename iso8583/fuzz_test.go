package iso8583

import (
	"bytes"
	"io"
	"testing"
	"testing/fstest"

	"authswitch/payment"
)

// FuzzUnpack: no frame makes us panic; what is read, packs again and reads the
// same; what packs again is not longer than what came.
func FuzzUnpack(f *testing.F) {
	names := dialectNames(f)
	all := make([]*Dialect, len(names))
	for i, name := range names {
		all[i] = load(f, name)
		var b Builder
		for seed := range uint64(4) {
			newGenerator(all[i], seed).message(&b)
			if frame, err := all[i].Pack(nil, &b); err == nil {
				f.Add(uint8(i), frame)
			}
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, frame []byte) {
		d := all[int(which)%len(all)]
		var m, again Message
		err := d.Unpack(&m, frame)
		if describeErr := d.Describe(io.Discard, frame); (describeErr == nil) != (err == nil) {
			t.Fatalf("Describe: %v, Unpack: %v", describeErr, err)
		}
		_ = d.Validate(frame)
		_, _, _ = d.MACSpan(frame)
		var r payment.Response
		_ = d.DecodeReversal(&m, &r)
		_, _ = d.DecodeNetwork(&m)
		if err != nil || m.Rejected() {
			return
		}
		var b Builder
		b.Start(m.MTI())
		for de := m.Next(1); de != 0; de = m.Next(de) {
			b.Set(de, m.Bytes(de))
		}
		packed, err := d.Pack(nil, &b)
		if err != nil {
			return // a character we take and do not send
		}
		if err := d.Unpack(&again, packed); err != nil {
			t.Fatalf("what we packed does not read: %v\n%x\n%x", err, frame, packed)
		}
		for de := m.Next(1); de != 0; de = m.Next(de) {
			if !bytes.Equal(m.Bytes(de), again.Bytes(de)) {
				t.Fatalf("DE %d: %q became %q", de, m.Bytes(de), again.Bytes(de))
			}
		}
	})
}

// FuzzLoad: no dialect file makes us panic, and what loads can pack.
func FuzzLoad(f *testing.F) {
	base, err := fsFile("ascii87.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("name: x\nextends: base-87\nstatus: s\n"))
	f.Add(bytes.Replace(base, []byte("name: ascii87"), []byte("name: x"), 1))
	shared, err := fsFile("base-87.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := Load(fstest.MapFS{"x.yaml": {Data: text}, "base-87.yaml": {Data: shared}}, "x")
		if err != nil {
			return
		}
		var b Builder
		b.Start(d.AuthorizationMTI())
		b.SetUint(11, 17)
		if frame, err := d.Pack(nil, &b); err == nil {
			_ = d.Describe(io.Discard, frame)
		}
		if err := d.Doc(io.Discard); err != nil {
			t.Fatal(err)
		}
		_, _ = d.MoovSpec()
	})
}
