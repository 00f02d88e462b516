package topcmd

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// scrape is one reading of /metrics: each series under its name, its labels
// still as text.
type scrape map[string][]series

type series struct {
	labels string // between the braces
	value  float64
}

// maxScrape bounds what is read: a node with hundreds of links has megabytes.
const maxScrape = 64 << 20

// readScrape reads Prometheus' text format.
func readScrape(r io.Reader) (scrape, error) {
	s := scrape{}
	lines := bufio.NewScanner(io.LimitReader(r, maxScrape))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		head, value, ok := cutLast(line, " ")
		if !ok {
			return nil, fmt.Errorf("not a metric: %q", line)
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return nil, fmt.Errorf("not a metric: %q", line)
		}
		name, labels, _ := strings.Cut(head, "{")
		s[name] = append(s[name], series{strings.TrimSuffix(labels, "}"), v})
	}
	return s, lines.Err()
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// label is one label's value: of ours, none holds a quote.
func (s series) label(name string) string {
	for pair := range strings.SplitSeq(s.labels, ",") {
		if k, v, _ := strings.Cut(pair, "="); k == name {
			return strings.Trim(v, `"`)
		}
	}
	return ""
}

// sum adds up the series of a name that have all of these labels.
func (s scrape) sum(name string, labels ...string) float64 {
	total := 0.0
	for _, one := range s[name] {
		if one.has(labels) {
			total += one.value
		}
	}
	return total
}

func (s series) has(labels []string) bool {
	for i := 0; i+1 < len(labels); i += 2 {
		if s.label(labels[i]) != labels[i+1] {
			return false
		}
	}
	return true
}

// values are a label's values among the series of a name, in order.
func (s scrape) values(name, label string) []string {
	var all []string
	for _, one := range s[name] {
		all = append(all, one.label(label))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// span is what happened between two readings.
type span struct {
	before, now scrape
	seconds     float64
}

// rate is a counter's growth per second. A counter that fell belongs to a
// process that started anew: what it has is what grew.
func (p span) rate(name string, labels ...string) float64 {
	was, is := p.before.sum(name, labels...), p.now.sum(name, labels...)
	if is < was {
		was = 0
	}
	return (is - was) / p.seconds
}

// quantile estimates one from a histogram's growth, as Prometheus does: evenly
// spread within a bucket. NaN when nothing happened.
func (p span) quantile(q float64, name string, labels ...string) float64 {
	counts := map[float64]float64{}
	for _, one := range p.now[name+"_bucket"] {
		if one.has(labels) {
			counts[bound(one)] += one.value
		}
	}
	for _, one := range p.before[name+"_bucket"] {
		if one.has(labels) {
			counts[bound(one)] -= one.value
		}
	}
	bounds := make([]float64, 0, len(counts))
	for b := range counts {
		bounds = append(bounds, b)
	}
	slices.Sort(bounds)
	if len(bounds) == 0 || counts[bounds[len(bounds)-1]] <= 0 {
		return math.NaN()
	}
	rank := q * counts[bounds[len(bounds)-1]]
	lower, below := 0.0, 0.0
	for _, b := range bounds {
		if counts[b] >= rank {
			if math.IsInf(b, 1) {
				return lower
			}
			return lower + (b-lower)*(rank-below)/max(counts[b]-below, 1)
		}
		lower, below = b, counts[b]
	}
	return lower
}

func bound(s series) float64 {
	b, err := strconv.ParseFloat(s.label("le"), 64)
	if err != nil {
		return math.Inf(1)
	}
	return b
}
