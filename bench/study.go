package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"
)

// ErrStudy is a results file that is not one of ours.
var ErrStudy = errors.New("not a results file of bench run or bench ramp")

// Study is one or more runs on one machine: what `bench run --out` and `bench
// ramp --out` write, and `bench report` and `bench compare` read.
type Study struct {
	Machine string    `json:"machine"`
	Steps   []*Report `json:"steps"`
	Best    int       `json:"best"` // the step with the highest rate that held; -1: none
	Ended   string    `json:"ended,omitempty"`
}

// RampOptions say how a ramp climbs and when a step no longer holds.
type RampOptions struct {
	From    float64       // the first step's rate
	To      float64       // the last step's rate at most
	Factor  float64       // from step to step
	P99     time.Duration // a step above this does not hold
	Goodput float64       // nor one with a smaller share of payments decided
	Pause   time.Duration // between steps, so that one does not pay for the other
}

// Ramp limits.
const (
	mostSteps = 100
)

// Ramp runs steps of rising rates until one does not hold: too slow at the
// ninety-ninth percentile, too much undecided, or the generator itself late.
func Ramp(ctx context.Context, o Options, ramp RampOptions) (*Study, error) {
	if !(ramp.From > 0) || ramp.To < ramp.From || !(ramp.Factor > 1) || ramp.P99 <= 0 || !(ramp.Goodput > 0 && ramp.Goodput <= 1) {
		return nil, fmt.Errorf("ramp: %w", ErrOptions)
	}
	study := &Study{Machine: Machine(), Best: -1, Ended: "The highest rate was reached."}
	again := true // a step that does not hold may be a neighbour's doing: it gets a second chance
	for rate := ramp.From; rate <= ramp.To && len(study.Steps) < mostSteps; {
		o.Rate = rate
		if o.Progress != nil {
			_, _ = fmt.Fprintf(o.Progress, "step %d: %.0f/s\n", len(study.Steps)+1, rate)
		}
		report, err := Run(ctx, o)
		if err != nil {
			return study, err
		}
		study.Steps = append(study.Steps, report)
		switch why := ramp.broken(report); {
		case why == "":
			study.Best = len(study.Steps) - 1
			rate *= ramp.Factor
			again = true
		case again:
			again = false
		default:
			study.Ended = fmt.Sprintf("%.0f/s did not hold twice: %s.", rate, why)
			return study, nil
		}
		select {
		case <-ctx.Done():
			return study, ctx.Err()
		case <-time.After(ramp.Pause):
		}
	}
	return study, nil
}

// broken says why a step does not hold, or nothing.
func (o *RampOptions) broken(r *Report) string {
	limit := float64(o.P99.Microseconds()) / 1000
	decided := float64(r.Approved+r.Declined) / float64(max(r.Offered, 1))
	switch {
	case decided < o.Goodput:
		return fmt.Sprintf("%.2f %% of the payments were decided", 100*decided)
	case r.P99 > limit:
		return fmt.Sprintf("p99 %.1f ms, limit %.1f ms", r.P99, limit)
	case !r.Valid:
		return r.Invalid
	}
	return ""
}

// Single is a study of one run.
func Single(r *Report) *Study {
	best := 0
	if !r.Valid {
		best = -1
	}
	return &Study{Machine: Machine(), Steps: []*Report{r}, Best: best}
}

// ReadStudy reads a results file.
func ReadStudy(r io.Reader) (*Study, error) {
	const most = 64 << 20
	var s Study
	if err := json.NewDecoder(io.LimitReader(r, most)).Decode(&s); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStudy, err)
	}
	for _, step := range s.Steps {
		if step == nil {
			return nil, ErrStudy
		}
	}
	if len(s.Steps) == 0 || s.Best < -1 || s.Best >= len(s.Steps) {
		return nil, ErrStudy
	}
	return &s, nil
}

// Shown is the step whose details are worth showing: the best, or the last
// where none held.
func (s *Study) Shown() *Report {
	if s.Best >= 0 {
		return s.Steps[s.Best]
	}
	return s.Steps[len(s.Steps)-1]
}

// Machine names the machine, so that no figure stands without it.
func Machine() string {
	model := runtime.GOARCH
	if f, err := os.Open("/proc/cpuinfo"); err == nil {
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
		_ = f.Close()
	}
	kernel := ""
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		kernel = ", Linux " + strings.TrimSpace(string(release))
	}
	return fmt.Sprintf("%d × %s%s, %s", runtime.NumCPU(), model, kernel, runtime.Version())
}

// Print writes the steps of a study as a table.
func (s *Study) Print(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%10s %10s %9s %9s %9s %12s\n", "rate/s", "decided/s", "p50 ms", "p99 ms", "p99.9 ms", "CPU µs each")
	for i, r := range s.Steps {
		mark := ""
		if i == s.Best {
			mark = "  best"
		}
		fmt.Fprintf(&b, "%10.0f %10.0f %9.1f %9.1f %9.1f %12.1f%s\n", r.Rate, r.Throughput(), r.P50, r.P99, r.P999, r.CPU, mark)
	}
	if s.Ended != "" {
		fmt.Fprintf(&b, "%s\n", s.Ended)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Throughput is how many payments were decided per second of load.
func (r *Report) Throughput() float64 {
	if r.Seconds <= 0 {
		return 0
	}
	return float64(r.Approved+r.Declined) / r.Seconds
}

// Ratio is one figure of two studies.
type Ratio struct {
	Name  string  `json:"name"`
	A     float64 `json:"a"`
	B     float64 `json:"b"`
	Ratio float64 `json:"ratio"` // above 1: b is better
}

// Compare sets the shown steps of two studies side by side. A ratio above 1
// says that b is better: b ÷ a for rates, a ÷ b for times.
func Compare(a, b *Study) []Ratio {
	x, y := a.Shown(), b.Shown()
	var out []Ratio
	add := func(name string, of func(*Report) float64, moreIsBetter bool) {
		r := Ratio{Name: name, A: of(x), B: of(y)}
		above, below := r.A, r.B
		if moreIsBetter {
			above, below = r.B, r.A
		}
		if below != 0 {
			r.Ratio = above / below
		}
		out = append(out, r)
	}
	add("decided_per_s", (*Report).Throughput, true)
	add("p50_ms", func(r *Report) float64 { return r.P50 }, false)
	add("p90_ms", func(r *Report) float64 { return r.P90 }, false)
	add("p99_ms", func(r *Report) float64 { return r.P99 }, false)
	add("p999_ms", func(r *Report) float64 { return r.P999 }, false)
	add("cpu_us_per_authorization", func(r *Report) float64 { return r.CPU }, false)
	return out
}
