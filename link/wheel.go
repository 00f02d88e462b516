package link

import (
	"math"
	"math/bits"
	"time"
)

// moment is nanoseconds on the link's own steady clock, which starts with the
// link. Deadlines come as wall-clock instants and are turned into moments by
// their distance from now, once, so that a clock that jumps fires nothing
// early and keeps nothing for ever.
type moment int64

const (
	wheelTick  = moment(10 * time.Millisecond)
	wheelSlots = 1024 // 10.24 s a turn; a later deadline stays for another turn

	idleSlot = int32(-1)
	dueSlot  = int32(-2)
	noTimer  = int32(-1)
)

// wheel holds one timer per id: connections first, then places. Setting and
// stopping are a few stores; firing is at most one tick late and never early.
// A heap would cost log n for timers of which nearly all are stopped unfired.
type wheel struct {
	slots  [wheelSlots]int32
	filled [wheelSlots / 64]uint64
	timers []timer
	cursor int64 // the last tick that was fired
	due    []int32

	// soonest is the earliest moment set since the clock last looked, which sets
	// it to never: what tells whether the clock sleeps too long.
	soonest moment
}

const never = moment(math.MaxInt64)

type timer struct {
	at         moment
	prev, next int32
	slot       int32
}

func newWheel(ids int) *wheel {
	w := &wheel{timers: make([]timer, ids), due: make([]int32, 0, ids), soonest: never}
	for i := range w.slots {
		w.slots[i] = noTimer
	}
	for i := range w.timers {
		w.timers[i].slot = idleSlot
	}
	return w
}

// set arms a timer, wherever it stood before.
func (w *wheel) set(id int32, at moment) {
	w.stop(id)
	tick := int64((at + wheelTick - 1) / wheelTick)
	if tick <= w.cursor {
		tick = w.cursor + 1
	}
	slot := int32(tick & (wheelSlots - 1))
	t := &w.timers[id]
	*t = timer{at: at, prev: noTimer, next: w.slots[slot], slot: slot}
	if t.next != noTimer {
		w.timers[t.next].prev = id
	}
	w.slots[slot] = id
	w.filled[slot>>6] |= 1 << (slot & 63)
	w.soonest = min(w.soonest, at)
}

// stop disarms a timer; one that is due in the same advance does not fire.
func (w *wheel) stop(id int32) {
	t := &w.timers[id]
	if t.slot >= 0 {
		w.unlink(t)
	}
	t.slot = idleSlot
}

func (w *wheel) unlink(t *timer) {
	if t.prev != noTimer {
		w.timers[t.prev].next = t.next
	} else {
		w.slots[t.slot] = t.next
		if t.next == noTimer {
			w.filled[t.slot>>6] &^= 1 << (t.slot & 63)
		}
	}
	if t.next != noTimer {
		w.timers[t.next].prev = t.prev
	}
}

// advance fires every timer whose moment has come. fire may set and stop any
// timer, its own included.
func (w *wheel) advance(now moment, fire func(id int32)) {
	last := int64(now / wheelTick)
	first := max(w.cursor+1, last-wheelSlots+1)
	w.due = w.due[:0]
	for tick := first; tick <= last; tick++ {
		slot := tick & (wheelSlots - 1)
		if w.filled[slot>>6]&(1<<(slot&63)) == 0 {
			continue
		}
		for id := w.slots[slot]; id != noTimer; {
			t := &w.timers[id]
			next := t.next
			if t.at <= now {
				w.unlink(t)
				t.slot = dueSlot
				w.due = append(w.due, id)
			}
			id = next
		}
	}
	w.cursor = max(w.cursor, last)
	for _, id := range w.due {
		if w.timers[id].slot != dueSlot {
			continue
		}
		w.timers[id].slot = idleSlot
		fire(id)
	}
}

// next is when advance should be called again: no timer fires before. It may
// be early by whole turns for a far deadline, which costs one idle call.
func (w *wheel) next() (moment, bool) {
	for i := int64(1); i <= wheelSlots; {
		slot := (w.cursor + i) & (wheelSlots - 1)
		word := w.filled[slot>>6] >> (slot & 63)
		if word != 0 {
			ahead := i + int64(bits.TrailingZeros64(word))
			return moment(w.cursor+ahead) * wheelTick, true
		}
		i += 64 - slot&63
	}
	return 0, false
}
