package bench

import (
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
)

// chart draws lines over two axes as SVG, without scripts: a report is one
// file that opens anywhere and prints well.
type chart struct {
	x, y    axis
	lines   []plot
	caption string // for those who do not see it
}

// axis maps values to the unit interval.
type axis struct {
	name  string
	low   float64
	high  float64
	log   bool
	marks []mark // given, or chosen by the axis
}

// mark is a labelled position on an axis.
type mark struct {
	at    float64
	label string
}

// plot is one line and its name in the legend.
type plot struct {
	name   string
	colour string // a CSS class: c1 … c5
	points [][2]float64
	dots   bool
}

// Size of a chart in its own units; the page scales it.
const (
	chartWidth  = 640.0
	chartHeight = 300.0
	chartLeft   = 62.0
	chartRight  = 14.0
	chartTop    = 30.0
	chartBottom = 42.0
)

// place maps a value to 0…1.
func (a *axis) place(v float64) float64 {
	low, high := a.low, a.high
	if a.log {
		v, low, high = math.Log10(max(v, a.low)), math.Log10(low), math.Log10(high)
	}
	if high == low {
		return 0.5
	}
	return min(max((v-low)/(high-low), 0), 1)
}

// fit sets the range to that of the values, widened to round numbers, and
// chooses the marks.
func (a *axis) fit(values []float64) {
	low, high := math.Inf(1), math.Inf(-1)
	for _, v := range values {
		if math.IsNaN(v) || math.IsInf(v, 0) || (a.log && v <= 0) {
			continue
		}
		low, high = min(low, v), max(high, v)
	}
	if low > high {
		low, high = 1, 10
	}
	if a.log {
		a.fitLog(low, high)
		return
	}
	step := niceStep(max(high, 1e-9) / 5)
	a.low, a.high = 0, max(step, math.Ceil(high/step-1e-9)*step)
	for v := 0.0; v <= a.high+step/2; v += step {
		a.marks = append(a.marks, mark{v, short(v)})
	}
}

// fitLog takes whole decades, or halves of one where a decade says too little.
func (a *axis) fitLog(low, high float64) {
	for _, first := range []float64{5, 2, 1} {
		if v := first * math.Pow(10, math.Floor(math.Log10(low))); v <= low*1.0001 {
			a.low = v
			break
		}
	}
	a.high = a.low
	decade := math.Pow(10, math.Floor(math.Log10(a.low)))
	for a.high < high*1.0001 {
		for _, m := range []float64{1, 2, 5} {
			if v := m * decade; v >= a.low*0.9999 && a.high < high*1.0001 {
				a.marks = append(a.marks, mark{v, short(v)})
				a.high = v
			}
		}
		decade *= 10
	}
	a.high *= 1.0001
}

// niceStep is the next 1, 2, 2.5 or 5 times a power of ten.
func niceStep(v float64) float64 {
	base := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 2.5, 5, 10} {
		if m*base >= v*0.9999 {
			return m * base
		}
	}
	return 10 * base
}

// short writes a number as a person would label it.
func short(v float64) string {
	switch {
	case v >= 1e6:
		return strconv.FormatFloat(math.Round(v/1e4)/100, 'f', -1, 64) + "M"
	case v >= 1e4:
		return strconv.FormatFloat(math.Round(v/10)/100, 'f', -1, 64) + "k"
	case v >= 100:
		return strconv.FormatFloat(math.Round(v), 'f', -1, 64)
	case v >= 1:
		return strconv.FormatFloat(math.Round(v*100)/100, 'f', -1, 64)
	}
	return strconv.FormatFloat(v, 'g', 2, 64)
}

