package main

import (
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"authswitch/hsm"
)

// The module killed, stopped and started again under load: what is asked
// meanwhile fails fast, and within a second of the return it is answered again.
func TestOutageUnderLoad(t *testing.T) {
	w := newWorkplace(t)
	var answered, refused, slow atomic.Int64
	stop := make(chan struct{})
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				var mac [8]byte
				began := time.Now()
				err := w.client.GenerateMAC(mac[:], w.blocks["mac"], hsm.PadZeros, 8, []byte("message"), 0)
				switch {
				case err == nil:
					answered.Add(1)
				case errors.Is(err, hsm.ErrUnavailable), errors.Is(err, hsm.ErrDeadline), errors.Is(err, hsm.ErrBusy):
					refused.Add(1)
					time.Sleep(time.Millisecond) // a terminal does not ask again at once
				default:
					t.Errorf("neither answered nor unavailable: %v", err)
					return
				}
				if time.Since(began) > 5*time.Second { // the silence is half a second; the machine is shared
					slow.Add(1)
				}
			}
		})
	}
	again := func(what string, since time.Time) {
		t.Helper()
		from := answered.Load()
		for answered.Load() == from {
			if time.Since(since) > 20*time.Second {
				t.Fatalf("%s: nothing is answered", what)
			}
			time.Sleep(time.Millisecond) // polling another process
		}
		t.Logf("%s: answered again %s after it was back", what, time.Since(since))
	}
	down := func(what string) {
		t.Helper()
		from, began := refused.Load(), time.Now()
		for refused.Load() == from {
			if time.Since(began) > 20*time.Second {
				t.Fatalf("%s: nothing is refused", what)
			}
			time.Sleep(time.Millisecond) // polling what the load sees
		}
		t.Logf("%s: refused after %s", what, time.Since(began))
	}
	again("start", time.Now())
	if err := w.process.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	down("stopped")
	back := time.Now()
	if err := w.process.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	again("stopped", back)
	if err := w.process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = w.process.Wait()
	down("killed")
	w.process = w.place.start()
	for !w.client.Up() {
		if time.Since(back) > time.Minute {
			t.Fatal("not up again")
		}
		time.Sleep(time.Millisecond) // polling another process
	}
	again("killed", time.Now())
	close(stop)
	all.Wait()
	if slow.Load() > 0 {
		t.Errorf("%d calls waited for a module that was away", slow.Load())
	}
}
