package dukpt

import (
	"fmt"
	"log/slog"
	"sync"
)

// parents are the parent keys of late transactions: a table of fixed size in
// which a newcomer overwrites whoever has its place. A list in order of use
// would keep more of them and cost a lock for longer; a miss costs a walk of
// some microseconds, no more.
type parents struct {
	mu    sync.Mutex
	slots []parent
}

type parent struct {
	of   tdesSerial
	key  [2]uint64
	used bool
}

func newParents(keep int) *parents {
	return &parents{slots: make([]parent, max(0, keep))}
}

// slot spreads serial numbers that follow one another.
func (p *parents) slot(of tdesSerial) *parent {
	h := (of.low ^ uint64(of.high) ^ uint64(of.counter)>>parentBits<<40) * 0x9E3779B97F4A7C15
	return &p.slots[(h>>32)%uint64(len(p.slots))]
}

func (p *parents) get(of tdesSerial, k *[2]uint64) bool {
	if len(p.slots) == 0 {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.slot(of)
	if !s.used || s.of != of {
		return false
	}
	*k = s.key
	return true
}

func (p *parents) put(of tdesSerial, k [2]uint64) {
	if len(p.slots) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	*p.slot(of) = parent{of: of, key: k, used: true}
}

// Wipe forgets the parent keys. The base key's expanded form goes with the
// object.
func (b *TDESBase) Wipe() {
	b.parents.mu.Lock()
	defer b.parents.mu.Unlock()
	clear(b.parents.slots)
}

const hidden = "[hidden]"

// Format hides the keys in every verb.
func (*TDESBase) Format(s fmt.State, _ rune) { fmt.Fprint(s, hidden) }

// LogValue hides the keys.
func (*TDESBase) LogValue() slog.Value { return slog.StringValue(hidden) }

// Format hides the keys in every verb.
func (*AESBase) Format(s fmt.State, _ rune) { fmt.Fprint(s, hidden) }

// LogValue hides the keys.
func (*AESBase) LogValue() slog.Value { return slog.StringValue(hidden) }
