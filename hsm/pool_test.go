package hsm_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"authswitch/hsm"
	"authswitch/hsm/wire"
)

// await waits for something that another goroutine brings about.
func await(t testing.TB, what string, holds func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for !holds() {
		if time.Since(began) > 20*time.Second {
			t.Fatalf("%s: not within 20 s", what)
		}
		time.Sleep(time.Millisecond) // polling what has no channel
	}
	return time.Since(began)
}

// With one of two modules gone, work goes to the other, and returns to the
// first, which is preferred, when it is back.
func TestFailover(t *testing.T) {
	root := fileRoot(t)
	first, second := newModule(t, root), newModule(t, root)
	c := connect(t, hsm.Config{Endpoints: []hsm.EndpointConfig{{Unix: first.run()}, {Unix: second.run()}}, Timeout: 10 * time.Second})
	await(t, "both up", func() bool { e := c.Endpoints(); return e[0].Up && e[1].Up })
	k := first.block(1, "M3TCE", double1)
	mac := make([]byte, 8)
	ask := func() error { return c.GenerateMAC(mac, k, hsm.PadZeros, 8, []byte("message"), 0) }
	var all sync.WaitGroup
	stop := make(chan struct{})
	for range 8 { // under load none fails
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				own := make([]byte, 8)
				if err := c.GenerateMAC(own, k, hsm.PadZeros, 8, []byte("message"), 0); err != nil {
					t.Errorf("under failover: %v", err)
					return
				}
			}
		})
	}
	first.server.Close()
	await(t, "first down", func() bool { return !c.Endpoints()[0].Up })
	if err := ask(); err != nil {
		t.Errorf("with the second alone: %v", err)
	}
	first.start()
	await(t, "first back", func() bool { return c.Endpoints()[0].Up })
	close(stop)
	all.Wait()
	if s := c.Endpoints(); s[0].Lost != 1 || s[0].Error != "" {
		t.Errorf("%+v", s)
	}
}

// Without any module a call ends at once, long before its deadline.
func TestTotalLoss(t *testing.T) {
	m := newModule(t, fileRoot(t))
	c := m.client(m.run())
	k := m.block(1, "M3TCE", double1)
	mac := make([]byte, 8)
	m.server.Close()
	await(t, "down", func() bool { return !c.Up() })
	began := time.Now()
	for range 100 {
		if err := c.GenerateMAC(mac, k, hsm.PadZeros, 8, []byte("message"), 0); !errors.Is(err, hsm.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("a hundred refusals took %s", took)
	}
	m.start()
	await(t, "back", c.Up)
	if err := c.GenerateMAC(mac, k, hsm.PadZeros, 8, []byte("message"), 0); err != nil {
		t.Error(err)
	}
}

// A listener that takes connections and never answers, as a stopped process
// does, is no module: calls do not wait for it.
func TestSilent(t *testing.T) {
	l, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			s, err := l.Accept()
			if err != nil {
				return
			}
			defer s.Close()
		}
	}()
	c, err := hsm.New(hsm.Config{Endpoints: []hsm.EndpointConfig{{Unix: l.Addr().String()}}}, hsm.Deps{Now: func() int64 { return time.Now().UnixNano() }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { c.Run(ctx) })
	defer running.Wait()
	defer stop()
	await(t, "given up", func() bool { return c.Endpoints()[0].Error == "connected, but the module does not answer" })
	if err := c.GenerateMAC(make([]byte, 8), []byte("k"), hsm.PadZeros, 8, nil, 0); !errors.Is(err, hsm.ErrUnavailable) {
		t.Error(err)
	}
}

// relay stands between client and module, and can stop passing on.
type relay struct {
	mu   sync.Mutex
	open bool
	cond *sync.Cond
}

func (r *relay) gate(open bool) {
	r.mu.Lock()
	r.open = open
	r.mu.Unlock()
	r.cond.Broadcast()
}

func (r *relay) pass(from, to net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		r.mu.Lock()
		for !r.open {
			r.cond.Wait()
		}
		r.mu.Unlock()
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			_ = to.Close()
			return
		}
	}
}

// A module that goes silent fails what waits within the bound of its silence,
// refuses what comes at once, and takes work again when it answers.
func TestGoesSilent(t *testing.T) {
	m := newModule(t, fileRoot(t))
	r := &relay{open: true}
	r.cond = sync.NewCond(&r.mu)
	path := m.dir + "/relay"
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			a, err := l.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial("unix", m.run())
			if err != nil {
				_ = a.Close()
				continue
			}
			go r.pass(a, b)
			go r.pass(b, a)
		}
	}()
	c := m.client(path)
	k := m.block(1, "M3TCE", double1)
	mac := make([]byte, 8)
	ask := func() error { return c.GenerateMAC(mac, k, hsm.PadZeros, 8, []byte("message"), 0) }
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	r.gate(false)
	began := time.Now()
	if err := ask(); !errors.Is(err, hsm.ErrUnavailable) {
		t.Errorf("what waited: %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it waited %s for a module that is silent", took)
	}
	began = time.Now()
	if err := ask(); !errors.Is(err, hsm.ErrUnavailable) || time.Since(began) > time.Second {
		t.Errorf("what came then: %v after %s", err, time.Since(began))
	}
	r.gate(true)
	await(t, "heard again", c.Up)
	if err := ask(); err != nil {
		t.Error(err)
	}
}

// A deadline that passes ends a call, and its late answer meets nobody.
func TestDeadline(t *testing.T) {
	root := fileRoot(t)
	m := newModule(t, root)
	stuck := &stuckBook{hold: make(chan struct{})}
	m.server.Close()
	m.audit = stuck
	m.start()
	c := m.client(m.run())
	a, err := hsm.ParseAttributes("D0ABN")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Generate(a, 32, time.Now().Add(-time.Second).UnixNano()); !errors.Is(err, hsm.ErrDeadline) {
		t.Errorf("a deadline that had passed: %v", err)
	}
	if _, err := c.Generate(a, 32, time.Now().Add(50*time.Millisecond).UnixNano()); !errors.Is(err, hsm.ErrDeadline) {
		t.Errorf("a deadline that passed: %v", err)
	}
	close(stuck.hold)
	for range 50 {
		if k, err := c.Generate(a, 32, 0); err != nil || k.Attributes != a {
			t.Fatalf("%+v %v", k, err)
		}
	}
}

// What is in flight is bounded: beyond the window a call is refused at once.
func TestWindow(t *testing.T) {
	root := fileRoot(t)
	m := newModule(t, root)
	stuck := &stuckBook{hold: make(chan struct{})}
	m.server.Close()
	m.audit = stuck
	m.start()
	c := m.client(m.run(), func(cfg *hsm.Config) { cfg.Window = 4 })
	a, err := hsm.ParseAttributes("D0ABN")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if _, err := c.Generate(a, 32, 0); err != nil {
				t.Error(err)
			}
		})
	}
	await(t, "full", func() bool { return c.Endpoints()[0].InFlight == 4 })
	if _, err := c.Generate(a, 32, 0); !errors.Is(err, hsm.ErrBusy) {
		t.Errorf("beyond the window: %v", err)
	}
	close(stuck.hold)
	all.Wait()
	if _, err := c.Ask(wire.OpPing, nil, 0); err != nil {
		t.Error(err)
	}
}
