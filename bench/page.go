package bench

import (
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"maps"
	"math"
	"slices"
)

//go:embed report.html
var reportPage string

// view is what the page shows.
type view struct {
	Title    string
	Machine  string
	Ended    string
	Shown    *Report
	Steps    []*Report
	Best     int
	Figures  []figure
	Charts   []panel
	Outcomes []bar
	Stages   []bar
	CPU      []bar
	Errors   []bar
}

// figure is one of the large numbers on top.
type figure struct{ Value, Unit, Name string }

// panel is a chart with its heading.
type panel struct {
	Title, Note string
	SVG         template.HTML
}

// WriteReport writes a study as one HTML page without scripts.
func WriteReport(w io.Writer, s *Study, title string) error {
	page, err := template.New("report").Funcs(template.FuncMap{"short": short}).Parse(reportPage)
	if err != nil {
		return fmt.Errorf("report page: %w", err)
	}
	if len(s.Steps) == 0 {
		return errors.Join(ErrStudy, errors.New("no run in it"))
	}
	r := s.Shown()
	v := view{
		Title: title, Machine: s.Machine, Ended: s.Ended, Shown: r, Best: s.Best,
		Figures: figures(r), Charts: charts(s, r),
		Outcomes: sortedBars(counted(r.Outcomes), "", outcomeColour),
		Stages:   namedBars(r.Stages, " µs", stageOrder()),
		CPU:      sortedBars(r.CPUSplit, " µs", byTurn),
		Errors:   sortedBars(counted(r.Errors), "", func(string, int) string { return "c4" }),
	}
	if len(s.Steps) > 1 {
		v.Steps = s.Steps
	}
	return page.Execute(w, v)
}

func figures(r *Report) []figure {
	return []figure{
		{short(r.Throughput()), "/s", "authorizations decided"},
		{short(r.P50), "ms", "median"},
		{short(r.P99), "ms", "99th percentile"},
		{short(r.P999), "ms", "99.9th percentile"},
		{short(r.CPU), "µs", "CPU each, all processes counted"},
		{short(r.Late), "ms", "generator's own lateness, p99"},
	}
}

func charts(s *Study, r *Report) []panel {
	out := []panel{
		{"Latency by percentile", "From the intended send time to the final answer. Each step to the right is ten times rarer.", percentileChart(r)},
		{"Latency over time", "Each second of the run, its draining included.", timeChart(r)},
		{"Throughput over time", "What was offered, and what was answered in the end.", throughputChart(r)},
	}
	if len(s.Steps) > 1 {
		out = append(out, panel{"Throughput against latency", "One point per step of the ramp. " + s.Ended, rampChart(s)})
	}
	return out
}

// rarity puts percentiles on a scale where 90, 99, 99.9 are equally far apart.
func rarity(p float64) float64 { return 1 / (1 - min(p, 99.9999)/100) }

func percentileChart(r *Report) template.HTML {
	c := chart{
		caption: "Latency by percentile",
		x:       axis{name: "percentile", log: true, low: 1, high: 10},
		y:       axis{name: "ms", log: true},
	}
	line := plot{name: "latency", colour: "c1"}
	for _, p := range r.Percentiles {
		// A percentile finer than one in the answers there are says nothing.
		if p.P >= 100 || rarity(p.P) > float64(max(r.Answered, 10)) || p.MS <= 0 {
			continue
		}
		line.points = append(line.points, [2]float64{rarity(p.P), p.MS})
		c.x.high = max(c.x.high, rarity(p.P))
	}
	for _, p := range []float64{0, 50, 90, 99, 99.9, 99.99, 99.999} {
		if rarity(p) <= c.x.high*1.01 {
			c.x.marks = append(c.x.marks, mark{rarity(p), short(p)})
		}
	}
	// Labels with 99.99 and more do not fit short's two decimals.
	for i := range c.x.marks {
		if c.x.marks[i].at > 99_000 {
			c.x.marks[i].label = "99.999"
		}
	}
	c.lines = []plot{line}
	return c.svg()
}

