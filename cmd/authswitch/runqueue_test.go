package main

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestRunQueue: many that never rest wait for each other, and the door knows; once
// they have ended nobody does.
func TestRunQueue(t *testing.T) {
	q := newRunQueue()
	var over atomic.Bool
	var busy sync.WaitGroup
	for range 100 * runtime.GOMAXPROCS(0) {
		busy.Go(func() {
			for !over.Load() {
				for began := time.Now(); time.Since(began) < 200*time.Microsecond; {
				}
				runtime.Gosched()
			}
		})
	}
	await := func(what string, yes func(time.Duration) bool) {
		t.Helper()
		for until := time.Now().Add(10 * time.Second); !yes(q.Wait()); time.Sleep(readEvery) {
			if time.Now().After(until) {
				t.Errorf("%s: %s", what, q.Wait())
				return
			}
		}
	}
	await("a hundred for each processor, and a wait of", func(w time.Duration) bool { return w > 5*time.Millisecond })
	over.Store(true)
	busy.Wait()
	await("nobody, and a wait of", func(w time.Duration) bool { return w < 2*time.Millisecond })
}
