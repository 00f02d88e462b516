package simulation_test

import (
	"fmt"
	"strings"
	"time"

	"authswitch/payment"
)

// host is an acquirer. It finds the original of a reversal only by DE 90 with
// DE 41, forgets reversals of what it does not know unless it says that it
// remembers them, and misbehaves as its seed likes.
type host struct {
	w         *world
	index     int
	remembers bool
	honest    bool
	down      bool
	cut       [maxNodes]bool // no byte passes between a node and this host
	book      map[original]*hold
	order     []*hold
	refused   map[original]bool   // reversed before they came
	accounts  map[string]*account // by DE 37
	advices   map[string]*hold    // by DE 11 and 37, whichever transmission
	uploads   map[string][]*hold  // lines, by their batch
	totalled  map[agreement]bool  // uploads whose totals came
}

// original is how a reversal names its original: DE 90's first three parts, and
// DE 41.
type original struct{ mti, stan, at, terminal string }

// hold is what the acquirer holds of one message.
type hold struct {
	kind     holdKind
	rrn      string
	stan     string
	terminal string
	op       payment.ID // of a line of a file
	line     bool       // of an upload
	value    int64
	approved bool
	reversed bool
	odd      bool // done for another amount than asked
	// whispered: it was approved by one answer, declined by another, and the first
	// may have been lost. Nobody can know of it then.
	whispered bool
}

func newHost(w *world, i int) *host {
	return &host{
		w: w, index: i, remembers: w.plan.remembers[i], honest: w.plan.honest[i], book: map[original]*hold{}, refused: map[original]bool{},
		accounts: map[string]*account{}, advices: map[string]*hold{}, uploads: map[string][]*hold{}, totalled: map[agreement]bool{},
	}
}

func (h *host) mischief(n int) bool { return !h.honest && !h.w.healed && h.w.chance(n) }

// hear takes in one frame.
func (h *host) hear(s *socket, frame []byte) {
	w := h.w
	m, err := parse(frame)
	if err != nil {
		w.check.fail("wire", "%s cannot be read: %v", linkName(h.index), err)
		return
	}
	switch m.mti {
	case "0800":
		if h.mischief(3) {
			return
		}
		r := m.response("00", 7, 11, 70)
		s.answer(r.bytes()[2:])
	case "0100", "0200":
		d := w.between(time.Millisecond, 40*time.Millisecond)
		if h.mischief(w.plan.hostMischief / 4) {
			d = w.between(40*time.Millisecond, latestOriginal)
		}
		w.after(d, evHost, func() { h.authorize(s, m, frame) })
	case "0520", "0521":
		w.after(w.between(time.Millisecond, 15*time.Millisecond), evHost, func() { h.reconcile(s, m) })
	case "0220", "0221", "0320", "0321":
		w.after(w.between(time.Millisecond, 15*time.Millisecond), evHost, func() { h.advise(s, m) })
	case "0420", "0421":
		w.after(w.between(time.Millisecond, 15*time.Millisecond), evHost, func() { h.reverse(s, m) })
	default:
		w.check.fail("wire", "%s was sent a %s", linkName(h.index), m.mti)
	}
}

var echoed = []int{3, 4, 7, 11, 37, 41, 42, 49}

// authorize decides one request, and perhaps tells.
func (h *host) authorize(s *socket, m *message, frame []byte) {
	w := h.w
	w.check.landed(h.index, frame)
	key := original{mti: m.mti, stan: m.fields[11], at: m.fields[7], terminal: m.fields[41]}
	if h.book[key] != nil {
		w.check.fail("I5", "%s got %+v twice", linkName(h.index), key)
		return
	}
	d := h.enter(key, m)
	if h.refused[key] {
		s.answer(m.response("05", echoed...).bytes()[2:])
		return
	}
	code := []string{"00", "00", "00", "00", "00", "00", "00", "51", "91", "05"}[w.r.IntN(10)]
	if h.mischief(w.plan.stolen) {
		code = "41"
	}
	if w.healed {
		code = "00"
	}
	d.approved = code == "00"
	defer h.moved(d)
	r := m.response(code, echoed...)
	if d.approved {
		r.fields[38] = fmt.Sprintf("%06d", w.r.IntN(1e6))
	}
	if h.mischief(w.plan.hostMischief) {
		h.misbehave(s, m, r, d)
		return
	}
	s.answer(r.bytes()[2:])
}

