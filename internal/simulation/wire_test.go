package simulation_test

import (
	"slices"
	"time"

	"authswitch/journal"
	"authswitch/link"
	"authswitch/outbox"
	"authswitch/payment"
)

// The links' timers, short so that a run is short. What an acquirer may do to an
// original must fit: latestOriginal bounds the host's own delay.
const (
	sendWithin      = time.Second
	answerTimeout   = 2 * time.Second
	userTimeout     = time.Second
	maxOriginalLife = 5 * time.Second
	latestOriginal  = 4 * time.Second
	dialTimeout     = time.Second
)

// wire is one link of a node: its decider, and what Link and connection do
// around it — one socket at a time, a writer, a clock, leases, the outbox's feed.
type wire struct {
	n        *node
	link     int
	d        *link.Decider
	socket   *socket // nil: none
	finish   bool
	writing  bool
	enabled  bool
	planned  time.Duration
	waits    map[any]func(error)
	plan     *outbox.Plan
	carriers []*outbox.Carrier
	leasing  bool
}

// socket is one TCP connection's life.
type socket struct {
	x     *wire
	up    time.Duration // when what was sent last reaches the host
	down  time.Duration
	dead  bool
	flows bool // what was under way when it died still arrives at the host
}

const outboxWindow = 6

func newWire(n *node, i int) *wire {
	w := n.w
	d, err := link.NewDecider(link.Config{
		Name: linkName(i), Window: 24, ReversalWindow: 8, LateMemory: 64, SendWithin: sendWithin, AnswerTimeout: answerTimeout,
		MaxOriginalLife: maxOriginalLife, UserTimeout: userTimeout, DialTimeout: dialTimeout, SignOnTimeout: 2 * time.Second,
		EchoEvery: 10 * time.Second, EchoTimeout: 2 * time.Second, BackoffLongest: 2 * time.Second, DrainTimeout: 3 * time.Second,
		RemembersReversals: w.plan.remembers[i],
	}, w.dialect(i), w.r.Uint64)
	if err != nil {
		panic(err)
	}
	return &wire{n: n, link: i, d: d, waits: map[any]func(error){}, plan: outbox.NewPlan(outboxWindow)}
}

func (x *wire) live() bool { return x.n.up && x.n.wires != nil && x.n.wires[x.link] == x }

func (x *wire) enable() {
	x.enabled = true
	x.tell(link.ConnectionEnabled)
}

func (x *wire) tell(e link.ConnectionEvent) {
	x.d.Tell(x.n.steady(), x.n.wall(), 0, e)
	x.pump()
}

// pump carries out what the decider ordered and wakes who is done.
func (x *wire) pump() {
	w := x.n.w
	x.d.Orders(func(_ int, o link.ConnectionOrder) {
		switch o {
		case link.OrderDial:
			x.dial()
		case link.OrderFinish:
			x.finish = true
			w.after(0, evWrite, x.write)
		case link.OrderAbort:
			s := x.socket
			w.after(0, evDial, func() { x.lost(s, w.r.IntN(2) == 0) })
		}
	})
	x.d.Completed(func(place any, err error) {
		wake := x.waits[place]
		delete(x.waits, place)
		wake(err)
	})
	if x.socket != nil && !x.writing && x.d.Waits(0) {
		x.writing = true
		w.after(w.between(10*time.Microsecond, 300*time.Microsecond), evWrite, x.write)
	}
	if x.enabled && !x.leasing && !x.n.renewal && x.d.WantsNumbers() {
		x.lease()
	}
	x.plot()
}

// plot schedules the next tick.
func (x *wire) plot() {
	next, ok := x.d.Next()
	if !ok || x.planned != 0 && x.planned <= next {
		return
	}
	x.planned = next
	x.n.w.after(next-x.n.steady(), evTick, func() {
		if !x.live() || x.planned != next {
			return
		}
		x.planned = 0
		x.d.Tick(x.n.steady(), x.n.wall())
		x.pump()
	})
}

// lease takes a range of numbers, again and again until it has one.
func (x *wire) lease() {
	n, w := x.n, x.n.w
	x.leasing = true
	w.spawn(n, func(t *task) {
		for {
			session := n.session
			r, err := n.propose(t, journal.KindLease, journal.AppendLease(nil, session, linkName(x.link)), commitTimeout)
			if err == nil && session == n.session && !n.renewal {
				if !x.d.Grant(r.Numbers) {
					w.check.fail("I14", "%s was leased %+v", n.id, r.Numbers)
				}
				break
			}
			w.sleep(t, 50*time.Millisecond)
		}
		x.leasing = false
		x.pump()
	})
}

func (w *world) reachesHost(n, host int) bool { return !w.hosts[host].down && !w.hosts[host].cut[n] }

