package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

// The sustained run: its rate, how often memory is looked at, and how much of
// its beginning is left out of the slope, while caches and memtables fill.
const (
	sustainedRate  = 1000
	sampleEvery    = 2 * time.Second
	sustainedWarms = 3 // one part of so many
)

var errTooShort = errors.New("too short to tell a slope")

// sustained offers one rate for -sustained and watches the node's memory: what
// grows with every authorization shows here and nowhere else.
func (t *table) sustained(ctx context.Context) (err error) {
	if t.sustain < 10*sampleEvery {
		return fmt.Errorf("-sustained %s: %w", t.sustain, errTooShort)
	}
	d, err := t.startDev(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	watching, stop := context.WithCancel(ctx)
	watched := make(chan []memory, 1)
	go func() { watched <- watchMemory(watching, &trial{dev: d}) }()
	study, err := t.loadDev(ctx, d, "run", "--rate", strconv.Itoa(sustainedRate), "--duration", t.sustain.String())
	stop()
	samples := <-watched
	if err != nil {
		return err
	}
	samples = samples[len(samples)/sustainedWarms:]
	if len(samples) < 5 {
		return errTooShort
	}
	r := study.Shown()
	t.figures["sustained.seconds"], t.figures["sustained.per_s"] = t.sustain.Seconds(), r.Throughput()
	t.figures["sustained.p50_ms"], t.figures["sustained.p99_ms"], t.figures["sustained.p999_ms"] = r.P50, r.P99, r.P999
	t.figures["sustained.rss_mib"] = samples[len(samples)-1].rss
	t.figures["sustained.rss_mib_per_minute"] = slope(samples, func(m memory) float64 { return m.rss })
	t.figures["sustained.live_mib_per_minute"] = slope(samples, func(m memory) float64 { return m.live })
	return t.verify(ctx, d)
}

// memory is a node's, in MiB, so many minutes after the beginning. Live is what
// the last collection left.
type memory struct{ at, rss, live float64 }

// watchMemory looks until the context ends.
func watchMemory(ctx context.Context, o *trial) (seen []memory) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for began := time.Now(); ; {
		select {
		case <-ctx.Done():
			return seen
		case <-tick.C:
		}
		now := memory{at: time.Since(began).Minutes(), rss: residentOf(o.dev.Nodes[0].PID)}
		metrics, err := o.get(ctx, o.dev.Admin+"/metrics")
		if err != nil {
			continue
		}
		// The goal of the next collection is a fixed multiple of what is live.
		now.live = gauge(metrics, "go_memstats_next_gc_bytes ") / 2 / (1 << 20)
		seen = append(seen, now)
	}
}

// residentOf is the resident memory of a process.
func residentOf(pid int) float64 {
	content, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	fields := bytes.Fields(content)
	if err != nil || len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseFloat(string(fields[1]), 64)
	return pages * float64(os.Getpagesize()) / (1 << 20)
}

// gauge is the value of a metric without labels; name ends in a space.
func gauge(metrics []byte, name string) float64 {
	for line := range bytes.Lines(metrics) {
		if value, ok := bytes.CutPrefix(line, []byte(name)); ok {
			v, _ := strconv.ParseFloat(string(bytes.TrimSpace(value)), 64)
			return v
		}
	}
	return 0
}

// slope is how much a value grows in a minute: the straight line that fits best.
func slope(samples []memory, value func(memory) float64) float64 {
	var n, x, y, xx, xy float64
	for _, s := range samples {
		v := value(s)
		n, x, y, xx, xy = n+1, x+s.at, y+v, xx+s.at*s.at, xy+s.at*v
	}
	if d := n*xx - x*x; d > 0 {
		return (n*xy - x*y) / d
	}
	return 0
}
