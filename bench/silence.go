package bench

import (
	"fmt"
	"time"
)

// Gap is the longest time, while load was offered, in which payments waited and none got a final
// answer: what a gateway saw of a node's death. A run without one has a gap of
// some milliseconds: that between two answers.
type Gap struct {
	MS        float64 `json:"gap_ms"`
	At        float64 `json:"gap_at_s"`        // its begin, after the start of the run
	Recovered float64 `json:"recovered_s"`     // after the start: the payments that had piled up were answered; 0: never
	Recovery  float64 `json:"recovery_ms"`     // from the gap's end to that
	Waiting   int64   `json:"gap_open"`        // payments without an answer at its end
	Before    int64   `json:"gap_open_before"` // and at its begin
}

// words is the gap for a person.
func (g Gap) words() string {
	text := fmt.Sprintf("longest time without an answer %.1f ms, from %.3f s on", g.MS, g.At)
	if g.Recovered == 0 {
		return text + fmt.Sprintf("; %d waited, and the backlog was never answered", g.Waiting)
	}
	return text + fmt.Sprintf("; %d waited at its end, as few as before it (%d) at %.3f s, %.1f ms later", g.Waiting, g.Before, g.Recovered, g.Recovery)
}

// silence finds the gap. All times are since the start of the run.
type silence struct {
	until   time.Duration // when the load ends: who waits then waits for silent acquirers only; 0: never
	since   time.Duration // of the last answer, or of the first payment that waits since
	waiting int64         // payments without an answer at that moment

	longest   time.Duration
	at        time.Duration
	before    int64
	open      int64 // payments without an answer when the longest ended
	recovered time.Duration
	over      bool // so many as before it wait again, or fewer
}

// offered notes a payment before it is counted among those that wait.
func (s *silence) offered(due time.Duration, waiting int64) {
	if waiting == 0 {
		s.since, s.waiting = max(due, s.since), 1
	}
}

// answered notes a final answer, and how many wait after it.
func (s *silence) answered(now time.Duration, waiting int64) {
	s.ended(now)
	if s.open == 0 {
		s.open = waiting + 1
	}
	if !s.over && waiting <= s.before {
		s.over, s.recovered = true, now
	}
	s.since, s.waiting = max(now, s.since), waiting
}

// ended closes the silence up to now, without an answer at its end.
func (s *silence) ended(now time.Duration) {
	if s.until > 0 {
		now = min(now, s.until)
	}
	if took := now - s.since; took > s.longest {
		s.longest, s.at, s.before = took, s.since, s.waiting
		s.over, s.recovered, s.open = false, 0, 0
	}
}

func (s *silence) gap() Gap {
	g := Gap{MS: float64(s.longest.Microseconds()) / 1000, At: s.at.Seconds(), Before: s.before, Waiting: s.open}
	if s.over {
		g.Recovered = s.recovered.Seconds()
		g.Recovery = float64((s.recovered - s.at - s.longest).Microseconds()) / 1000
	}
	return g
}
