package main

import (
	"syscall"
	"time"
)

// prSetTimerSlack is a number of prctl(2) that package syscall lacks.
const prSetTimerSlack = 29

// timerSlack is how much later than asked the kernel may end a sleep, as in
// deploy/systemd/authswitch.service. Go's own watch over its threads sleeps
// 20 µs at a time whenever anything runs, and each of those naps costs more
// than it lasts: a third of an idle node's CPU. Nothing here waits for less
// than a millisecond.
const timerSlack = 500 * time.Microsecond

// slacken sets it for this thread and the processes that it starts. A kernel
// that refuses leaves it as it was: 50 µs.
func slacken() {
	_, _, _ = syscall.RawSyscall6(syscall.SYS_PRCTL, prSetTimerSlack, uintptr(timerSlack), 0, 0, 0, 0)
}
