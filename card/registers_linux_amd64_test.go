package card

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

// A signal has the kernel save the registers in memory. What was copied before is
// found there, wiped or not; after ClearRegisters it is not.
func TestClearRegisters(t *testing.T) {
	// A signal may also come between the copy and ClearRegisters: once in many.
	const rounds = 20
	left, cleared := 0, 0
	for range rounds {
		if copyAndSignal(t, func() {}) {
			left++
		}
		if copyAndSignal(t, ClearRegisters) {
			cleared++
		}
	}
	t.Logf("of %d copies %d were found after a signal, %d where the registers were cleared before it", rounds, left, cleared)
	if left < rounds/2 {
		t.Errorf("only %d of %d copies were found at all: the test shows nothing", left, rounds)
	}
	if cleared > 1 {
		t.Errorf("%d of %d copies were found although the registers were cleared", cleared, rounds)
	}
	if n := testing.AllocsPerRun(100, ClearRegisters); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// copyAndSignal copies a secret on a thread of its own, wipes it and its copy, has
// the thread signalled, and says whether the secret stands in memory. It is looked
// for by its complement.
func copyAndSignal(t *testing.T, between func()) bool {
	t.Helper()
	secret, there := make([]byte, 192), make([]byte, 192)
	complement := make([]byte, 16)
	_, _ = rand.Read(secret)
	for i := range complement {
		complement[i] = ^secret[64+i]
	}
	signalled, looked := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with it
		copy(there, secret)
		clear(secret)
		clear(there)
		between()
		signalled <- syscall.Tgkill(syscall.Getpid(), syscall.Gettid(), syscall.SIGURG)
		<-looked
	}()
	defer close(looked)
	if err := <-signalled; err != nil {
		t.Fatal(err)
	}
	return inHeap(t, &there[0], complement)
}

// inHeap looks through the mapping that holds an address of the heap, as the
// stacks of signals are.
func inHeap(t *testing.T, address *byte, complement []byte) bool {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	page := make([]byte, 64<<10)
	for line := range strings.Lines(string(maps)) {
		var from, to uint64
		at := uint64(uintptr(unsafe.Pointer(address)))
		if n, _ := fmt.Sscanf(line, "%x-%x", &from, &to); n != 2 || at < from || at >= to {
			continue
		}
		for ; from < to; from += uint64(len(page)) {
			n, _ := mem.ReadAt(page[:min(uint64(len(page)), to-from)], int64(from))
			for i := range page[:n] {
				page[i] = ^page[i]
			}
			if bytes.Contains(page[:n], complement) {
				return true
			}
		}
	}
	return false
}
