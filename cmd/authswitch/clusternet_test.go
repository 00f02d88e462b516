package main_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// cuts cut the lines between the nodes, which have addresses of their own on
// loopback, 127.0.0.1 to 127.0.0.3, and dial each other from them. Nothing else
// on a machine speaks between those.
type cuts struct {
	table  string
	absent string // why there are none
}

func newCuts(t *testing.T) *cuts {
	t.Helper()
	c := &cuts{table: fmt.Sprintf("authswitch_%d", os.Getpid())}
	switch _, err := exec.LookPath("nft"); {
	case os.Geteuid() != 0:
		c.absent = "packet filters need root"
	case err != nil:
		c.absent = "there is no nft"
	}
	if c.absent != "" {
		return c
	}
	if out, err := exec.Command("nft", "add table inet "+c.table+"; add chain inet "+c.table+" in { type filter hook input priority 0; }; add chain inet "+c.table+" out { type nat hook output priority -100; }").CombinedOutput(); err != nil {
		c.absent = strings.TrimSpace(string(out))
		return c
	}
	t.Cleanup(func() { _ = exec.Command("nft", "delete table inet "+c.table).Run() })
	return c
}

// cut drops what a node hears from the other nodes, and unless only its ears
// are cut, what they hear from it. The load goes on: it stays on 127.0.0.1.
func (c *cuts) cut(t *testing.T, node int, ears bool) {
	t.Helper()
	own := address(node)
	for other := range 3 {
		if other == node {
			continue
		}
		c.rule(t, "in", "ip saddr", address(other), "ip daddr", own, "drop")
		if !ears {
			c.rule(t, "in", "ip saddr", own, "ip daddr", address(other), "drop")
		}
	}
}

// lose drops so many of a hundred packets between the nodes.
func (c *cuts) lose(t *testing.T, percent int) {
	t.Helper()
	for from := range 3 {
		for to := range 3 {
			if from != to {
				c.rule(t, "in", "ip saddr", address(from), "ip daddr", address(to), "tcp dport != 1 numgen random mod 100 <", strconv.Itoa(percent), "drop")
			}
		}
	}
}

func address(node int) string { return fmt.Sprintf("127.0.0.%d", node+1) }

func (c *cuts) rule(t *testing.T, chain string, words ...string) {
	t.Helper()
	if out, err := exec.Command("nft", "add rule inet "+c.table+" "+chain+" "+strings.Join(words, " ")).CombinedOutput(); err != nil {
		t.Fatalf("nft: %s", out)
	}
}

func (c *cuts) heal(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("nft", "flush table inet "+c.table).CombinedOutput(); err != nil {
		t.Fatalf("nft: %s", out)
	}
}

// peers are where the nodes listen for each other.
func (d *instance) peers(t *testing.T) (listen []string) {
	t.Helper()
	for _, n := range d.info.Nodes {
		text, err := os.ReadFile(filepath.Join(d.dir, n.ID+".yaml"))
		var c struct{ Cluster struct{ Listen string } }
		if err == nil {
			err = yaml.Unmarshal(text, &c)
		}
		if err != nil {
			t.Fatal(err)
		}
		listen = append(listen, c.Cluster.Listen)
	}
	return listen
}

// relayFrom is whom a relay dials from: what it dials is not led to it again.
const relayFrom = "127.0.0.9"

// delay leads every line between the nodes through a relay that passes each
// piece on after 20 to 80 ms. Lines that there are break, and are dialed anew;
// so they do when it is undone.
func (c *cuts) delay(t *testing.T, listen []string) (undo func()) {
	t.Helper()
	r := &relay{open: map[net.Conn]bool{}}
	for _, to := range listen {
		host, port, err := net.SplitHostPort(to)
		if err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		r.listeners = append(r.listeners, ln)
		r.running.Go(func() { r.accept(ln, to) })
		c.rule(t, "out", "ip saddr !=", relayFrom, "ip daddr", host, "tcp dport", port, "redirect to :"+strconv.Itoa(ln.Addr().(*net.TCPAddr).Port))
		c.rule(t, "in", "ip saddr !=", relayFrom, "ip daddr", host, "tcp dport", port, "reject with tcp reset")
	}
	time.Sleep(500 * time.Millisecond) // whatever is sent on an old line meets a reset: heartbeats are more frequent
	if out, err := exec.Command("nft", "flush chain inet "+c.table+" in").CombinedOutput(); err != nil {
		t.Fatalf("nft: %s", out)
	}
	return func() { c.heal(t); r.close() }
}

// relay passes bytes on, late.
type relay struct {
	listeners []net.Listener
	running   sync.WaitGroup
	mu        sync.Mutex
	open      map[net.Conn]bool
	closed    bool
}

func (r *relay) accept(ln net.Listener, to string) {
	dialer := net.Dialer{Timeout: time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(relayFrom)}}
	for {
		from, err := ln.Accept()
		if err != nil {
			return
		}
		target, err := dialer.Dial("tcp", to)
		if err != nil || !r.keep(from, target) {
			_ = from.Close()
			continue
		}
		r.running.Go(func() { late(target, from) })
		r.running.Go(func() { late(from, target) })
	}
}

func (r *relay) keep(conns ...net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range conns {
		if r.closed {
			_ = c.Close()
		}
		r.open[c] = true
	}
	return !r.closed
}

func (r *relay) close() {
	r.mu.Lock()
	r.closed = true
	for c := range r.open {
		_ = c.Close()
	}
	r.mu.Unlock()
	for _, ln := range r.listeners {
		_ = ln.Close()
	}
	r.running.Wait()
}

// late copies in order, each piece 20 to 80 ms after it came.
func late(to io.WriteCloser, from io.ReadCloser) {
	type piece struct {
		b   []byte
		due time.Time
	}
	pieces := make(chan piece, 4096)
	go func() {
		defer close(pieces)
		for {
			b := make([]byte, 32<<10)
			n, err := from.Read(b)
			if err != nil {
				return
			}
			pieces <- piece{b[:n], time.Now().Add(20*time.Millisecond + rand.N(60*time.Millisecond))}
		}
	}()
	for p := range pieces {
		time.Sleep(time.Until(p.due))
		if _, err := to.Write(p.b); err != nil {
			break
		}
	}
	_, _ = to.Close(), from.Close()
	for range pieces { // its reader ends with the connection
	}
}
