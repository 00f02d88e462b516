package bench

import (
	"testing"
	"time"
)

// TestGap walks through runs in milliseconds: "+3" is a payment due then, "-5"
// an answer, "x9" one given up.
func TestGap(t *testing.T) {
	type event struct {
		what byte
		at   int64
	}
	for name, c := range map[string]struct {
		events []event
		want   Gap
	}{
		"nothing":             {},
		"one answer":          {[]event{{'+', 5}, {'-', 8}}, Gap{MS: 3, At: 0.005, Recovered: 0.008, Waiting: 1, Before: 1}},
		"nobody waited":       {[]event{{'+', 0}, {'-', 2}, {'+', 900}, {'-', 901}}, Gap{MS: 2, Recovered: 0.002, Waiting: 1, Before: 1}},
		"a leader died":       {[]event{{'+', 0}, {'+', 1}, {'-', 2}, {'+', 10}, {'+', 20}, {'+', 30}, {'-', 800}, {'-', 801}, {'-', 802}, {'+', 805}, {'-', 806}}, Gap{MS: 798, At: 0.002, Recovered: 0.802, Recovery: 2, Waiting: 4, Before: 1}},
		"it never came back":  {[]event{{'+', 0}, {'+', 1}, {'-', 2}, {'x', 5000}}, Gap{MS: 4998, At: 0.002, Before: 1}},
		"the backlog remains": {[]event{{'+', 0}, {'-', 1}, {'+', 2}, {'+', 3}, {'+', 4}, {'-', 90}}, Gap{MS: 88, At: 0.002, Waiting: 3, Before: 1}},
	} {
		var s silence
		waiting := int64(0)
		for _, e := range c.events {
			at := time.Duration(e.at) * time.Millisecond
			switch e.what {
			case '+':
				s.offered(at, waiting)
				waiting++
			case '-':
				waiting--
				s.answered(at, waiting)
			case 'x':
				waiting--
				s.ended(at)
			}
		}
		if got := s.gap(); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
