package main_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestDrain takes the leader of three out of rotation: it is not ready, leads no
// more, closes connections after their answers, still serves, and comes back.
func TestDrain(t *testing.T) {
	d := startDev(t, "--nodes", "3")
	leader := d.leader(t)
	node := d.info.Nodes[leader]
	operate := func(words ...string) (string, string, int) {
		return run(t, append(words, "--admin", node.Admin, "--token-file", filepath.Join(node.DataDir, "operator.token"), "--as", "ana")...)
	}
	if out, errs, code := operate("node", "drain"); code != 0 || !strings.Contains(out, "true") {
		t.Fatalf("drain: %d %s%s", code, out, errs)
	}
	ready, err := http.Get(node.Admin + "/ready")
	if err != nil {
		t.Fatal(err)
	}
	said, _ := io.ReadAll(ready.Body)
	ready.Body.Close()
	if ready.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(said), "taken out of rotation by ana") {
		t.Errorf("a drained node says %d %s", ready.StatusCode, said)
	}
	for until := time.Now().Add(10 * time.Second); d.leader(t) == leader; {
		if time.Now().After(until) {
			t.Fatal("a drained node still leads")
		}
		time.Sleep(50 * time.Millisecond)
	}
	request, err := http.NewRequest(http.MethodGet, node.API+"/v1/links", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+d.info.Key)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK || !answer.Close {
		t.Errorf("a drained node answers %d, closes the connection: %v", answer.StatusCode, answer.Close)
	}
	if out, errs, code := operate("node", "resume"); code != 0 || !strings.Contains(out, "false") {
		t.Fatalf("resume: %d %s%s", code, out, errs)
	}
}

// TestFailureWhileStopping: a journal that cannot go on while the node is out of
// rotation, and still serves, ends the stop at once; whoever waits for the process
// learns that it failed.
func TestFailureWhileStopping(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	b.add(misbehaviour{name: "none"}, "visa")
	b.node = map[string]any{"stop_after": "60s"}
	b.store = map[string]any{"snapshot_threshold": 1, "snapshot_every": "50ms"}
	d := b.start()
	pay := func(key string) answer {
		a, _ := d.tryAsk(http.MethodPost, "/v1/authorizations", key, b.rows[0].body(1000)) // it may stop meanwhile
		return a
	}
	if !wait(15*time.Second, func() bool { return pay("before").field("status") == "approved" }) {
		t.Fatal("no payment is approved")
	}
	began := time.Now()
	signal(t, d.cmd.Process.Pid, syscall.SIGTERM)
	eventually(t, 10*time.Second, "it is out of rotation", func() bool { return strings.Contains(d.logs.String(), "out of rotation before the stop") })
	if a := pay("meanwhile"); a.field("status") != "approved" {
		t.Errorf("out of rotation it does not serve: %d %s", a.status, a.body)
	}
	state := filepath.Join(b.dir, "n1", "state")
	if err := os.Rename(state, state+".gone"); err != nil { // no table can be written any more
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- d.cmd.Wait() }()
	for n := 0; time.Since(began) < 40*time.Second; n++ {
		select {
		case <-ended:
			if code := d.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(d.logs.String(), "stopping at once: a part cannot go on") {
				t.Errorf("exit code %d", code)
			}
			return
		case <-time.After(50 * time.Millisecond):
			pay("after-" + strconv.Itoa(n))
		}
	}
	t.Error("it goes on")
}
