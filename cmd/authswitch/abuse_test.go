package main_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// What the abused door is configured with.
const (
	abuseRead      = 2 * time.Second
	abuseIdle      = 8 * time.Second
	abuseAddresses = 2500 // connections from one address
	abuseIdlers    = 2000
	abuseGrace     = 4 * time.Second // for a busy machine, on top of each timeout
)

// attacker connects from an address of its own, so that what is refused to it
// is not refused to the others.
type attacker struct {
	address string
	dialer  net.Dialer
}

func (a *attacker) dial() (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return a.dialer.DialContext(ctx, "tcp", a.address)
}

// Slow, endless and idle peers are ended within their limits, and a gateway
// that behaves is served all the while.
func TestAbusedDoor(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	b.add(misbehaviour{name: "calm"}, "cb")
	b.api = map[string]any{"read_timeout": abuseRead.String(), "idle_timeout": abuseIdle.String(), "connections_per_address": abuseAddresses}
	d := b.start()
	eventually(t, 20*time.Second, "ready", d.ready)
	a := &attacker{address: strings.TrimPrefix(d.info.API, "http://"), dialer: net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}}
	pid := d.pidOf(b)
	descriptors := openFiles(t, pid)

	beside := startNeighbour(d, b.rows[0].link)
	idle := a.idlers(t)
	if n := openFiles(t, pid); n < descriptors+abuseIdlers {
		t.Errorf("%d connections are open, %d were opened", n-descriptors, abuseIdlers)
	}
	var abuse sync.WaitGroup
	for range 100 {
		abuse.Go(func() { a.slow(t, "POST /v1/authorizations HTTP/1.1\r\nHost: h\r\nX-Slow: ", "a") })
		abuse.Go(func() { a.slow(t, chunkedRequest, "1\r\nx\r\n") })
	}
	for range 20 {
		abuse.Go(func() { a.endless(t) })
		abuse.Go(func() { a.huge(t) })
		abuse.Go(func() { a.half(t, false) })
		abuse.Go(func() { a.half(t, true) })
	}
	abuse.Wait()
	a.tooMany(t)
	idle.ended(t)
	eventually(t, abuseGrace, "all is closed", func() bool { return openFiles(t, pid) < descriptors+20 })
	beside.judge(t)
	if mb := residentMB(t, pid); mb > 400 {
		t.Errorf("the node takes %d MiB", mb)
	}
}

const chunkedRequest = "POST /v1/authorizations HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nIdempotency-Key: k\r\nTransfer-Encoding: chunked\r\n\r\n"

// idle are connections that had one answer and say nothing more.
type idle struct {
	since time.Time
	conns []net.Conn
}

func (a *attacker) idlers(t *testing.T) *idle {
	i := &idle{since: time.Now()}
	for range abuseIdlers {
		c, err := a.dial()
		if err != nil {
			t.Fatalf("connection %d: %v", len(i.conns), err)
		}
		t.Cleanup(func() { c.Close() })
		i.conns = append(i.conns, c)
		if _, err := io.WriteString(c, "GET /v1/links HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range i.conns {
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		response, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || response.StatusCode != http.StatusUnauthorized {
			t.Fatalf("an idler's one request: %v %v", response, err)
		}
		response.Body.Close()
	}
	return i
}

// ended sees each closed by the server when its idle time is over.
func (i *idle) ended(t *testing.T) {
	open := 0
	until := i.since.Add(abuseIdle + 2*abuseGrace)
	for _, c := range i.conns {
		_ = c.SetReadDeadline(until)
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			open++
		}
	}
	if open > 0 {
		t.Errorf("%d idle connections are still open after %s", open, time.Since(i.since))
	}
}

// slow sends a little now and then, for ever.
func (a *attacker) slow(t *testing.T, head, drop string) {
	c, err := a.dial()
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	started := time.Now()
	_, err = io.WriteString(c, head)
	for err == nil && time.Since(started) < abuseRead+2*abuseGrace {
		time.Sleep(100 * time.Millisecond) // this is the attack
		_, err = io.WriteString(c, drop)
	}
	if err == nil {
		t.Errorf("a slow peer was heard for %s: %q", time.Since(started), head[:20])
	}
}