// misbehave answers in one of the ways that acquirers were seen to.
func (h *host) misbehave(s *socket, m, r *message, d *hold) {
	w, x := h.w, s.x
	tell := func(r *message) { s.answer(r.bytes()[2:]) }
	how := w.r.IntN(12)
	if d.value == 0 && (how == 4 || how == 5) {
		how = 0 // nothing cannot be approved in part
	}
	switch how {
	case 0, 1: // never
	case 2: // twice
		tell(r)
		w.after(w.between(0, 3*time.Second), evHost, func() { tell(r) })
	case 3: // late, past the acquirer's timer
		w.after(w.between(answerTimeout, 2*answerTimeout), evHost, func() { tell(r) })
	case 4: // another amount
		if d.approved {
			r.fields[4] = fmt.Sprintf("%012d", 1+w.r.IntN(99_999))
			if r.fields[4] == m.fields[4] {
				r.fields[4] = "000000000001"
			}
			d.other(r)
		}
		tell(r)
	case 5: // in part
		if d.approved {
			r.fields[39], r.fields[4] = "10", fmt.Sprintf("%012d", 1+w.r.IntN(999))
			d.other(r)
		}
		tell(r)
	case 6: // another's trace number, reference or terminal
		de := []int{11, 37, 41}[w.r.IntN(3)]
		r.fields[de] = strings.Map(func(c rune) rune {
			if c >= '0' && c < '9' {
				return c + 1
			}
			return c
		}, r.fields[de])
		tell(r)
	case 7: // the line breaks before the answer
		w.after(0, evDial, func() { x.lost(s, true) })
	case 8: // garbage
		s.answer([]byte("0110\x00\x01garbage"))
	case 9: // no first, yes after it
		d.approved, d.whispered = true, true
		tell(m.response("51", echoed...))
		yes := m.response("00", echoed...)
		yes.fields[38] = "999999"
		w.after(w.between(0, 2*time.Second), evHost, func() { tell(yes) })
	case 10: // yes first, no after it: where the yes is lost with a cut, only the no is known
		d.whispered = d.approved
		tell(r)
		w.after(w.between(0, 2*time.Second), evHost, func() { tell(m.response("05", echoed...)) })
	case 11: // a code that no table has
		r.fields[39] = "Z7"
		tell(r)
	}
}

// reverse takes one transmission of a reversal, of the whole or of a part.
func (h *host) reverse(s *socket, m *message) {
	w := h.w
	o := m.fields[90]
	key := original{mti: o[:4], stan: o[4:10], at: o[10:20], terminal: m.fields[41]}
	d := h.book[key]
	code := "00"
	repeat := m.mti[3] == '1'
	part := m.fields[95] != ""
	switch {
	case d == nil || !d.approved && w.r.IntN(2) == 0:
		code = "25"
	case (d.reversed || part && h.advices[m.fields[11]+m.fields[37]] != nil) && repeat && w.r.IntN(2) == 0:
		code = "94"
	}
	if d != nil && d.line {
		w.check.fail("U", "%s is asked to reverse a line of an upload, rrn %s", linkName(h.index), d.rrn)
	}
	if d != nil && d.kind == holdRefund && w.plan.styles[h.index] == styleFinal {
		w.check.fail("final", "%s is asked to reverse a refund, rrn %s", linkName(h.index), d.rrn)
	}
	do := func() {
		if part {
			h.release(m, d)
		} else {
			h.undo(key, d)
		}
	}
	h.perhaps(w.plan.reversalMischief, s, m, code, do)
}

// perhaps does what a message says and answers it, or misbehaves in one of the
// ways in which acquirers do that with what is stored and forwarded.
func (h *host) perhaps(mischief int, s *socket, m *message, code string, do func()) {
	w := h.w
	if h.mischief(mischief) {
		switch w.r.IntN(9) {
		case 0, 1: // heard nothing
			return
		case 2:
			h.told(s, m, "91")
			return
		case 3:
			h.told(s, m, "96")
			return
		case 4: // done, and says nothing
			do()
			return
		case 5: // done, and says it late
			do()
			w.after(w.between(answerTimeout, 2*answerTimeout), evHost, func() { h.told(s, m, code) })
			return
		case 6: // the line breaks
			w.after(0, evDial, func() { s.x.lost(s, true) })
			return
		case 7:
			if w.r.IntN(12) == 0 {
				h.told(s, m, "57") // no machine may settle this
				return
			}
		case 8: // done, and says it twice
			do()
			h.told(s, m, code)
			w.after(w.between(0, 3*time.Second), evHost, func() { h.told(s, m, code) })
			return
		}
	}
	do()
	h.told(s, m, code)
}

// undo takes the hold away, or remembers that there must be none.
func (h *host) undo(key original, d *hold) {
	switch {
	case d != nil:
		d.reversed = true
		h.moved(d)
	case h.remembers:
		h.refused[key] = true
	}
}

func (h *host) told(s *socket, m *message, code string) {
	h.w.check.acknowledges(h.index, m, code)
	s.answer(m.response(code, echoed...).bytes()[2:])
}
