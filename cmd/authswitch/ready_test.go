package main_test

import (
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// says is what /ready of a node answers; empty where nobody listens.
func (d *instance) says(node int) string {
	client := http.Client{Timeout: time.Second}
	answer, err := client.Get(d.info.Nodes[node].Admin + "/ready")
	if err != nil {
		return ""
	}
	defer answer.Body.Close()
	b, _ := io.ReadAll(answer.Body)
	return string(b)
}

// TestReady: a node that reads its journal, that is alone, and that stops says
// so at /ready, and each time which it is. (TestDrain: taken out of rotation.)
func TestReady(t *testing.T) {
	t.Parallel()
	d := startDev(t, "--nodes", "3")
	saw := func(node int, within time.Duration, words string) {
		t.Helper()
		var last string
		for until := time.Now().Add(within); time.Now().Before(until); time.Sleep(2 * time.Millisecond) {
			if said := d.says(node); said != "" {
				if last = said; strings.Contains(said, words) {
					return
				}
			}
		}
		t.Errorf("%s never said %q; its last words: %q", d.info.Nodes[node].ID, words, last)
	}
	leader := d.leader(t)
	d.signal(t, leader, syscall.SIGKILL)
	saw(leader, 20*time.Second, "not ready: starting")
	d.awaitNodes(t)
	alone := d.leader(t)
	others := []int{d.signal(t, (alone+1)%3, syscall.SIGSTOP), d.signal(t, (alone+2)%3, syscall.SIGSTOP)}
	saw(alone, 20*time.Second, "no leader is known")
	saw(alone, 20*time.Second, "lease is over")
	for _, pid := range others {
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
	d.awaitNodes(t)
	d.signal(t, alone, syscall.SIGTERM)
	saw(alone, 20*time.Second, "not ready: stopping")
	d.awaitNodes(t)
}
