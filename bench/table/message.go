package main

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"authswitch/iso8583"
	"authswitch/iso8583/dialects"
)

// element is one element of the message that every codec packs.
type element struct {
	de    int
	value string
}

// elements are the 24 fields of an e-commerce authorization with chip data and
// PIN, so that every kind of field is in it: fixed and variable, digits, text
// and bytes.
func elements() []element {
	return []element{
		{2, "4111111111111111"},
		{3, "000000"},
		{4, "000000001051"},
		{7, "1123040506"},
		{11, "000017"},
		{12, "050506"},
		{13, "1123"},
		{14, "2712"},
		{18, "5942"},
		{19, "250"},
		{22, "051"},
		{23, "001"},
		{25, "00"},
		{26, "12"},
		{32, "970001"},
		{33, "970002"},
		{37, "632700000017"},
		{41, "TERM0001"},
		{42, "PARCELS00000001"},
		{43, "PARCELS ONLINE           PARIS        FR"},
		{49, "978"},
		{52, unhex("0123456789ABCDEF")},
		{55, unhex("9F2608A1B2C3D4E5F607089F2701809F100706010A03A000009F3704112233449F36020001950500000000009A032611239C01009F02060000000010515F2A020978820239009F1A0202509F03060000000000009F3303E0F8C8")},
		{60, "0123456789"},
	}
}

func unhex(s string) string {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// fill sets the elements of a message.
func fill(b *iso8583.Builder, mti iso8583.MTI, all []element) {
	b.Start(mti)
	for i := range all {
		b.SetString(all[i].de, all[i].value)
	}
}

// codecFigures are one dialect's times, and the files for its peer.
type codecFigures struct {
	packNS, unpackNS float64
	spec, frame      string
}

// measureCodec packs and unpacks the message in a dialect.
func measureCodec(dialect, directory string, length time.Duration) (codecFigures, error) {
	var out codecFigures
	d, err := iso8583.Load(dialects.FS, dialect)
	if err != nil {
		return out, err
	}
	mti, err := iso8583.ParseMTI("0100")
	if err != nil {
		return out, err
	}
	all := elements()
	var b iso8583.Builder
	fill(&b, mti, all)
	frame, err := d.Pack(nil, &b)
	if err != nil {
		return out, fmt.Errorf("packing in %s: %w", dialect, err)
	}
	spec, err := d.MoovSpec()
	if err != nil {
		return out, err
	}
	out.spec, out.frame = filepath.Join(directory, dialect+".json"), filepath.Join(directory, dialect+".hex")
	if err := os.WriteFile(out.spec, spec, 0o600); err != nil {
		return out, err
	}
	if err := os.WriteFile(out.frame, []byte(hex.EncodeToString(frame)), 0o600); err != nil {
		return out, err
	}
	var failed error
	buffer := make([]byte, 0, 2*len(frame))
	out.packNS = perCall(length, func() {
		fill(&b, mti, all)
		if _, err := d.Pack(buffer[:0], &b); err != nil {
			failed = err
		}
	})
	var m iso8583.Message
	out.unpackNS = perCall(length, func() {
		if err := d.Unpack(&m, frame); err != nil {
			failed = err
		}
	})
	return out, failed
}

// perCall is the CPU time of one call, in nanoseconds, the collector's
// included. On a machine with neighbours it repeats where a clock does not.
func perCall(length time.Duration, f func()) float64 {
	const batch = 1000
	for range batch {
		f()
	}
	runtime.GC()
	began, spent, n := time.Now(), ownCPU(), 0
	for time.Since(began) < length {
		for range batch {
			f()
		}
		n += batch
	}
	return float64((ownCPU() - spent).Nanoseconds()) / float64(n)
}

func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // it takes no argument that could be wrong
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
