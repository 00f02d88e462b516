package main

import (
	"fmt"
	"syscall"
)

// prSetDumpable is a number of prctl(2) that package syscall lacks.
const prSetDumpable = 4

// harden keeps what is in a node's memory out of core files: cards of open
// payments and the day's data key. In production no other process of the same
// user looks in either, and no core goes to a program that collects them, which
// the limit does not bind; elsewhere it must stay possible, for debuggers and for
// the test that searches a node's memory.
func harden(production bool) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &limit); err != nil || limit.Max != 0 {
		if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
			return fmt.Errorf("forbid core files: %w", err)
		}
	}
	if !production {
		return nil
	}
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, prSetDumpable, 0, 0, 0, 0, 0); errno != 0 {
		return fmt.Errorf("forbid other processes to look in: %w", errno)
	}
	return nil
}
