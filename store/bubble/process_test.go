package bubble_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
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
