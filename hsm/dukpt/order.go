package dukpt

import (
	"container/list"
	"encoding/binary"
	"sync"
)

// Verdict is what the order of a device's counters says. Store-and-forward and
// two nodes reorder honest traffic: nothing here refuses.
type Verdict uint8

// The verdicts.
const (
	Forward  Verdict = iota // higher than any before
	Late                    // lower than the highest, not seen
	Repeated                // seen before
	TooOld                  // lower than the window remembers: late or repeated, nobody knows
)

// orderWindow is how many counters below the highest are remembered.
const orderWindow = 64

// Order remembers the late counters of a limited number of devices under one
// base key: the longest silent one is forgotten for a new one. Good for any
// number of goroutines.
type Order struct {
	mu      sync.Mutex
	limit   int
	devices map[[InitialKeyIDBytes]byte]*list.Element
	silent  list.List // longest silent device at the back
}

type device struct {
	id      [InitialKeyIDBytes]byte
	highest uint32
	seen    uint64 // bit n: highest-n was seen
}

// NewOrder remembers at most limit devices, about 200 bytes each.
func NewOrder(limit int) *Order {
	return &Order{limit: max(1, limit), devices: map[[InitialKeyIDBytes]byte]*list.Element{}}
}

// Note judges the counter of a key serial number of either method, and
// remembers it. A number that is none is TooOld: it never gets a key.
func (o *Order) Note(ksn []byte) Verdict {
	var id [InitialKeyIDBytes]byte
	var counter uint32
	switch len(ksn) {
	case AESSerialBytes:
		copy(id[:], ksn)
		counter = binary.BigEndian.Uint32(ksn[InitialKeyIDBytes:])
	case TDESSerialBytes:
		// Ten bytes without the counter are 59 bits: they fit into eight.
		low := binary.BigEndian.Uint64(ksn[2:])
		counter = uint32(low & tdesCounterMask)
		binary.BigEndian.PutUint64(id[:], low>>tdesCounterBits|uint64(binary.BigEndian.Uint16(ksn))<<(64-tdesCounterBits))
	default:
		return TooOld
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	element, known := o.devices[id]
	if !known {
		o.welcome(id, counter)
		return Forward
	}
	o.silent.MoveToFront(element)
	return element.Value.(*device).note(counter)
}

// welcome takes a new device in, in the place of the longest silent one when
// there is no other.
func (o *Order) welcome(id [InitialKeyIDBytes]byte, counter uint32) {
	if len(o.devices) >= o.limit {
		last := o.silent.Remove(o.silent.Back()).(*device)
		delete(o.devices, last.id)
	}
	o.devices[id] = o.silent.PushFront(&device{id: id, highest: counter, seen: 1})
}

func (d *device) note(counter uint32) Verdict {
	if counter > d.highest {
		// A shift by 64 or more leaves nothing, which is right.
		d.seen = d.seen<<(counter-d.highest) | 1
		d.highest = counter
		return Forward
	}
	back := d.highest - counter
	if back >= orderWindow {
		return TooOld
	}
	bit := uint64(1) << back
	if d.seen&bit != 0 {
		return Repeated
	}
	d.seen |= bit
	return Late
}
