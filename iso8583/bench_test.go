package iso8583

import (
	"testing"

	moov "github.com/moov-io/iso8583"
)

// message24 is the 24-element 0100 that make bench measures, in ascii87.
func message24(b *Builder) {
	b.Start(0x0100)
	for _, e := range []struct {
		de    int
		value string
	}{
		{2, "4111111111111111"},
		{3, "000000"},
		{4, "000000001051"},
		{7, "1123035512"},
		{11, "000017"},
		{12, "045512"},
		{13, "1123"},
		{14, "2712"},
		{18, "5942"},
		{19, "250"},
		{22, "810"},
		{23, "001"},
		{25, "59"},
		{32, "970001"},
		{33, "970002"},
		{37, "632700000017"},
		{41, "10000001"},
		{42, "970000000000001"},
		{43, "PARCELS ONLINE        PARIS        FR   "},
		{49, "978"},
		{53, "0000000000000000"},
		{60, "0000000000000000"},
		{62, "ORDER-42"},
		{63, "0123456789"},
	} {
		b.SetString(e.de, e.value)
	}
}

func BenchmarkPack24(b *testing.B) {
	for _, name := range []string{"ascii87", "bcd87"} {
		b.Run(name, func(b *testing.B) {
			d := load(b, name)
			var builder Builder
			message24(&builder)
			frame, err := d.Pack(nil, &builder)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				message24(&builder)
				if frame, err = d.Pack(frame[:0], &builder); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkUnpack24(b *testing.B) {
	for _, name := range []string{"ascii87", "bcd87"} {
		b.Run(name, func(b *testing.B) {
			d := load(b, name)
			var builder Builder
			message24(&builder)
			frame, err := d.Pack(nil, &builder)
			if err != nil {
				b.Fatal(err)
			}
			var m Message
			b.ReportAllocs()
			for b.Loop() {
				if err := d.Unpack(&m, frame); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// The same message through moov, for the ratio.
func BenchmarkMoov24(b *testing.B) {
	for _, name := range []string{"ascii87", "bcd87"} {
		d := load(b, name)
		spec := moovSpec(b, d)
		var builder Builder
		message24(&builder)
		frame, err := d.Pack(nil, &builder)
		if err != nil {
			b.Fatal(err)
		}
		var ours Message
		if err := d.Unpack(&ours, frame); err != nil {
			b.Fatal(err)
		}
		b.Run("pack/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				m := moov.NewMessage(spec)
				m.MTI("0100")
				for de := ours.Next(1); de != 0; de = ours.Next(de) {
					if err := m.BinaryField(de, ours.Bytes(de)); err != nil {
						b.Fatal(err)
					}
				}
				if _, err := m.Pack(); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("unpack/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := moov.NewMessage(spec).Unpack(frame); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEncodeAuthorization(b *testing.B) {
	for _, name := range []string{"cb", "visa", "mastercard"} {
		b.Run(name, func(b *testing.B) {
			d := load(b, name)
			a, i := example(b)
			var frame []byte
			var err error
			b.ReportAllocs()
			for b.Loop() {
				if frame, err = d.EncodeAuthorization(frame[:0], a, i); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
