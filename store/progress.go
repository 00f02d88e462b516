package store

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"authswitch/payment"
)

// progress is how far this replica has applied, and how far it must have for a
// node to read what its own commands were answered: those that the leader
// applied first are ahead of it by a heartbeat.
type progress struct {
	applied atomic.Uint64 // the last command's entry
	seen    atomic.Uint64 // the newest entry that answered a command of this node

	mu   sync.Mutex
	more chan struct{} // closed when applied moves; nil while nobody waits
}

func (p *progress) saw(index uint64) {
	for {
		old := p.seen.Load()
		if index <= old || p.seen.CompareAndSwap(old, index) {
			return
		}
	}
}

// reached notes that everything up to index is applied.
func (p *progress) reached(index uint64) {
	if index <= p.applied.Load() {
		return
	}
	p.applied.Store(index)
	p.mu.Lock()
	if p.more != nil {
		close(p.more)
		p.more = nil
	}
	p.mu.Unlock()
}

// await returns when index is applied here.
func (p *progress) await(ctx context.Context, index uint64) error {
	for p.applied.Load() < index {
		p.mu.Lock()
		if p.more == nil {
			p.more = make(chan struct{})
		}
		more := p.more
		p.mu.Unlock()
		if p.applied.Load() >= index {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return fmt.Errorf("%w: this node is behind: %d of %d", payment.ErrUnavailable, p.applied.Load(), index)
		}
	}
	return nil
}

// shared lets callers who ask the same question at the same time have one
// answer. Whoever comes while one is under way gets the next: it must have been
// asked after they came.
type shared struct {
	mu      sync.Mutex
	running bool
	next    *sharedCall
}

type sharedCall struct {
	done  chan struct{}
	index uint64
	err   error
}

func (s *shared) do(ask func() (uint64, error)) (uint64, error) {
	s.mu.Lock()
	if s.running {
		if s.next == nil {
			s.next = &sharedCall{done: make(chan struct{})}
		}
		call := s.next
		s.mu.Unlock()
		<-call.done
		return call.index, call.err
	}
	s.running = true
	s.mu.Unlock()
	index, err := ask()
	s.pass(ask)
	return index, err
}

// pass asks once more for all who came meanwhile, as long as any do.
func (s *shared) pass(ask func() (uint64, error)) {
	s.mu.Lock()
	call := s.next
	s.next = nil
	if call == nil {
		s.running = false
	}
	s.mu.Unlock()
	if call == nil {
		return
	}
	go func() {
		call.index, call.err = ask()
		close(call.done)
		s.pass(ask)
	}()
}