// svg draws the chart.
func (c *chart) svg() template.HTML {
	if len(c.x.marks) == 0 {
		c.x.fit(c.values(0))
	}
	if len(c.y.marks) == 0 {
		c.y.fit(c.values(1))
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %g %g" role="img" aria-label="%s">`, chartWidth, chartHeight, template.HTMLEscapeString(c.caption))
	c.grid(&b)
	for i := range c.lines {
		c.line(&b, &c.lines[i])
	}
	c.legend(&b)
	b.WriteString(`</svg>`)
	return template.HTML(b.String()) // #nosec G203 -- every text in it is escaped above and below
}

func (c *chart) values(i int) []float64 {
	var out []float64
	for _, l := range c.lines {
		for _, p := range l.points {
			out = append(out, p[i])
		}
	}
	return out
}

func (c *chart) px(v float64) float64 {
	return chartLeft + c.x.place(v)*(chartWidth-chartLeft-chartRight)
}

func (c *chart) py(v float64) float64 {
	return chartHeight - chartBottom - c.y.place(v)*(chartHeight-chartTop-chartBottom)
}

func (c *chart) grid(b *strings.Builder) {
	bottom, right := chartHeight-chartBottom, chartWidth-chartRight
	for _, m := range c.y.marks {
		y := c.py(m.at)
		fmt.Fprintf(b, `<line class="grid" x1="%g" x2="%g" y1="%.1f" y2="%.1f"/>`, chartLeft, right, y, y)
		fmt.Fprintf(b, `<text class="tick" x="%g" y="%.1f" text-anchor="end">%s</text>`, chartLeft-8, y+4, template.HTMLEscapeString(m.label))
	}
	for _, m := range c.x.marks {
		x := c.px(m.at)
		fmt.Fprintf(b, `<line class="grid" x1="%.1f" x2="%.1f" y1="%g" y2="%g"/>`, x, x, bottom, bottom+4)
		anchor := "middle"
		if x > right-12 { // or it would leave the picture
			anchor = "end"
		}
		fmt.Fprintf(b, `<text class="tick" x="%.1f" y="%g" text-anchor="%s">%s</text>`, x, bottom+18, anchor, template.HTMLEscapeString(m.label))
	}
	fmt.Fprintf(b, `<text class="axis" x="%g" y="%g" text-anchor="end">%s</text>`, right, chartHeight-6, template.HTMLEscapeString(c.x.name))
	fmt.Fprintf(b, `<text class="axis" x="%g" y="14">%s</text>`, 4.0, template.HTMLEscapeString(c.y.name))
}

func (c *chart) line(b *strings.Builder, l *plot) {
	if len(l.points) == 0 {
		return
	}
	b.WriteString(`<polyline class="line ` + l.colour + `" points="`)
	for _, p := range l.points {
		fmt.Fprintf(b, "%.1f,%.1f ", c.px(p[0]), c.py(p[1]))
	}
	b.WriteString(`"/>`)
	radius := 0.0 // only a place for the pointer to find the value
	if l.dots || len(l.points) == 1 {
		radius = 3.5
	}
	if len(l.points) > 400 { // a tooltip per point would be the most of the file
		return
	}
	for _, p := range l.points {
		x, y := c.px(p[0]), c.py(p[1])
		fmt.Fprintf(b, `<g class="point"><circle class="hit" cx="%.1f" cy="%.1f" r="8"/><circle class="dot %s" cx="%.1f" cy="%.1f" r="%g"/><title>%s: %s at %s</title></g>`,
			x, y, l.colour, x, y, radius, template.HTMLEscapeString(l.name), short(p[1]), template.HTMLEscapeString(c.labelAt(p[0])))
	}
}

// labelAt is the mark's label at a value, or the value.
func (c *chart) labelAt(v float64) string {
	for _, m := range c.x.marks {
		if m.at == v {
			return m.label
		}
	}
	return short(v)
}

func (c *chart) legend(b *strings.Builder) {
	if len(c.lines) < 2 {
		return
	}
	x := chartWidth - chartRight
	for i := len(c.lines) - 1; i >= 0; i-- {
		l := &c.lines[i]
		x -= 7.0 * float64(len(l.name))
		fmt.Fprintf(b, `<text class="legend" x="%.1f" y="14">%s</text>`, x, template.HTMLEscapeString(l.name))
		x -= 16
		fmt.Fprintf(b, `<line class="line %s" x1="%.1f" x2="%.1f" y1="10" y2="10"/>`, l.colour, x, x+11)
		x -= 14
	}
}

// bar is one share of a whole.
type bar struct {
	Name   string
	Value  string
	Share  float64 // percent of the largest
	Colour string
}

// bars makes shares of values, the largest being the full width.
func bars(names []string, values []float64, unit string, colour func(string, int) string) []bar {
	largest := 0.0
	for _, v := range values {
		largest = max(largest, v)
	}
	out := make([]bar, 0, len(names))
	for i, name := range names {
		b := bar{Name: name, Value: short(values[i]) + unit, Colour: colour(name, i)}
		if largest > 0 {
			b.Share = math.Round(values[i]/largest*1000) / 10
		}
		out = append(out, b)
	}
	return out
}
