package stored

import (
	"sync"

	"authswitch/card"
	"authswitch/payment"
)

// held are the cards of payments that were just reversed, in memory that is
// made once and wiped. The oldest is the first to go: by age, or for room.
type held struct {
	mu    sync.Mutex
	slots []slot
	first int // the oldest
	count int // slots in use from first on, some of them empty again
	of    map[payment.ID]int
}

type slot struct {
	id     payment.ID
	at     payment.Instant
	pan    card.PAN
	expiry card.Expiry
}

func (h *held) init(slots int) {
	h.slots = make([]slot, slots)
	h.of = make(map[payment.ID]int, slots)
}

func (h *held) add(of *card.Card, id payment.ID, at payment.Instant) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop(id)
	if h.count == len(h.slots) {
		h.shift()
	}
	n := (h.first + h.count) % len(h.slots)
	h.count++
	h.slots[n] = slot{id: id, at: at, pan: of.PAN, expiry: of.Expiry}
	h.of[id] = n
}

func (h *held) find(of *card.Card, id payment.ID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	n, ok := h.of[id]
	if ok {
		of.PAN, of.Expiry = h.slots[n].pan, h.slots[n].expiry
	}
	return ok
}

func (h *held) remove(id payment.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop(id)
}

// drop wipes a card; its slot is free once it is the oldest.
func (h *held) drop(id payment.ID) {
	if n, ok := h.of[id]; ok {
		h.slots[n] = slot{}
		delete(h.of, id)
	}
	for h.count > 0 && h.slots[h.first].id.IsZero() {
		h.first, h.count = (h.first+1)%len(h.slots), h.count-1
	}
}

// shift wipes the oldest.
func (h *held) shift() {
	if h.count > 0 {
		h.drop(h.slots[h.first].id)
	}
}

// expire wipes what was added before.
func (h *held) expire(before payment.Instant) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.count > 0 && h.slots[h.first].at < before {
		h.shift()
	}
}

func (h *held) wipe() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.slots)
	clear(h.of)
	h.first, h.count = 0, 0
}

func (h *held) size() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.of)
}
