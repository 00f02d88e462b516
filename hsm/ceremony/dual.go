package ceremony

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Errors of dual control.
var (
	ErrNoPending   = errors.New("nothing of this number waits for a second officer")
	ErrManyPending = errors.New("too much waits for a second officer")
	ErrSelf        = errors.New("nobody approves what is about themselves")
)

// maxPending bounds what waits.
const maxPending = 16

// Pending is what one officer asked for and a second must approve.
type Pending struct {
	ID      uint64
	Action  string // "officer.enrol"
	Object  string // about whom or what
	By      string
	Asked   time.Time
	Payload []byte // all of it, as the first officer signed it
}

// Deadline is when it is forgotten.
func (p *Pending) Deadline() time.Time { return p.Asked.Add(Life) }

// Approvals is what waits. The zero value is empty. It belongs to one
// goroutine at a time.
type Approvals struct {
	last    uint64
	waiting []Pending
}

// Ask notes what one officer wants.
func (a *Approvals) Ask(p Pending) (Pending, error) {
	a.Expire(p.Asked)
	if len(a.waiting) >= maxPending {
		return Pending{}, ErrManyPending
	}
	a.last++
	p.ID = a.last
	p.Payload = slices.Clone(p.Payload)
	a.waiting = append(a.waiting, p)
	return p, nil
}

// Approve judges a second officer's word. It changes nothing: the caller writes
// it down, takes it with Take, and does it.
func (a *Approvals) Approve(id uint64, by string, at time.Time) (Pending, error) {
	i := slices.IndexFunc(a.waiting, func(p Pending) bool { return p.ID == id })
	if i < 0 {
		return Pending{}, fmt.Errorf("%w: %d", ErrNoPending, id)
	}
	p := a.waiting[i]
	switch {
	case !at.Before(p.Deadline()):
		return p, ErrTime
	case p.By == by:
		return p, ErrSame
	case p.Object == by && (p.Action == string(ActEnrol) || p.Action == string(ActRemove)):
		return p, ErrSelf
	}
	return p, nil
}

// Take removes and wipes what was approved or refused for good.
func (a *Approvals) Take(id uint64) {
	a.waiting = slices.DeleteFunc(a.waiting, func(p Pending) bool {
		if p.ID == id {
			clear(p.Payload)
		}
		return p.ID == id
	})
}

// Waiting is what waits at a time.
func (a *Approvals) Waiting(at time.Time) []Pending {
	a.Expire(at)
	return slices.Clone(a.waiting)
}

// Expire forgets and wipes what waited too long, and says what that was.
func (a *Approvals) Expire(at time.Time) []Pending {
	var gone []Pending
	a.waiting = slices.DeleteFunc(a.waiting, func(p Pending) bool {
		old := !at.Before(p.Deadline())
		if old {
			clear(p.Payload)
			gone = append(gone, p)
		}
		return old
	})
	return gone
}
