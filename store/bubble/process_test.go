package bubble_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestDeadProcess shows that a process that crashed reaches nobody while it is
// wound up, although its host's next life serves: it had dialled again, and voted
// and committed with a disk that no longer was its own.
func TestDeadProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric(rand.New(rand.NewPCG(1, 1)), newTrace(""))
		first, other := f.process("n1"), f.process("n2")
		theirs := other.listen("n2/raft")
		line, err := first.dial(context.Background(), "n2", "n2/raft")
		if err != nil {
			t.Fatal(err)
		}
		served, err := theirs.Accept()
		if err != nil {
			t.Fatal(err)
		}
		own := first.listen("n1/raft")
		first.end()
		if _, err := other.dial(context.Background(), "n1", "n1/raft"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a dead process is dialed: %v", err)
		}
		next := f.process("n1")
		again := next.listen("n1/raft")
		if _, err := first.dial(context.Background(), "n2", "n2/raft"); !errors.Is(err, errUnreachable) {
			t.Errorf("a dead process dials: %v", err)
		}
		if _, err := line.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a dead process writes: %v", err)
		}
		if _, err := own.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a dead process listens: %v", err)
		}
		if _, err := served.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the other side of its line: %v, want the end", err)
		}
		if _, err := first.listen("n1/commands").Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a dead process listens anew: %v", err)
		}
		if _, err := other.dial(context.Background(), "n1", "n1/raft"); err != nil {
			t.Errorf("the next life is not reached: %v", err)
		}
		select {
		case <-again.conns:
		case <-time.After(time.Second):
			t.Error("the next life has no line")
		}
	})
}

// TestPowerCut: of a machine without power nobody hears anything; once it has power
// again it says to what is sent on an old line, or to a keep-alive, that there is
// none.
func TestPowerCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric(rand.New(rand.NewPCG(1, 1)), newTrace(""))
		first, other := f.process("n1"), f.process("n2")
		heard := first.listen("n1/raft")
		var lines []net.Conn
		for range 3 {
			line, err := other.dial(context.Background(), "n1", "n1/raft")
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, line)
		}
		served, err := heard.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = served.Write([]byte("last words"))
		first.lose()
		if _, err := served.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("it writes: %v", err)
		}
		if _, err := io.ReadFull(lines[0], make([]byte, 10)); err != nil {
			t.Errorf("what it said before: %v", err)
		}
		if _, err := lines[0].Write([]byte("hello")); err != nil {
			t.Errorf("a write into the dark: %v", err)
		}
		patience, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := other.dial(patience, "n1", "n1/raft"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("it is dialed: %v", err)
		}
		for n, line := range lines {
			_ = line.SetReadDeadline(time.Now().Add(time.Minute))
			if _, err := line.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("line %d in the dark: %v", n, err)
			}
			_ = line.SetReadDeadline(time.Time{})
		}

		f.power("n1")
		if _, err := other.dial(context.Background(), "n1", "n1/raft"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("nobody listens yet: %v", err)
		}
		if _, err := lines[1].Write([]byte("hello")); err != nil {
			t.Errorf("a write to who has forgotten: %v", err)
		}
		began := time.Now()
		for n, within := range []time.Duration{10 * time.Millisecond, 10 * time.Millisecond, keepAlives[0] + 10*time.Millisecond} {
			_, err := lines[n].Read(make([]byte, 1))
			if took := time.Since(began); !errors.Is(err, syscall.ECONNRESET) || took > within {
				t.Errorf("line %d: %v after %s", n, err, took)
			}
		}
	})
}

// TestLeaderGone: the others elect another at once where the leader's process dies,
// and after its silence where its machine does.
func TestLeaderGone(t *testing.T) {
	for _, power := range []bool{false, true} {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(1, dir)
			w.boot(w.members...)
			time.Sleep(5 * time.Second)
			old := w.leader()
			began := time.Now()
			old.crash(old.now(), power)
			for w.leader() == nil && time.Since(began) < time.Minute {
				time.Sleep(time.Millisecond)
			}
			if took := time.Since(began); took < heartbeat/2 == power {
				t.Errorf("power cut %t: another leads after %s", power, took)
			}
			w.stop()
			if len(w.found) > 0 || t.Failed() {
				t.Errorf("%q\n%s\n%s", w.found, w.notes.String(), w.logs.String())
			}
		})
	}
}

// leader is the member that leads, nil when there is none.
func (w *world) leader() *member {
	for _, m := range w.members {
		if l := m.now(); l != nil && l.store.Leads() {
			return m
		}
	}
	return nil
}
