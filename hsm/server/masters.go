package server

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"authswitch/hsm/engine"
	"authswitch/hsm/tr31"
)

// masterBytes is AES-256.
const masterBytes = 32

// reloadEvery bounds how often a block that opens under no master key lets the
// token be asked for new ones: another hsmd on the same token may have made
// one.
const reloadEvery = time.Second

// masters are the local master keys that are loaded: the last one seals, all of
// them open.
type masters struct {
	root    Root
	random  io.Reader
	parents int
	limit   int
	now     func() time.Time

	mu      sync.Mutex // one reload at a time
	looked  time.Time
	current atomic.Pointer[generation]
}

// generation is one state of them, with the keys that were opened in it.
type generation struct {
	keys  []master // newest first
	cache *engine.Cache
}

type master struct {
	number    int
	protector *tr31.Protector
	engine    *engine.Engine
}

func newMasters(root Root, random io.Reader, cfg Config, now func() time.Time) (*masters, error) {
	m := &masters{root: root, random: random, parents: cfg.Parents, limit: cfg.CachedKeys, now: now}
	if _, err := m.reload(); err != nil {
		return nil, err
	}
	return m, nil
}

// reload asks the root which keys there are and says whether they changed.
func (m *masters) reload() (changed bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reloadLocked()
}

func (m *masters) reloadLocked() (changed bool, err error) {
	m.looked = m.now()
	numbers, err := m.root.Masters()
	if err != nil {
		return false, fmt.Errorf("looking for local master keys: %w", err)
	}
	if len(numbers) == 0 {
		return false, ErrNoMaster
	}
	was := m.current.Load()
	g := &generation{}
	for _, n := range slices.Backward(numbers) {
		k := was.find(n)
		if k == nil {
			changed = true
			if k, err = m.derive(n); err != nil {
				return false, err
			}
		}
		g.keys = append(g.keys, *k)
	}
	if was != nil && !changed && len(was.keys) == len(g.keys) {
		return false, nil
	}
	g.cache = engine.NewCache(g, m.limit)
	m.current.Store(g)
	return true, nil
}

// derive makes the block keys of one master key by calls to the root.
func (m *masters) derive(n int) (*master, error) {
	p, err := tr31.NewFromCMAC(tr31.D, masterBytes, func(dst, input []byte) error { return m.root.CMAC(n, dst, input) })
	if err != nil {
		return nil, fmt.Errorf("lmk/%d: %w", n, err)
	}
	e, err := engine.New(p, m.random, m.parents)
	if err != nil {
		return nil, fmt.Errorf("lmk/%d: %w", n, err)
	}
	return &master{number: n, protector: p, engine: e}, nil
}

func (g *generation) find(n int) *master {
	if g == nil {
		return nil
	}
	for i := range g.keys {
		if g.keys[i].number == n {
			return &g.keys[i]
		}
	}
	return nil
}

// sealing is the master key that seals.
func (g *generation) sealing() *master { return &g.keys[0] }

// Load opens a block under whichever master key it is under.
func (g *generation) Load(block []byte) (*engine.Key, error) {
	var k *engine.Key
	_, err := g.under(func(m *master) (err error) {
		k, err = m.engine.Load(block)
		return err
	})
	return k, err
}

// under tries something that opens a block, with one master key after the
// other until the block's MAC holds.
func (g *generation) under(try func(m *master) error) (*master, error) {
	var err error
	for i := range g.keys {
		if err = try(&g.keys[i]); !errors.Is(err, tr31.ErrMAC) {
			return &g.keys[i], err
		}
	}
	return nil, err
}

// key is the opened key of a block. When it opens under no master key, the
// token may have a new one.
func (m *masters) key(block []byte) (*engine.Key, error) {
	k, err := m.current.Load().cache.Key(block)
	if err != nil && errors.Is(err, tr31.ErrMAC) && m.lookAgain() {
		return m.current.Load().cache.Key(block)
	}
	return k, err
}

// under is generation.under with a look for new master keys.
func (m *masters) under(try func(m *master) error) (*master, error) {
	found, err := m.current.Load().under(try)
	if err != nil && errors.Is(err, tr31.ErrMAC) && m.lookAgain() {
		return m.current.Load().under(try)
	}
	return found, err
}

// lookAgain reloads unless that was done a moment ago. A root that cannot be
// asked changes nothing: what is loaded goes on.
func (m *masters) lookAgain() bool {
	if !m.mu.TryLock() { // another one is looking, and a refusal meanwhile is honest
		return false
	}
	defer m.mu.Unlock()
	if m.now().Sub(m.looked) < reloadEvery {
		return false
	}
	changed, err := m.reloadLocked()
	return err == nil && changed
}

// numbers are those of the loaded keys, ascending.
func (m *masters) numbers() []int {
	g := m.current.Load()
	out := make([]int, 0, len(g.keys))
	for i := range slices.Backward(g.keys) {
		out = append(out, g.keys[i].number)
	}
	return out
}

// wipe forgets the opened keys. Nothing may be at work any more.
func (m *masters) wipe() { m.current.Load().cache.Wipe() }
