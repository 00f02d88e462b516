package main

import (
	"bytes"
	"errors"
	"math"
	"os"
	"strings"
	"testing"
	"time"
)

func TestMeasureCodec(t *testing.T) {
	if n := len(elements()); n != 24 {
		t.Fatalf("%d fields, want 24", n)
	}
	for _, dialect := range []string{"ascii87", "bcd87"} {
		got, err := measureCodec(dialect, t.TempDir(), time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		if got.packNS <= 0 || got.unpackNS <= 0 {
			t.Errorf("%s: %+v", dialect, got)
		}
		for _, file := range []string{got.spec, got.frame} {
			if info, err := os.Stat(file); err != nil || info.Size() == 0 {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
}

func TestParseBenchmark(t *testing.T) {
	out := []byte("goos: linux\nBenchmarkRoundTrip/256-2  \t 200\t  5300 ns/op\t 188000 roundtrips/s\t 0 B/op\t 1 allocs/op\nPASS\n")
	got, err := parseBenchmark(out, "x", "y")
	if err != nil || got["ns/op"] != 5300 || got["roundtrips/s"] != 188000 || got["allocs/op"] != 1 {
		t.Errorf("%v %v", got, err)
	}
	if _, err := parseBenchmark([]byte("PASS\nok x\n"), "x", "y"); !errors.Is(err, errNoBenchmark) {
		t.Errorf("nothing run: %v", err)
	}
}

func TestPrintSaysWhatFallsShortAndWhatWasNotRun(t *testing.T) {
	m := table{
		figures: map[string]float64{"codec.pack_ns": 700, "codec.pack_ratio_moov": 17.2, "link.roundtrips_per_s": 100, "other": 1.23456},
		missing: []string{"door: no reason"},
	}
	var out bytes.Buffer
	if err := m.print(&out, "machine"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"met", "17.2 × better", "SHORT", "≥ 130000", "not run: door: no reason", "1.235", "machine"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestRound(t *testing.T) {
	for v, want := range map[float64]float64{0: 0, 12345: 12350, 0.00123456: 0.001235, -1.23456: -1.235, 9999.6: 10000} {
		if got := round(v); math.Abs(got-want) > 1e-9*math.Abs(want) {
			t.Errorf("round(%v) = %v, want %v", v, got, want)
		}
	}
}
