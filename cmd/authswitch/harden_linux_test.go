package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// A node forbids itself core files, and in production nobody looks into it: that
// is of a process, so each case is one of its own.
func TestHarden(t *testing.T) {
	const childOf = "AUTHSWITCH_TEST_HARDEN"
	if production := os.Getenv(childOf); production != "" {
		if err := harden(production == "true"); err != nil {
			t.Fatal(err)
		}
		var limit syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &limit); err != nil {
			t.Fatal(err)
		}
		const prGetDumpable = 3
		dumpable, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, prGetDumpable, 0, 0, 0, 0, 0)
		fmt.Printf("core %d of %d, dumpable %d, %v\n", limit.Cur, limit.Max, dumpable, errno)
		return
	}
	for production, want := range map[string]string{"true": "core 0 of 0, dumpable 0,", "false": "core 0 of 0, dumpable 1,"} {
		c := exec.Command(os.Args[0], "-test.run=^TestHarden$")
		c.Env = append(os.Environ(), childOf+"="+production)
		if out, err := c.CombinedOutput(); err != nil || !strings.Contains(string(out), want) {
			t.Errorf("production %s: %v\n%s", production, err, out)
		}
	}
}
