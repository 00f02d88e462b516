package hsm_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"authswitch/hsm"
)

// What becomes of a DUKPT counter, through the real server: used up or none, it
// is refused; repeated or going backward, it is counted, and refused only where
// the link says so. What is refused for its counter is told no otherwise than a
// wrong PIN block.
func TestCounters(t *testing.T) {
	registry := prometheus.NewRegistry()
	m := newModule(t, fileRoot(t), func(m *module) { m.registry = registry })
	c := m.client(m.run())
	base, to := m.block(1, "B0TXN", "0123456789ABCDEFFEDCBA9876543210"), m.block(1, "P0TBE", double2)
	// The blocks of ANSI X9.24-1:2009 annex A.4 for the counters of its device.
	blocks := map[string]string{
		"FFFF9876543210E00001": "1B9C1845EB993A7A", "FFFF9876543210E00002": "10A01C8D02C69107", "FFFF9876543210E00003": "18DC07B94797B466",
	}
	count := func(name, verdict string) float64 {
		t.Helper()
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, x := range f.GetMetric() {
				if f.GetName() == name && (verdict == "" || len(x.GetLabel()) > 0 && x.GetLabel()[0].GetValue() == verdict) {
					return x.GetCounter().GetValue()
				}
			}
		}
		return 0
	}
	const forward, repeated, late = "forward", "repeated", "late"
	for i, line := range []struct {
		ksn, block string
		inOrder    bool
		want       error
		verdict    string
	}{
		{"FFFF9876543210E00001", "", false, nil, forward},
		{"FFFF9876543210E00001", "", false, nil, repeated}, // a terminal that stores and forwards
		{"FFFF9876543210E00001", "", true, hsm.ErrRefused, repeated},
		{"FFFF9876543210E00003", "", true, nil, forward},
		{"FFFF9876543210E00002", "", false, nil, late},
		{"FFFF9876543210E00002", "", true, hsm.ErrRefused, repeated},
		{"FFFF9876543210E00000", blocks["FFFF9876543210E00001"], false, hsm.ErrRefused, ""}, // no device sends counter 0
		{"FFFF9876543210EFFC00", blocks["FFFF9876543210E00001"], false, hsm.ErrRefused, ""}, // ten ones: the last that there is, and not this block's
		{"FFFF9876543210EFFE00", blocks["FFFF9876543210E00001"], false, hsm.ErrRefused, ""}, // eleven: used up
		{"FFFF9876543210FFFFFF", blocks["FFFF9876543210E00001"], true, hsm.ErrRefused, ""},  // all ones
		{"FFFF9876543210E000", blocks["FFFF9876543210E00001"], false, hsm.ErrRefused, ""},   // too short
		{"FFFF9876543210E00004", blocks["FFFF9876543210E00001"], true, hsm.ErrRefused, ""},  // another's block: nothing is remembered of it
		{"FFFF9876543210E00001", blocks["FFFF9876543210E00001"], false, nil, repeated},
	} {
		block := line.block
		if block == "" {
			block = blocks[line.ksn]
		}
		before, refused := count("hsmd_dukpt_counters_total", line.verdict), count("hsmd_dukpt_refused_total", "")
		in := hsm.In{Key: base, KSN: unhex(t, line.ksn), Format: hsm.ISO0, Block: unhex(t, block), PAN: pan(t, "4012345678909"), InOrder: line.inOrder}
		_, err := c.TranslatePIN(make([]byte, 16), in, hsm.Out{Key: to, Format: hsm.ISO0}, 0)
		if !errors.Is(err, line.want) || err != nil && err.Error() != hsm.ErrRefused.Error() {
			t.Errorf("line %d: %v, want %v", i, err, line.want)
		}
		if line.verdict != "" && count("hsmd_dukpt_counters_total", line.verdict) != before+1 {
			t.Errorf("line %d: not counted as %s", i, line.verdict)
		}
		used := strings.HasSuffix(line.ksn, "FFE00") || strings.HasSuffix(line.ksn, "FFFFF") || strings.HasSuffix(line.ksn, "E00000") || len(line.ksn) < 20
		if got := count("hsmd_dukpt_refused_total", "") - refused; (got == 1) != used {
			t.Errorf("line %d: %v serial numbers counted as refused", i, got)
		}
	}
}
