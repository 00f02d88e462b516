package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func TestRampStopsWhereAStepDoesNotHold(t *testing.T) {
	s := newStub(t)
	s.refuse = func(n int) (int, string) {
		if n > 60 { // the third rate loses its answers
			return 503, `{"code":"overloaded","final":false}`
		}
		return 0, ""
	}
	o := options(s)
	o.Duration, o.Drain, o.LateLimit = 200*time.Millisecond, 100*time.Millisecond, time.Minute
	o.Random = rand.NewChaCha8([32]byte{})
	study, err := Ramp(context.Background(), o, RampOptions{From: 100, To: 10_000, Factor: 2, P99: time.Minute, Goodput: 0.99})
	if err != nil {
		t.Fatal(err)
	}
	if len(study.Steps) != 4 || study.Best != 1 || study.Steps[1].Rate != 200 || study.Steps[3].Rate != 400 || !strings.Contains(study.Ended, "were decided") {
		t.Errorf("%d steps, best %d, ended %q", len(study.Steps), study.Best, study.Ended)
	}
	if _, err := Ramp(context.Background(), o, RampOptions{From: 100, To: 10, Factor: 2}); !errors.Is(err, ErrOptions) {
		t.Errorf("a ramp downwards: %v", err)
	}
}

// sample is a study of two steps with every part of a report in it.
func sample() *Study {
	step := func(rate, ms float64) *Report {
		r := &Report{
			Result: Result{
				Offered: 3000, Sent: 3000, Answered: 2990, Approved: 2900, Declined: 80, Unknown: 20, Retried: 7,
				Errors: map[string]int64{"<script>": 3, "refused": 4}, P50: ms, P90: 2 * ms, P99: 5 * ms, P999: 9 * ms,
				CPU: 90, Valid: true, CPUSplit: map[string]float64{"generator": 20, "node": 70},
				Stages: map[string]float64{"open": 900, "exchange": 10_000, "encode": 12, "close": 950},
			},
			Rate: rate, Seconds: 3, Outcomes: map[string]int64{"approved": 2900, "declined": 80, "acquirer_timeout": 10},
		}
		for i := range 4 {
			r.Series = append(r.Series, Second{At: i + 1, Offered: 1000, Answered: 990, Errors: int64(i), P50: ms, P99: ms * 5, Max: ms * 20})
		}
		for _, p := range []float64{0, 50, 90, 99, 99.9, 100} {
			r.Percentiles = append(r.Percentiles, Percentile{P: p, MS: ms * (1 + p/10)})
		}
		return r
	}
	return &Study{Machine: "2 × test", Steps: []*Report{step(1000, 2), step(2000, 3)}, Best: 1, Ended: "the highest rate was reached"}
}

func TestReportIsOneWellFormedPage(t *testing.T) {
	written, err := json.Marshal(sample())
	if err != nil {
		t.Fatal(err)
	}
	study, err := ReadStudy(bytes.NewReader(written))
	if err != nil {
		t.Fatal(err)
	}
	var page bytes.Buffer
	if err := WriteReport(&page, study, "a & b"); err != nil {
		t.Fatal(err)
	}
	html := page.String()
	for _, want := range []string{
		"a &amp; b", "valid run", "Latency by percentile", "Throughput against latency", "Where the time goes", "CPU per authorization",
		"acquirer_timeout", "&lt;script&gt;", "2 × test", ">99.9<", "exchange", "<td>2000</td>",
	} {
		if !strings.Contains(html, want) {
			t.Errorf("no %q in the page", want)
		}
	}
	for _, banned := range []string{"<script", "http://", "https://", "NaN", "Inf", "ZgotmplZ"} {
		if strings.Contains(html, banned) {
			t.Errorf("%q in the page", banned)
		}
	}
	if n := strings.Count(html, "<svg"); n != 4 {
		t.Errorf("%d charts, want 4", n)
	}
	for rest := html; ; {
		from := strings.Index(rest, "<svg")
		if from < 0 {
			break
		}
		to := strings.Index(rest, "</svg>") + len("</svg>")
		wellFormed(t, rest[from:to])
		rest = rest[to:]
	}
}

func wellFormed(t *testing.T, svg string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Errorf("%v in %.80s", err, svg)
			return
		}
	}
}

// A run that measured nothing must still be drawn.
func TestReportOfAnEmptyRun(t *testing.T) {
	var page bytes.Buffer
	if err := WriteReport(&page, Single(&Report{Result: Result{Invalid: "nothing was answered"}}), "empty"); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(page.String(), "invalid: nothing was answered") || strings.Contains(page.String(), "NaN") {
		t.Error("an empty run is not drawn as one")
	}
}

func TestReadStudyRefusesOtherFiles(t *testing.T) {
	for _, other := range []string{"", "{}", "[]", `{"steps":[null]}`, `{"steps":[{}],"best":4}`, `{"steps":[{}],"best":-2}`} {
		if _, err := ReadStudy(strings.NewReader(other)); !errors.Is(err, ErrStudy) {
			t.Errorf("%q: %v", other, err)
		}
	}
}

func TestCompareSaysWhichIsBetter(t *testing.T) {
	a, b := sample(), sample()
	b.Steps[1].P99, b.Steps[1].Approved = 5, 2*2900+80
	got := map[string]float64{}
	for _, r := range Compare(a, b) {
		got[r.Name] = r.Ratio
	}
	for name, want := range map[string]float64{"p99_ms": 3, "decided_per_s": 2, "p50_ms": 1, "cpu_us_per_authorization": 1} {
		if got[name] != want {
			t.Errorf("%s: %v, want %v", name, got[name], want)
		}
	}
}

func TestAxisMarksCoverTheValues(t *testing.T) {
	for _, c := range []struct {
		log    bool
		values []float64
	}{
		{true, []float64{0.3, 420}},
		{true, []float64{5, 5}},
		{true, []float64{1e-3, 1e6}},
		{true, nil},
		{true, []float64{0}},
		{false, []float64{0, 17_000}},
		{false, []float64{0}},
		{false, nil},
		{false, []float64{0.004}},
	} {
		a := axis{log: c.log}
		a.fit(c.values)
		if len(a.marks) < 2 || len(a.marks) > 40 {
			t.Errorf("%v: %d marks", c, len(a.marks))
		}
		for _, v := range c.values {
			if v > 0 && (v < a.low || v > a.high) {
				t.Errorf("%v: %v is outside %v to %v", c, v, a.low, a.high)
			}
		}
	}
}
