package bench

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// Result is what `bench run --json` prints: the fields scripts rely on.
type Result struct {
	Offered  int64            `json:"offered"`
	Sent     int64            `json:"sent"`
	Answered int64            `json:"answered"`
	Approved int64            `json:"approved"`
	Declined int64            `json:"declined"`
	Unknown  int64            `json:"unknown"` // neither approved nor declined: timed out and reversed, refused, or never answered; errors says which
	Errors   map[string]int64 `json:"errors"`
	Retried  int64            `json:"retried"`
	P50      float64          `json:"p50_ms"` // from the intended send time to the final answer
	P90      float64          `json:"p90_ms"`
	P99      float64          `json:"p99_ms"`
	P999     float64          `json:"p999_ms"`
	Late     float64          `json:"late_ms"` // p99 of the generator's own lateness
	CPU      float64          `json:"cpu_us_per_authorization"`
	Valid    bool             `json:"valid"`
	Gap

	Refused     int64   `json:"refused"`         // turned away as overloaded, and not asked again
	Goodput     float64 `json:"goodput_per_s"`   // approved and declined a second, of those that came while load was offered
	AdmittedP50 float64 `json:"admitted_p50_ms"` // from the sending of the attempt that got the final answer: what an overloaded switch did with what it took
	AdmittedP99 float64 `json:"admitted_p99_ms"`

	Invalid  string             `json:"invalid,omitempty"`   // why not valid
	CPUSplit map[string]float64 `json:"cpu_us,omitempty"`    // per authorization, by process
	Stages   map[string]float64 `json:"stages_us,omitempty"` // mean of each stage as the node's metrics give it
}

// Report is everything a run found out; `bench report` draws it.
type Report struct {
	Result
	Started     time.Time        `json:"started"`
	Rate        float64          `json:"rate"`
	Seconds     float64          `json:"seconds"` // of load, the draining not counted
	Poisson     bool             `json:"poisson"`
	Mix         Mix              `json:"mix"`
	Outcomes    map[string]int64 `json:"outcomes"`
	Percentiles []Percentile     `json:"percentiles"`
	Series      []Second         `json:"series"`
}

// Percentile is one point of the latency curve.
type Percentile struct {
	P  float64 `json:"p"`
	MS float64 `json:"ms"`
}

func (r *runner) report(spent cpuTimes, interrupted bool) *Report {
	t, o := r.tally, r.o
	t.mu.Lock()
	defer t.mu.Unlock()
	out := &Report{
		Result: Result{
			Offered: t.offered, Sent: t.sent, Answered: t.answered, Approved: t.approved, Declined: t.declined,
			Unknown: t.unknown, Errors: t.errors, Retried: t.retried, P50: percentile(t.latency, 50),
			P90: percentile(t.latency, 90), P99: percentile(t.latency, 99), P999: percentile(t.latency, 99.9),
			Late: percentile(t.late, 99), Refused: t.refused, Goodput: float64(t.good) / max(o.Duration.Seconds(), 1e-9),
			AdmittedP50: percentile(t.admitted, 50), AdmittedP99: percentile(t.admitted, 99),
		},
		Started: r.started.UTC(), Rate: o.Rate, Seconds: o.Duration.Seconds(), Poisson: o.Poisson, Mix: o.Mix,
		Outcomes: t.outcomes, Series: t.series,
	}
	out.Gap = t.silence.gap()
	out.CPU, out.CPUSplit = spent.per(t.answered)
	for _, p := range []float64{0, 10, 20, 30, 40, 50, 60, 70, 75, 80, 85, 90, 92.5, 95, 97.5, 98, 99, 99.5, 99.9, 99.95, 99.99, 99.999, 100} {
		out.Percentiles = append(out.Percentiles, Percentile{P: p, MS: percentile(t.latency, p)})
	}
	switch limit := float64(o.LateLimit.Microseconds()) / 1000; {
	case interrupted:
		out.Invalid = "interrupted"
	case t.answered == 0:
		out.Invalid = "nothing was answered"
	case t.shed > 0:
		out.Invalid = fmt.Sprintf("%d payments were over the generator's limits and never sent", t.shed)
	case out.Late > limit:
		out.Invalid = fmt.Sprintf("the generator was late: p99 %.1f ms, limit %.1f ms", out.Late, limit)
	}
	out.Valid = out.Invalid == ""
	return out
}

// watch closes each second of the series, prints its progress line and flushes
// the answers, until told to stop.
func (r *runner) watch(stop <-chan struct{}) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for second := 1; ; second++ {
		select {
		case <-stop:
			r.tally.endSecond(second)
			return
		case <-tick.C:
		}
		s, open, failed := r.tally.endSecond(second)
		if r.answers != nil {
			r.answers.flush()
		}
		if r.o.Progress != nil {
			_, _ = fmt.Fprintf(r.o.Progress, "%4ds  offered %d/s  answered %d/s  p50 %.1f ms  p99 %.1f ms  max %.1f ms  open %d%s\n",
				s.At, s.Offered, s.Answered, s.P50, s.P99, s.Max, open, describe(failed))
		}
	}
}

// describe lists errors by kind, in a fixed order.
func describe(failed map[string]int64) string {
	if len(failed) == 0 {
		return ""
	}
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(failed)) {
		parts = append(parts, fmt.Sprintf("%s %d", kind, failed[kind]))
	}
	return "  errors: " + strings.Join(parts, ", ")
}

// Print writes the result for a person.
func (r *Report) Print(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "offered   %d at %.0f/s for %.0f s\n", r.Offered, r.Rate, r.Seconds)
	fmt.Fprintf(&b, "answered  %d of %d sent: %d approved, %d declined, %d unknown; %d attempts repeated\n",
		r.Answered, r.Sent, r.Approved, r.Declined, r.Unknown, r.Retried)
	fmt.Fprintf(&b, "latency   p50 %.1f ms, p90 %.1f ms, p99 %.1f ms, p99.9 %.1f ms, from the intended send time\n", r.P50, r.P90, r.P99, r.P999)
	fmt.Fprintf(&b, "gap       %s\n", r.words())
	if overloaded := r.Errors[outcomeOverloaded]; overloaded > 0 {
		fmt.Fprintf(&b, "overload  %.0f decided a second while load was offered; %d refusals, %d payments given up after one; what was taken p50 %.1f ms, p99 %.1f ms\n",
			r.Goodput, overloaded, r.Refused, r.AdmittedP50, r.AdmittedP99)
	}
	fmt.Fprintf(&b, "CPU       %.1f µs per authorization", r.CPU)
	for _, name := range slices.Sorted(maps.Keys(r.CPUSplit)) {
		fmt.Fprintf(&b, ", %s %.1f", name, r.CPUSplit[name])
	}
	b.WriteByte('\n')
	if len(r.Errors) > 0 {
		fmt.Fprintf(&b, "errors    %s\n", strings.TrimPrefix(describe(r.Errors), "  errors: "))
	}
	if r.Valid {
		fmt.Fprintf(&b, "valid     the generator was at most %.1f ms late (p99)\n", r.Late)
	} else {
		fmt.Fprintf(&b, "INVALID   %s\n", r.Invalid)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
