package main_test

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Five seconds after payments at the counter have ended and nothing is owed, no
// card number, no track, no PIN block, as it came or as it left, stands in the
// switch's memory; after a kill none stands in what is on disk or was said.
func TestMarkersLeaveMemory(t *testing.T) {
	hsmd(t)
	d := startDev(t)
	block := d.pinBlock(cbCard, "1234")
	track := cbCard + "=30122011000000123"
	said := &lockedBuffer{}
	for i, amount := range []int{1000, 1051, 1068, 1000, 1000} {
		body := strings.Replace(d.atCounter(block, amount), cbCard+"=30122011000000000", track, 1)
		a := d.ask(http.MethodPost, "/v1/authorizations", fmt.Sprintf("marker-%d", i), body)
		if a.status != http.StatusCreated && a.status != http.StatusGatewayTimeout {
			t.Errorf("%d: %d %s", amount, a.status, a.body)
		}
		_, _ = io.WriteString(said, a.body)
	}
	eventually(t, 20*time.Second, "nothing is owed", func() bool { return d.metric("reversals_owed") == 0 })
	_, _ = io.WriteString(said, d.metrics())
	time.Sleep(5 * time.Second) // what the requirement gives the switch

	s := &search{}
	s.card(cbCard)
	s.text("track 2", track)
	s.add("PIN block in hexadecimal", []byte(block))
	raw, err := hex.DecodeString(block)
	if err != nil {
		t.Fatal(err)
	}
	s.binary("PIN block", raw)
	s.memory(t, d.pid(), "node")
	control := &search{}
	control.text("merchant", d.info.Merchant)
	control.memory(t, d.pid(), "node")
	if len(control.found) == 0 || control.bytes < 1<<20 {
		t.Errorf("the search of memory finds nothing at all in %d bytes", control.bytes)
	}
	if err := syscall.Kill(d.pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	if err := s.tree(d.info.Nodes[0].DataDir); err != nil {
		t.Fatal(err)
	}
	s.look("logs", []byte(d.logs.String()))
	s.look("answers and metrics", []byte(said.String()))
	for _, f := range s.found {
		t.Error(f)
	}
}

// memory searches what a process has mapped and may write to.
func (s *search) memory(t *testing.T, pid int, what string) {
	t.Helper()
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer maps.Close()
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		var from, to uint64
		var mode string
		if n, _ := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &mode); n != 3 || !strings.HasPrefix(mode, "rw") || to-from > 1<<30 {
			continue
		}
		b := make([]byte, to-from)
		n, _ := mem.ReadAt(b, int64(from)) // a part that is not there reads short
		s.look(fmt.Sprintf("memory of the %s, %x", what, from), b[:n])
	}
}
