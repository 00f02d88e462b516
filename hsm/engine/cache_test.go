package engine

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"authswitch/hsm/tr31"
)

func TestCache(t *testing.T) {
	e := engine(t)
	c := NewCache(e, 2)
	a, b, d := stored(t, "P0TBE", double1), stored(t, "P0TBE", double2), stored(t, "P0ABE", aes128)
	get := func(block []byte) *Key {
		t.Helper()
		k, err := c.Key(block)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	first := get(a)
	if get(a) != first {
		t.Error("opened anew")
	}
	second := get(b)
	get(a)
	get(d) // in the place of b, the longest unused
	if get(a) != first || len(c.keys) != 2 || c.recent.Len() != 2 {
		t.Errorf("%d keys, %d places", len(c.keys), c.recent.Len())
	}
	if get(b) == second {
		t.Error("the longest unused was kept")
	}
	if second.block == nil || second.CheckValue().String() == "" {
		t.Error("a key that somebody may be using was wiped")
	}
	for range 5 {
		if k, err := c.Key([]byte("D0016P0TBE00E0000")); !errors.Is(err, tr31.ErrFormat) || k != nil {
			t.Errorf("not a block: %v", err)
		}
	}
	if len(c.keys) != 2 {
		t.Error("what is no block took a place")
	}
	third := get(b)
	c.Forget(b)
	c.Forget(b)
	if len(c.keys) != 1 || get(b) == third {
		t.Error("a forgotten key was found")
	}
	last := get(b)
	c.Wipe()
	if len(c.keys) != 0 || c.recent.Len() != 0 || last.block != nil || fmt.Sprintf("%+v", c) != hidden {
		t.Error("something is left")
	}
	if get(a) == first {
		t.Error("a wiped key was found")
	}
}

func TestCacheIsShared(t *testing.T) {
	e := engine(t)
	c := NewCache(e, 3)
	var blocks [][]byte
	for range 5 {
		s, err := e.Generate(spelled("P0TBE"), 16)
		if err != nil {
			t.Fatal(err)
		}
		blocks = append(blocks, s.Block)
	}
	want := map[string]CheckValue{}
	for _, b := range blocks {
		k, err := e.Load(b)
		if err != nil {
			t.Fatal(err)
		}
		want[string(b)] = k.CheckValue()
	}
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := range 200 {
				b := blocks[(i*(g+1))%len(blocks)]
				if k, err := c.Key(b); err != nil || k.CheckValue() != want[string(b)] {
					t.Errorf("%v %v", k, err)
				}
				if i%50 == 0 {
					c.Forget(b)
				}
			}
		})
	}
	all.Wait()
	if len(c.keys) > 3 || len(c.keys) != c.recent.Len() {
		t.Errorf("%d keys, %d places", len(c.keys), c.recent.Len())
	}
}

func BenchmarkCache(b *testing.B) {
	e := engine(b)
	c := NewCache(e, 16)
	block := stored(b, "P0TBE", double1)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Key(block); err != nil {
			b.Fatal(err)
		}
	}
}
