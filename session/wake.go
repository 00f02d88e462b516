package session

import "time"

// Pulse notices that this process did not run: stopped, or its machine
// suspended. Its owner beats it every Beat; a writer asks it before each write,
// because the beat itself may come after the write that must not happen.
type Pulse struct {
	last Moment
}

// Beat is how often the pulse is to be beaten, Gap the pause that counts.
const (
	Beat = 100 * time.Millisecond
	Gap  = time.Second
)

// Beat notes a moment and says whether the pause before it was too long.
func (p *Pulse) Beat(now Moment) (stopped bool) {
	stopped = p.Stopped(now)
	p.last = now
	return stopped
}

// Stopped says whether too long has passed since the last beat.
func (p *Pulse) Stopped(now Moment) bool { return p.last != 0 && now-p.last > Moment(Gap) }