func timeChart(r *Report) template.HTML {
	c := chart{caption: "Latency over time", x: axis{name: "seconds"}, y: axis{name: "ms", log: true}}
	pick := func(name, colour string, of func(*Second) float64) {
		l := plot{name: name, colour: colour}
		for i := range r.Series {
			if s := &r.Series[i]; of(s) > 0 {
				l.points = append(l.points, [2]float64{float64(s.At), of(s)})
			}
		}
		c.lines = append(c.lines, l)
	}
	pick("p50", "c1", func(s *Second) float64 { return s.P50 })
	pick("p99", "c2", func(s *Second) float64 { return s.P99 })
	pick("max", "c4", func(s *Second) float64 { return s.Max })
	return c.svg()
}

func throughputChart(r *Report) template.HTML {
	c := chart{caption: "Throughput over time", x: axis{name: "seconds"}, y: axis{name: "per second"}}
	offered, answered, failed := plot{name: "offered", colour: "c3"}, plot{name: "answered", colour: "c1"}, plot{name: "errors", colour: "c4"}
	for i, s := range r.Series {
		if i == len(r.Series)-1 && len(r.Series) > 1 { // what is left of the last second
			break
		}
		at := float64(s.At)
		offered.points = append(offered.points, [2]float64{at, float64(s.Offered)})
		answered.points = append(answered.points, [2]float64{at, float64(s.Answered)})
		failed.points = append(failed.points, [2]float64{at, float64(s.Errors)})
	}
	c.lines = []plot{offered, answered, failed}
	return c.svg()
}

func rampChart(s *Study) template.HTML {
	c := chart{caption: "Throughput against latency", x: axis{name: "decided per second"}, y: axis{name: "ms", log: true}}
	p50, p99, p999 := plot{name: "p50", colour: "c1", dots: true}, plot{name: "p99", colour: "c2", dots: true}, plot{name: "p99.9", colour: "c4", dots: true}
	for _, r := range s.Steps {
		x := r.Throughput()
		p50.points = append(p50.points, [2]float64{x, r.P50})
		p99.points = append(p99.points, [2]float64{x, r.P99})
		p999.points = append(p999.points, [2]float64{x, r.P999})
	}
	c.lines = []plot{p50, p99, p999}
	return c.svg()
}

func counted(by map[string]int64) map[string]float64 {
	out := make(map[string]float64, len(by))
	for name, n := range by {
		out[name] = float64(n)
	}
	return out
}

// sortedBars puts the largest first.
func sortedBars(by map[string]float64, unit string, colour func(string, int) string) []bar {
	names := slices.SortedFunc(maps.Keys(by), func(a, b string) int {
		if by[a] != by[b] {
			return int(math.Copysign(1, by[b]-by[a]))
		}
		if a < b {
			return -1
		}
		return 1
	})
	values := make([]float64, len(names))
	for i, name := range names {
		values[i] = by[name]
	}
	return bars(names, values, unit, colour)
}

// stageOrder is the order in which an authorization passes its stages.
func stageOrder() []string {
	return []string{"parse", "seal", "route", "encode", "open", "exchange", "close", "answer"}
}

// namedBars keeps to an order; names outside it follow, sorted.
func namedBars(by map[string]float64, unit string, order []string) []bar {
	var names []string
	for _, name := range order {
		if _, there := by[name]; there {
			names = append(names, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(by)) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	values := make([]float64, len(names))
	for i, name := range names {
		values[i] = by[name]
	}
	return bars(names, values, unit, byTurn)
}

// byTurn leaves out the colour of errors.
func byTurn(_ string, i int) string { return []string{"c1", "c2", "c5", "c3"}[i%4] }

func outcomeColour(name string, _ int) string {
	switch name {
	case outcomeApproved, outcomePartially:
		return "c5"
	case outcomeDeclined:
		return "c2"
	}
	return "c4"
}
