package hsm

import (
	"errors"
	"sync"

	"authswitch/card"
	"authswitch/hsm/wire"
)

// call is one operation on its way. It belongs to its caller but between send
// and done, when it belongs to the connection.
type call struct {
	request []byte // the whole frame
	answer  []byte // the fields of the response
	status  wire.Status
	err     error // why there is no response
	done    chan struct{}
}

// How a call ends without a response. Both may be tried elsewhere: no operation
// changes anything that a second time would change again.
var (
	errLost = errors.New("connection lost")
	errFull = errors.New("window full")
	errDown = errors.New("not connected")
)

// maxKept is the largest buffer that goes back to the pool.
const maxKept = wire.MaxFrame

// A request has its whole place from the start: growing would leave copies of
// card numbers behind that nobody wipes.
var calls = sync.Pool{New: func() any {
	return &call{done: make(chan struct{}, 1), request: make([]byte, 0, wire.MaxFrame)}
}}

// begin takes a call and begins its frame.
func begin(op wire.Op, deadline int64) *call {
	k := calls.Get().(*call)
	k.request = wire.BeginRequest(k.request[:0], op, 0, deadline)
	return k
}

// free wipes a call, for its buffers had card numbers and keys in them, and
// gives it back.
func (k *call) free() {
	clear(k.request[:cap(k.request)])
	clear(k.answer[:cap(k.answer)])
	card.ClearRegisters()
	if cap(k.request) > maxKept || cap(k.answer) > maxKept {
		return
	}
	k.request, k.answer, k.err, k.status = k.request[:0], k.answer[:0], nil, 0
	calls.Put(k)
}

// pending are the calls that wait for their answer on one connection: places,
// each used again under another generation, so that the answer to a call that
// was given up finds nobody.
type pending struct {
	places []place
	free   []int32
}

type place struct {
	call       *call
	deadline   int64
	generation uint32
}

func newPending(window int) pending {
	p := pending{places: make([]place, window), free: make([]int32, 0, window)}
	for i := window - 1; i >= 0; i-- {
		p.free = append(p.free, int32(i))
	}
	return p
}

func (p *pending) used() int { return len(p.places) - len(p.free) }

// take gives a call a place and says its id.
func (p *pending) take(k *call, deadline int64) (id uint64, ok bool) {
	if len(p.free) == 0 {
		return 0, false
	}
	i := p.free[len(p.free)-1]
	p.free = p.free[:len(p.free)-1]
	at := &p.places[i]
	at.call, at.deadline = k, deadline
	return uint64(at.generation)<<32 | uint64(uint32(i)), true
}

// leave takes the call of an id out, nil when it has gone.
func (p *pending) leave(id uint64) *call {
	i := uint32(id)
	if int(i) >= len(p.places) || p.places[i].generation != uint32(id>>32) || p.places[i].call == nil {
		return nil
	}
	return p.release(int32(i))
}

func (p *pending) release(i int32) *call {
	at := &p.places[i]
	k := at.call
	at.call = nil
	at.generation++
	p.free = append(p.free, i)
	return k
}

// end completes every call that a condition holds for.
func (p *pending) end(err error, holds func(deadline int64) bool) {
	for i := range p.places {
		if p.places[i].call != nil && holds(p.places[i].deadline) {
			k := p.release(int32(i))
			k.err = err
			k.done <- struct{}{}
		}
	}
}
