package link

import (
	"net"
	"sync"
	"testing"
	"time"

	"authswitch/iso8583"
)

// signs is an acquirer that approves, and counts what it is asked for by DE 70.
type signs struct {
	mu   sync.Mutex
	seen map[string]int
	up   int
}

func (s *signs) serve(t *testing.T) func(net.Conn) {
	return func(socket net.Conn) {
		h := newHost(t, socket)
		s.add(func() { s.up++ })
		defer s.add(func() { s.up-- })
		for m := h.raw(); m != nil; m = h.raw() {
			if m.MTI().Class() == iso8583.ClassNetwork {
				code := string(m.Bytes(70))
				s.add(func() { s.seen[code]++ })
			}
			h.answer(m, "00")
		}
	}
}

func (s *signs) add(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *signs) is(ons, offs, up int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen["001"] == ons && s.seen["002"] == offs && s.up == up
}

// standing is a link of one node and what its acquirer saw.
func standing(t *testing.T, scope Scope, first Standing) (*rig, *signs) {
	t.Helper()
	s := &signs{seen: map[string]int{}}
	cfg := Config{Address: listen(t, s.serve(t)), Connections: 3, StateScope: scope, BackoffShortest: 10 * time.Millisecond}
	r := newRigWith(t, cfg, loadDialect(t, "ascii87"), dialer.DialContext, func(*Deps) {})
	r.link.Stand(first)
	t.Cleanup(r.close)
	return r, s
}

func (r *rig) readyAre(n int) {
	r.t.Helper()
	r.until("as many ready", func(s Status) bool {
		ready := 0
		for _, c := range s.Connections {
			if c.State == Ready {
				ready++
			}
		}
		return ready == n && s.NumbersLeft > 0
	})
}

func (s *signs) await(t *testing.T, what string, ons, offs, up int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !s.is(ons, offs, up); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			s.mu.Lock()
			defer s.mu.Unlock()
			t.Fatalf("%s: %v on %d connections, want %d on, %d off, %d up", what, s.seen, s.up, ons, offs, up)
		}
	}
}

func TestStateScopes(t *testing.T) {
	t.Run("connection: each signs on and off", func(t *testing.T) {
		r, s := standing(t, ScopeConnection, Standing{Connections: 2, Keeper: true})
		r.readyAre(2)
		s.await(t, "up", 2, 0, 2)
		r.link.Stand(Standing{Connections: 1, Keeper: true, Others: true})
		s.await(t, "one given back", 2, 1, 1)
		outcome(t, r.pay(1))
		r.link.Stand(Standing{Connections: 3, Keeper: true})
		r.readyAre(3)
		s.await(t, "three", 4, 1, 3)
	})
	t.Run("station: the first signs on, the last off", func(t *testing.T) {
		r, s := standing(t, ScopeStation, Standing{Connections: 1})
		r.readyAre(1)
		r.link.Stand(Standing{Connections: 3})
		r.readyAre(3)
		s.await(t, "up", 1, 0, 3)
		r.link.Stand(Standing{Connections: 1})
		s.await(t, "two given back", 1, 0, 1)
		r.link.Drain()
		s.await(t, "the last", 1, 1, 0)
	})
	t.Run("institution: another node signed on, others remain", func(t *testing.T) {
		r, s := standing(t, ScopeInstitution, Standing{Connections: 2, Others: true})
		s.await(t, "connected, waiting for the keeper", 0, 0, 2)
		if r.link.Up() {
			t.Error("up before the keeper signed on")
		}
		r.link.Stand(Standing{Connections: 2, Others: true, SignedOn: true})
		r.readyAre(2)
		outcome(t, r.pay(1))
		r.link.Drain()
		s.await(t, "left", 0, 0, 0)
	})
	t.Run("institution: the keeper signs on, the last off", func(t *testing.T) {
		r, s := standing(t, ScopeInstitution, Standing{Connections: 1, Others: true})
		s.await(t, "connected, waiting", 0, 0, 1)
		r.link.Stand(Standing{Connections: 1, Keeper: true, Others: true})
		r.readyAre(1)
		s.await(t, "signed on", 1, 0, 1)
		r.link.Stand(Standing{Connections: 1, Keeper: true, SignedOn: true})
		r.link.Drain()
		s.await(t, "signed off", 1, 1, 0)
	})
	t.Run("none", func(t *testing.T) {
		r, s := standing(t, ScopeConnection, Standing{Others: true})
		r.until("numbers", func(s Status) bool { return s.NumbersLeft > 0 })
		r.link.SignOn()
		time.Sleep(50 * time.Millisecond)
		if !s.is(0, 0, 0) || r.link.Sockets() != 0 {
			t.Errorf("%+v", r.link.Status())
		}
	})
}
