package hsm

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"time"

	"authswitch/card"
	"authswitch/hsm/wire"
)

// endpoint is one connection to a security module, dialed again whenever it is
// lost. It takes work only while it answers: a process that is stopped keeps
// its connections, and only its silence tells.
type endpoint struct {
	client *Client
	cfg    *EndpointConfig
	tls    *tls.Config
	kicked chan struct{} // there is something to write
	speech speech

	mu        sync.Mutex
	up        bool
	out       []byte // what waits to be written
	spare     []byte // the writer's other buffer
	waiting   pending
	heard     uint64 // frames received
	lost      uint64
	lastError string
}

// Times of an endpoint that are not worth a setting.
const (
	tick         = 20 * time.Millisecond // how often deadlines and silence are looked at
	pingEvery    = 200 * time.Millisecond
	firstRedial  = 20 * time.Millisecond
	lastRedial   = 250 * time.Millisecond
	abandonAfter = 3 * time.Second // silent that long, a connection is dialed anew
	writeTimeout = time.Second
	readBuffer   = 64 << 10
)

// pingID is the id of a ping: no place has it.
const pingID = 1<<64 - 1

// past is a deadline that has passed: it ends every wait on a socket.
var past = time.Unix(1, 0)

func newEndpoint(c *Client, cfg *EndpointConfig, secure *tls.Config) *endpoint {
	return &endpoint{client: c, cfg: cfg, tls: secure, speech: speechOf(c.cfg.Protocol), kicked: make(chan struct{}, 1), waiting: newPending(c.cfg.Window), lastError: "not dialed yet"}
}

func (e *endpoint) isUp() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.up
}

func (e *endpoint) state() EndpointState {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := EndpointState{Name: e.cfg.name(), Up: e.up, InFlight: e.waiting.used(), Lost: e.lost}
	if !e.up {
		s.Error = e.lastError
	}
	return s
}

// send gives a call its place and appends its frame. It never blocks.
func (e *endpoint) send(k *call, deadline int64) error {
	e.mu.Lock()
	if !e.up {
		e.mu.Unlock()
		return errDown
	}
	id, ok := e.waiting.take(k, deadline)
	if !ok {
		e.mu.Unlock()
		return errFull
	}
	wire.SetID(k.request, id)
	first := len(e.out) == 0
	e.room(2 * len(k.request))
	out, err := e.speech.request(e.out, k.request, id)
	if err != nil {
		e.waiting.leave(id)
		e.mu.Unlock()
		return err
	}
	e.out = out
	e.mu.Unlock()
	if first {
		e.kick()
	}
	return nil
}

func (e *endpoint) kick() {
	select {
	case e.kicked <- struct{}{}:
	default:
	}
}

// run dials, serves, and dials again.
func (e *endpoint) run(ctx context.Context) {
	pause := firstRedial
	for ctx.Err() == nil {
		socket, err := e.open(ctx)
		if err == nil {
			began := time.Now()
			err = e.serve(ctx, socket)
			if time.Since(began) > abandonAfter {
				pause = firstRedial
			}
		}
		if ctx.Err() != nil {
			return
		}
		e.mu.Lock()
		news := e.lastError != err.Error()
		e.lastError = err.Error()
		e.mu.Unlock()
		if news {
			e.client.deps.Log.Warn("security module away", "endpoint", e.cfg.name(), "error", err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, lastRedial)
	}
}

// open dials and, where the endpoint has TLS, shakes hands.
func (e *endpoint) open(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, e.client.cfg.DialTimeout)
	defer cancel()
	network, address := "unix", e.cfg.Unix
	if e.cfg.Address != "" {
		network, address = "tcp", e.cfg.Address
	}
	socket, err := e.client.deps.Dial(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	if e.tls == nil {
		return socket, nil
	}
	secure := tls.Client(socket, e.tls)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = socket.Close()
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return secure, nil
}

// serve is the life of one connection: writer and watch beside the reader. It
// is up from its first answer on.
func (e *endpoint) serve(ctx context.Context, socket net.Conn) error {
	e.mu.Lock()
	e.out = e.ping(e.out[:0])
	e.mu.Unlock()
	e.kick()
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	var writeErr, watchErr error
	end := func() { _ = socket.SetDeadline(past); cancel() }
	all.Go(func() { writeErr = e.write(ctx, socket); end() })
	all.Go(func() { watchErr = e.watch(ctx); end() })
	err := e.read(socket)
	end()
	all.Wait()
	_ = socket.Close()
	e.fall(errLost)
	for _, cause := range []error{watchErr, writeErr} {
		if cause != nil {
			return cause
		}
	}
	return err
}

// room makes place for n more bytes, at least for a frame. What it moves away
// from is wiped, which append would not do: it held card numbers.
func (e *endpoint) room(n int) {
	if cap(e.out)-len(e.out) >= n {
		return
	}
	larger := make([]byte, len(e.out), 2*cap(e.out)+n+wire.MaxFrame)
	copy(larger, e.out)
	clear(e.out[:cap(e.out)])
	e.out = larger
}

// fall takes the endpoint out of service: whoever waits tries elsewhere.
func (e *endpoint) fall(why error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.up {
		e.up = false
		e.lost++
	}
	clear(e.out)
	e.out = e.out[:0]
	e.waiting.end(why, func(int64) bool { return true })
}

// ping appends a ping.
func (e *endpoint) ping(dst []byte) []byte {
	frame := wire.BeginRequest(nil, wire.OpPing, pingID, 0)
	_ = wire.Finish(frame, 0) // a head alone is never too long
	out, err := e.speech.request(dst, frame, pingID)
	if err != nil {
		return dst // every language has a ping
	}
	return out
}

// write puts all that waits into one write, again and again. Before it takes
// the buffer it lets every goroutine run that has something to append: that is
// what makes one write carry many requests.
func (e *endpoint) write(ctx context.Context, socket net.Conn) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.kicked:
		}
		for {
			runtime.Gosched()
			e.mu.Lock()
			batch := e.out
			e.out, e.spare = e.spare[:0], nil
			e.mu.Unlock()
			if len(batch) == 0 {
				e.giveBack(batch)
				break
			}
			_ = socket.SetWriteDeadline(time.Now().Add(writeTimeout)) // if it fails, so does the write
			_, err := socket.Write(batch)
			clear(batch) // card numbers and PIN blocks do not stay behind
			e.giveBack(batch)
			if err != nil {
				return fmt.Errorf("write: %w", err)
			}
		}
	}
}

