package bubble_test

import (
	"cmp"
	"slices"
	"syscall"
	"time"
)

// process is one life of a program on a host.
type process struct {
	f    *fabric
	host string
	dead bool // nothing it does reaches the network any more; under f.mu
}

func (f *fabric) process(host string) *process { return &process{f: f, host: host} }

// end is what the kernel does at the end of a process: every line breaks at once,
// and new ones are refused. What was sent before may still arrive.
func (p *process) end() {
	for _, e := range p.die(false) {
		_ = e.Close()
	}
}

// lose is the end of the process by its host's loss of power: nobody is told.
func (p *process) lose() {
	for _, e := range p.die(true) {
		e.mu.Lock()
		e.closed, e.forgotten = true, true
		e.mu.Unlock()
		e.signal()
	}
}

// die takes the process from the network and returns the ends of its lines.
func (p *process) die(dark bool) []*end {
	f := p.f
	f.mu.Lock()
	defer f.mu.Unlock()
	p.dead = true
	if dark {
		f.dark[p.host] = true
	}
	for name, l := range f.listeners {
		if l.owner == p {
			delete(f.listeners, name)
			l.end()
		}
	}
	return f.ends(func(e *end) bool { return e.owner == p })
}

// ends are those of the lines that want one, in an order that is not that of a
// map's addresses. Under f.mu.
func (f *fabric) ends(want func(*end) bool) (ends []*end) {
	for l := range f.lines {
		for _, e := range l.ends {
			if want(e) {
				ends = append(ends, e)
			}
		}
	}
	slices.SortFunc(ends, func(a, b *end) int { return cmp.Or(cmp.Compare(a.line.number, b.line.number), a.side-b.side) })
	return ends
}

// keepAlives are how often TCP asks on a line that is silent: of who dialed, and
// of who was dialed.
var keepAlives = [2]time.Duration{5 * time.Second, 15 * time.Second}

// power gives a host its power back. It knows nothing of the lines it had, and says
// so to what is sent there again, or to the next keep-alive.
func (f *fabric) power(host string) {
	f.mu.Lock()
	var lost []*end
	if f.dark[host] {
		delete(f.dark, host)
		lost = f.ends(func(e *end) bool { return e.owner.host == host && e.is(&e.forgotten) })
	}
	f.mu.Unlock()
	for _, e := range lost {
		o, wait := e.other(), f.hop()
		if !o.is(&o.unheard) {
			wait += f.within(keepAlives[o.side])
		}
		o.reset(wait)
	}
}

func (f *fabric) within(d time.Duration) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Duration(f.r.Int64N(int64(d)))
}

// is reads one of e's own flags.
func (e *end) is(flag *bool) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return *flag
}

// unanswered is a write to a host that has forgotten the line: as long as it is
// dark TCP sends it again, and afterwards it says so.
func (e *end) unanswered() {
	f := e.line.f
	f.mu.Lock()
	dark := f.dark[e.opposite()]
	f.mu.Unlock()
	if !dark {
		e.reset(2 * f.hop())
		return
	}
	e.mu.Lock()
	e.unheard = true
	e.mu.Unlock()
}

// reset tells this side, in a while, that its line is none; the first one counts.
func (e *end) reset(wait time.Duration) {
	at := time.Now().Add(wait)
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := len(e.in); n > 0 && e.in[n-1].err != nil {
		if at.Before(e.in[n-1].at) {
			e.in[n-1].at = at
		}
	} else {
		e.in = append(e.in, parcel{at: at, err: syscall.ECONNRESET})
	}
	e.signal()
}