// endless sends a body that has no end, as fast as it is taken.
func (a *attacker) endless(t *testing.T) {
	c, err := a.dial()
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(abuseRead + 2*abuseGrace))
	chunk := fmt.Sprintf("1000\r\n%s\r\n", strings.Repeat("x", 0x1000))
	sent, err := io.WriteString(c, chunkedRequest)
	for err == nil && sent < 64<<20 {
		var n int
		n, err = io.WriteString(c, chunk)
		sent += n
	}
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("an endless body was taken: %d bytes, %v", sent, err)
	}
}

// huge announces more than anybody takes.
func (a *attacker) huge(t *testing.T) {
	c, err := a.dial()
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(abuseRead + abuseGrace))
	_, _ = io.WriteString(c, "POST /v1/authorizations HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nIdempotency-Key: k\r\nContent-Length: 1099511627776\r\n\r\n{")
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Errorf("a terabyte was announced: %v", err)
		return
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a terabyte was announced: %d", response.StatusCode)
	}
}

// half sends half a request; then it says that nothing more comes, or nothing.
func (a *attacker) half(t *testing.T, shut bool) {
	c, err := a.dial()
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	_, _ = io.WriteString(c, "POST /v1/authorizations HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nIdempotency-Key: k\r\nContent-Length: 500\r\n\r\n{\"merchant\":")
	if shut {
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Error(err)
		}
	}
	_ = c.SetReadDeadline(time.Now().Add(abuseRead + abuseGrace))
	if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("half a request (shut %v) is still waited for after %s", shut, abuseRead+abuseGrace)
	}
}

// tooMany opens more than one address may: the rest is refused or closed at once.
func (a *attacker) tooMany(t *testing.T) {
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for range abuseAddresses - abuseIdlers + 50 {
		c, err := a.dial()
		if err != nil {
			return // refused by the kernel's own queue: bounded, too
		}
		conns = append(conns, c)
	}
	refused := 0
	for _, c := range conns[len(conns)-50:] {
		_ = c.SetReadDeadline(time.Now().Add(abuseRead / 2)) // sooner than a silent one would be ended
		b, err := io.ReadAll(c)
		if err == nil || len(b) > 0 {
			refused++
		}
	}
	if refused == 0 {
		t.Errorf("%d connections from one address, and none was refused", abuseIdlers+len(conns))
	}
}

// neighbour is a gateway that behaves.
type neighbour struct {
	stop    context.CancelFunc
	done    sync.WaitGroup
	served  atomic.Int64
	slowest atomic.Int64
	failed  atomic.Pointer[string]
}

func startNeighbour(d *instance, m string) *neighbour {
	ctx, stop := context.WithCancel(context.Background())
	c := &neighbour{stop: stop}
	body := (&row{link: m}).body(1000)
	for worker := range 4 {
		c.done.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				started := time.Now()
				a, err := d.tryAsk(http.MethodPost, "/v1/authorizations", fmt.Sprintf("calm-%d-%d", worker, i), body)
				if took := int64(time.Since(started)); took > c.slowest.Load() {
					c.slowest.Store(took)
				}
				if a.field("status") != "approved" {
					words := fmt.Sprint(a.status, " ", a.body, " ", err)
					c.failed.Store(&words)
				}
				c.served.Add(1)
				time.Sleep(10 * time.Millisecond) // an ordinary rate
			}
		})
	}
	return c
}

func (c *neighbour) judge(t *testing.T) {
	c.stop()
	c.done.Wait()
	if words := c.failed.Load(); words != nil {
		t.Errorf("a gateway that behaves got: %s", *words)
	}
	if slowest := time.Duration(c.slowest.Load()); slowest > 3*time.Second || c.served.Load() < 100 {
		t.Errorf("%d requests were served, the slowest in %s", c.served.Load(), slowest)
	}
	t.Logf("%d requests were served meanwhile, the slowest in %s", c.served.Load(), time.Duration(c.slowest.Load()))
}

// pidOf is the process id of a bank's node.
func (d *instance) pidOf(b *bank) int {
	raw, err := os.ReadFile(filepath.Join(b.dir, "n1", "pid"))
	if err != nil {
		d.t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		d.t.Fatal(err)
	}
	return pid
}

func openFiles(t *testing.T, pid int) int {
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

func residentMB(t *testing.T, pid int) int {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(raw), "VmRSS:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		t.Fatal("no VmRSS")
	}
	kb, err := strconv.Atoi(fields[0])
	if err != nil {
		t.Fatal(err)
	}
	return kb >> 10
}
