package bubble_test

import (
	"context"
	"errors"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"authswitch/journal"
	"authswitch/store"
)

// untrusted says that a node refuses its own disk: an operator rebuilds it.
func untrusted(err error) bool {
	return errors.Is(err, store.ErrLess) || errors.Is(err, store.ErrRefused) || errors.Is(err, store.ErrWiped) || errors.Is(err, store.ErrBehind) ||
		errors.Is(err, journal.ErrCorrupt) || pebble.IsCorruptionError(err)
}

// rebuild is what `authswitch cluster rebuild` does: the member is taken out, its
// disk emptied, and it joins anew while the others vote.
func (w *world) rebuild(m *member) {
	w.notef("%s is rebuilt", m.id)
	w.count("rebuilt")
	if err := m.fs.MkdirAll("data", 0o755); err != nil {
		w.failf("%s: %v", m.id, err)
		return
	}
	if err := store.WipeAtStart(m.fs, "data"); err != nil {
		w.failf("%s: %v", m.id, err)
		return
	}
	if !w.atLeader(m, func(ctx context.Context, s *store.Store) error { return s.Remove(ctx, m.id) }) {
		w.failf("%s is not taken out", m.id)
		return
	}
	joined := make(chan bool, 1)
	go func() {
		joined <- w.atLeader(m, func(ctx context.Context, s *store.Store) error { return s.Join(ctx, m.id, string(m.id), true) })
	}()
	for range 10 {
		err := m.start()
		if err == nil {
			break
		}
		w.notef("%v", err)
		time.Sleep(time.Second)
	}
	if !<-joined || m.now() == nil {
		w.failf("%s does not come back when it is rebuilt", m.id)
	}
}

// atLeader asks the others, whoever of them leads, until it is done.
func (w *world) atLeader(but *member, do func(context.Context, *store.Store) error) bool {
	for range 60 {
		for _, m := range w.members {
			l := m.now()
			if m == but || l == nil || !l.store.Leads() {
				continue
			}
			ctx, cancel := context.WithTimeout(l.ctx, 30*time.Second)
			err := do(ctx, l.store)
			cancel()
			if err == nil {
				return true
			}
			w.notef("%s: %v", m.id, err)
		}
		time.Sleep(500 * time.Millisecond)
	}
	return false
}
