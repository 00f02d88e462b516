package main_test

import (
	"io"
	"net/http"
	"path/filepath"
	"strings"
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
