package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"authswitch/hsm/audit"
	"authswitch/hsm/engine"
)

// refusals brings into the audit log what is refused on the hot path, where
// nobody may wait for a disk, and where a broken or hostile client could fill it.
// The first refusal of a kind is written at once; what follows of the same kind
// is counted and written as one entry a period.
type refusals struct {
	book   Book
	log    *slog.Logger
	period time.Duration
	direct *rate.Limiter // entries that a request of the run socket writes itself

	mu     sync.Mutex
	kinds  map[refusalKind]*refusalCount
	beyond uint64 // of kinds that there was no room for
	wake   chan struct{}
}

// refusalKind is what makes two refusals the same for who reads the log.
type refusalKind struct{ peer, operation, reason string }

type refusalCount struct {
	object string // which key, of the first one
	first  bool   // not written yet
	more   uint64 // since the last entry
}

// Bounds of what is remembered and written: maxKinds first entries and as many
// counts a period, whatever anybody sends.
const (
	maxKinds     = 256
	directRate   = 50 // a second
	directBurst  = 200
	beyondReason = "refusals of more kinds than are told apart"
)

func newRefusals(book Book, log *slog.Logger, period time.Duration) *refusals {
	return &refusals{
		book: book, log: log, period: period, direct: rate.NewLimiter(directRate, directBurst),
		kinds: map[refusalKind]*refusalCount{}, wake: make(chan struct{}, 1),
	}
}

// note counts a refusal. It never waits.
func (f *refusals) note(peer, operation, object, reason string) {
	k := refusalKind{peer, operation, reason}
	f.mu.Lock()
	c := f.kinds[k]
	switch {
	case c != nil:
		c.more++
	case len(f.kinds) >= maxKinds:
		f.beyond++
	default:
		f.kinds[k] = &refusalCount{object: object, first: true}
	}
	f.mu.Unlock()
	if c == nil {
		select {
		case f.wake <- struct{}{}:
		default: // it is awake already
		}
	}
}

// run writes until ctx ends, and then what is left.
func (f *refusals) run(ctx context.Context) {
	tick := time.NewTicker(f.period)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			f.write(true)
			return
		case <-f.wake:
			f.write(false)
		case <-tick.C:
			f.write(true)
		}
	}
}

// write brings first refusals to the log and, when a period is over, the counts.
// A kind of which nothing was heard for a period is forgotten.
func (f *refusals) write(counts bool) {
	var events []audit.Event
	f.mu.Lock()
	for k, c := range f.kinds {
		e := audit.Event{Actors: []string{k.peer}, Operation: k.operation, Object: c.object, Reason: k.reason, Outcome: audit.Refused}
		switch {
		case c.first:
			c.first = false
			events = append(events, e)
		case counts && c.more > 0:
			e.Object, e.Reason = "", fmt.Sprintf("%d more: %s", c.more, k.reason)
			c.more = 0
			events = append(events, e)
		case counts:
			delete(f.kinds, k)
		}
	}
	if counts && f.beyond > 0 {
		events = append(events, audit.Event{Operation: "refused", Reason: fmt.Sprintf("%d %s", f.beyond, beyondReason), Outcome: audit.Refused})
		f.beyond = 0
	}
	f.mu.Unlock()
	for _, e := range events {
		if _, err := f.book.Append(e); err != nil {
			// The disk is the alarm; what was refused stays refused.
			f.log.Error("a refusal is not in the audit log", "operation", e.Operation, "reason", e.Reason, "error", err)
		}
	}
}

// blockError is why a key block was refused, and which one.
type blockError struct {
	err    error
	digest string
}

func (b *blockError) Error() string { return b.err.Error() }

func (b *blockError) Unwrap() error { return b.err }

// key opens a block for an operation of the hot path.
func (s *Server) key(block []byte) (*engine.Key, error) {
	k, err := s.masters.key(block)
	if err != nil {
		sum := sha256.Sum256(block)
		return nil, &blockError{err, "block sha256 " + hex.EncodeToString(sum[:8])}
	}
	return k, nil
}

// noting wraps a handler that writes nothing down itself: a key block that it
// refuses is in the audit log with its reason.
func (s *Server) noting(h Handler) Handler {
	return func(r *Request, dst []byte) ([]byte, error) {
		out, err := h(r, dst)
		if err != nil && isKey(err) {
			object := ""
			if b, ok := errors.AsType[*blockError](err); ok {
				object = b.digest
			}
			s.refusals.note(r.Peer, "key.use "+r.Op.String(), object, err.Error())
		}
		return out, err
	}
}