func (x *wire) dial() {
	w := x.n.w
	d := w.between(200*time.Microsecond, 20*time.Millisecond)
	if !w.reachesHost(x.n.index, x.link) && w.r.IntN(2) == 0 {
		d = dialTimeout
	}
	w.after(d, evDial, func() {
		switch {
		case !x.live():
		case !w.reachesHost(x.n.index, x.link):
			x.tell(link.ConnectionDialFailed)
		default:
			x.socket, x.finish, x.writing = &socket{x: x}, false, false
			x.tell(link.ConnectionDialed)
		}
	})
}

// write is the writer: one take, one write.
func (x *wire) write() {
	x.writing = false
	if !x.live() || x.socket == nil {
		return
	}
	w, s := x.n.w, x.socket
	batch := slices.Clone(x.d.Take(x.n.steady(), x.n.wall(), 0))
	if len(batch) == 0 {
		if x.finish {
			x.lost(s, true)
		}
		x.pump() // what was taken out wakes its owners
		return
	}
	for rest := batch; len(rest) > 0; {
		frame, size, err := x.d.Cut(rest)
		if err != nil || size == 0 {
			w.check.fail("wire", "%s writes no frames", x.n.id)
			return
		}
		w.check.leaves(x, frame)
		s.send(frame)
		rest = rest[size:]
	}
	if x.finish {
		w.after(0, evWrite, x.write)
	}
	x.pump()
}

// send carries a frame to the host, in order.
func (s *socket) send(frame []byte) {
	x, w := s.x, s.x.n.w
	s.up = max(s.up, w.now+w.wireHop())
	w.after(s.up-w.now, evUp, func() {
		if s.dead && !s.flows || w.hosts[x.link].down {
			w.check.landed(x.link, frame)
			return
		}
		if w.hosts[x.link].cut[x.n.index] {
			// The kernel repeats it in vain and gives the connection up.
			w.check.landed(x.link, frame)
			w.after(userTimeout, evDial, func() { x.lost(s, false) })
			s.flows = false
			return
		}
		w.hosts[x.link].hear(s, frame)
	})
}

// answer carries a frame to the node, in order.
func (s *socket) answer(frame []byte) {
	x, w := s.x, s.x.n.w
	s.down = max(s.down, w.now+w.wireHop())
	w.after(s.down-w.now, evDown, func() {
		if s.dead || w.hosts[x.link].cut[x.n.index] || !x.live() {
			return
		}
		w.check.delivered(x, frame)
		h := x.d.Hear(x.n.steady(), x.n.wall(), 0, frame)
		if h.Late {
			x.late(h)
		}
		x.pump()
	})
}

// late hands a late answer on as the link's reporter does.
func (x *wire) late(h link.Heard) {
	n, w := x.n, x.n.w
	w.spawn(n, func(t *task) {
		switch {
		case !h.Owed:
			n.sw.Late(h.Answer)
			return
		case h.Advice:
			a := payment.Acknowledgement{Link: linkName(x.link), Seq: h.Seq, ID: h.Answer.ID, Verdict: h.Answer.Response.Advice, Response: h.Answer.Response}
			if h.Second {
				a.Verdict = payment.AdviceUnknown
			}
			if a.Verdict != payment.AdviceRepeat {
				_ = deps{n}.Answer(&a)
			}
			return
		}
		if r := h.Answer.Response; r.Advice != payment.AdviceRepeat {
			_, _ = n.propose(t, journal.KindAcknowledge, journal.AppendAcknowledge(nil, linkName(x.link), h.Seq, &r, r.Advice), commitTimeout)
		}
	})
}

// lost ends a socket.
func (x *wire) lost(s *socket, flows bool) {
	if s == nil || s.dead {
		return
	}
	s.dead, s.flows = true, flows
	if x.live() && x.socket == s {
		x.socket = nil
		x.tell(link.ConnectionLost)
	}
}

// die is the end of the node's process: the kernel closes its socket.
func (x *wire) die() {
	if s := x.socket; s != nil && !s.dead {
		s.dead, s.flows = true, x.n.w.r.IntN(3) > 0
	}
	x.socket = nil
}

// feed hands what is due to tasks, as the outbox's worker does to its senders.
func (x *wire) feed() {
	n, w := x.n, x.n.w
	now := n.clock.Stamp(n.wall(), n.steady())
	due := n.m.Due(linkName(x.link), now, outboxWindow, nil)
	for _, o := range x.plan.Pick(due) {
		w.spawn(n, func(t *task) {
			var c *outbox.Carrier
			if k := len(x.carriers); k > 0 {
				c, x.carriers = x.carriers[k-1], x.carriers[:k-1]
			} else {
				c = n.carrier(x)
			}
			if rest := c.Carry(&o); rest > 0 {
				w.sleep(t, rest)
			}
			x.carriers = append(x.carriers, c)
			x.plan.Done(o.Seq)
		})
	}
}

// wireHop is how long a frame takes between a node and an acquirer.
func (w *world) wireHop() time.Duration {
	if w.healed {
		return w.between(100*time.Microsecond, 5*time.Millisecond)
	}
	return w.between(100*time.Microsecond, 5*time.Millisecond+w.plan.slowWire)
}