// keepBuffer is the largest buffer that is kept.
const keepBuffer = 1 << 20

func (e *endpoint) giveBack(batch []byte) {
	if cap(batch) > keepBuffer {
		return
	}
	e.mu.Lock()
	e.spare = batch[:0]
	e.mu.Unlock()
}

// read takes answers off the stream until it ends.
func (e *endpoint) read(socket net.Conn) error {
	buf := make([]byte, readBuffer)
	defer clear(buf)
	end := 0
	for {
		n, err := socket.Read(buf[end:])
		end += n
		taken, cutErr := e.hear(buf[:end])
		if cutErr != nil {
			return fmt.Errorf("read: %w", cutErr)
		}
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		left := copy(buf, buf[taken:end])
		clear(buf[left:end])
		card.ClearRegisters()
		end = left
	}
}

// hear hands out every whole answer and says how many bytes they took.
func (e *endpoint) hear(received []byte) (taken int, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for {
		a, err := e.speech.cut(received[taken:])
		if err != nil || a.size == 0 {
			return taken, err
		}
		taken += a.size
		e.heard++
		if a.id == pingID {
			if status := e.speech.ping(a); status != wire.StatusOK {
				return taken, fmt.Errorf("the module answers a ping with %s", status)
			}
			e.up = true
			continue
		}
		if k := e.waiting.leave(a.id); k != nil {
			k.status, k.answer = e.speech.answer(k.answer[:0], k.request, a)
			k.done <- struct{}{}
		}
	}
}

// errSilent ends a connection whose other side is there and does not answer.
var errSilent = errors.New("connected, but the module does not answer")

// watch ends calls whose deadline has passed, and tells a silent module from a
// slow one: its pings, which it answers before anything else, stay away too.
func (e *endpoint) watch(ctx context.Context) error {
	t := time.NewTicker(tick)
	defer t.Stop()
	silent := int64(max(1, e.client.cfg.Silence/tick))
	var heard uint64
	var quiet int64 // ticks without a frame
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		now := e.client.deps.Now()
		e.mu.Lock()
		e.waiting.end(ErrDeadline, func(deadline int64) bool { return deadline <= now })
		quiet++
		if e.heard != heard {
			heard, quiet = e.heard, 0
		}
		asks := quiet > 0 && quiet%int64(pingEvery/tick) == 0
		if asks {
			e.out = e.ping(e.out)
		}
		gone := e.up && quiet >= silent
		if gone {
			e.lastError = errSilent.Error()
		}
		e.mu.Unlock()
		if asks {
			e.kick()
		}
		if gone {
			e.client.deps.Log.Warn("security module silent", "endpoint", e.cfg.name())
			e.fall(errLost)
		}
		if quiet >= int64(abandonAfter/tick) {
			return errSilent
		}
	}
}
