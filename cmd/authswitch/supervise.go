package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// child is one process of dev: started again when it dies, with the same
// arguments, until dev stops.
type child struct {
	name string
	exe  string // this program when empty
	args []string
	logs io.Writer
}

// Restart pauses of a child: at once after a long life, slower when it dies at
// every start, and never so slow that a scripted kill waits for it.
const (
	firstPause = 20 * time.Millisecond
	lastPause  = 500 * time.Millisecond
	longLife   = 5 * time.Second
	stopGrace  = 20 * time.Second
)

// nursery starts children from one thread that lives as long as they do: the
// kernel ties a child's parent-death signal to the thread that started it.
type nursery struct {
	exe    string
	log    *slog.Logger
	starts chan startRequest
	all    sync.WaitGroup
}

type startRequest struct {
	cmd  *exec.Cmd
	done chan error
}

func newNursery(log *slog.Logger) (*nursery, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	n := &nursery{exe: exe, log: log, starts: make(chan startRequest)}
	go n.startFromOneThread()
	return n, nil
}

func (n *nursery) startFromOneThread() {
	runtime.LockOSThread() // never unlocked: the thread must outlive the children
	slacken()
	for r := range n.starts {
		r.done <- r.cmd.Start()
	}
}

// keep runs a child until ctx ends, then stops it with SIGTERM.
func (n *nursery) keep(ctx context.Context, c child) {
	n.all.Go(func() {
		pause := firstPause
		for ctx.Err() == nil {
			started := time.Now()
			err := n.once(ctx, c)
			if ctx.Err() != nil {
				return
			}
			n.log.Warn("process ended; starting it again", "process", c.name, "error", err)
			if time.Since(started) > longLife {
				pause = firstPause
			}
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			pause = min(2*pause, lastPause)
		}
	})
}

// once runs a child to its end.
func (n *nursery) once(ctx context.Context, c child) error {
	exe := n.exe
	if c.exe != "" {
		exe = c.exe
	}
	cmd := exec.CommandContext(ctx, exe, c.args...)
	cmd.Stdout, cmd.Stderr = c.logs, c.logs
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopGrace
	request := startRequest{cmd: cmd, done: make(chan error, 1)}
	n.starts <- request
	if err := <-request.done; err != nil {
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	if err := cmd.Wait(); err != nil {
		return err
	}
	return errors.New("exited")
}

// wait returns when every child has ended.
func (n *nursery) wait() { n.all.Wait() }
