package main

import (
	"fmt"
	"log/slog"
	"syscall"
)

// Numbers of prctl(2) and mlockall(2) that package syscall lacks.
const (
	prSetDumpable = 4
	mclOnFault    = 4
	rlimitMemlock = 8
	rlimInfinity  = ^uint64(0)
)

// harden keeps what is in this process's memory there: no core file, no other
// process of the same user looking in, no page in the swap.
//
// Memory is locked only where the limit on it is none or can be lifted: with a
// limit, the lock would make a later allocation fail, and the process with it.
func harden(log *slog.Logger) error {
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		return fmt.Errorf("forbid core files: %w", err)
	}
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, prSetDumpable, 0, 0, 0, 0, 0); errno != 0 {
		return fmt.Errorf("forbid other processes to look in: %w", errno)
	}
	limit := syscall.Rlimit{Cur: rlimInfinity, Max: rlimInfinity}
	if err := syscall.Setrlimit(rlimitMemlock, &limit); err != nil {
		if err := syscall.Getrlimit(rlimitMemlock, &limit); err != nil || limit.Cur != rlimInfinity {
			log.Warn("memory is not locked: keys may go to swap; set LimitMEMLOCK=infinity, or have no swap")
			return nil //nolint:nilerr // said, and no reason not to start
		}
	}
	if err := syscall.Mlockall(syscall.MCL_CURRENT | syscall.MCL_FUTURE | mclOnFault); err != nil {
		log.Warn("memory is not locked: keys may go to swap", "error", err)
	}
	return nil
}
