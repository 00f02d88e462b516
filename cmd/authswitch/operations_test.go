package main_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// operate runs an operator's command against d's node.
func (d *instance) operate(words ...string) (stdout, stderr string, code int) {
	d.t.Helper()
	return run(d.t, append(words, "--admin", d.info.Admin, "--token-file", filepath.Join(d.info.Nodes[0].DataDir, "operator.token"), "--as", "ana")...)
}

// TestOperations is an operator's day: links are drained and signed off while
// others carry the payments, and come back.
func TestOperations(t *testing.T) {
	d := startDev(t)
	node := d.info.Nodes[0].DataDir
	info, err := os.Stat(filepath.Join(node, "operator.token"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("operator.token: %v %v", info, err)
	}

	if out, errs, code := d.operate("link", "drain", "cb-a"); code != 0 || !strings.Contains(out, "drained") {
		t.Fatalf("drain: %d %s%s", code, out, errs)
	}
	if a := d.authorize("around", cbCard, 1000); a.field("link") != "cb-b" || a.field("status") != "approved" {
		t.Errorf("past a drained link: %d %s", a.status, a.body)
	}
	if out, _, code := d.operate("link", "echo", "cb-a"); code != 0 || !strings.Contains(out, "ready") {
		t.Errorf("echo on a drained link: %d %s", code, out)
	}
	if out, errs, code := d.operate("link", "sign-off", "visa-a"); code != 0 || !strings.Contains(out, "down") {
		t.Fatalf("sign-off: %d %s%s", code, out, errs)
	}
	if a := d.authorize("nowhere", visaCard, 1000); a.status != http.StatusServiceUnavailable || a.field("code") != "no_route" {
		t.Errorf("to a link that is signed off: %d %s", a.status, a.body)
	}
	ready, err := http.Get(d.info.Admin + "/ready")
	if err != nil {
		t.Fatal(err)
	}
	ready.Body.Close()
	if ready.StatusCode != http.StatusOK {
		t.Errorf("a link that an operator holds makes the node not ready: %d", ready.StatusCode)
	}
	for _, words := range [][]string{{"link", "sign-on", "visa-a"}, {"link", "enable", "cb-a"}, {"link", "sign-on", "cb-a"}} {
		if out, errs, code := d.operate(words...); code != 0 || !strings.Contains(out, "ready") {
			t.Fatalf("%v: %d %s%s", words, code, out, errs)
		}
	}
	if a := d.authorize("back", visaCard, 1000); a.field("status") != "approved" {
		t.Errorf("after sign-on: %d %s", a.status, a.body)
	}
	if a := d.authorize("back-cb", cbCard, 1000); a.field("link") != "cb-a" {
		t.Errorf("after enable: %d %s", a.status, a.body)
	}

	writeOff(t, d)
	approved := d.authorize("no exception", visaCard, 1000)
	for _, c := range []struct {
		words string
		says  string
		code  int
	}{
		{"link drain nobody", "no link", 1},
		{"transaction write-off " + approved.field("id") + " --reason ticket-7", "owes no exception", 1},
		{"transaction write-off auth_00000000000000000000000000000000 --reason ticket-7", "no payment", 1},
		{"transaction write-off nonsense --reason ticket-7", "no payment", 1},
		{"transaction write-off " + approved.field("id"), "--reason is needed", 2},
	} {
		if _, errs, code := d.operate(strings.Fields(c.words)...); code != c.code || !strings.Contains(errs, c.says) {
			t.Errorf("%s: %d %s", c.words, code, errs)
		}
	}
	if !strings.Contains(d.logs.String(), "operator=ana") {
		t.Error("the log does not say who operated")
	}
}

// writeOff closes by hand what the acquirer answers with a format error: nothing
// is owed any more, and the history says who decided it.
func writeOff(t *testing.T, d *instance) {
	t.Helper()
	if a := d.authorize("exception", visaCard, 1088); a.status != http.StatusGatewayTimeout {
		t.Fatalf("%d %s", a.status, a.body)
	}
	read := func() answer {
		return d.ask(http.MethodGet, "/v1/authorizations?merchant="+d.info.Merchant+"&idempotency_key=exception", "", "")
	}
	eventually(t, 20*time.Second, "the reversal is an exception", func() bool { return strings.Contains(read().body, `"state":"exception","cause"`) })
	all := struct{ Data []struct{ ID string } }{}
	if err := json.Unmarshal([]byte(read().body), &all); err != nil || len(all.Data) != 1 {
		t.Fatalf("%v %s", err, read().body)
	}
	id := all.Data[0].ID
	out, errs, code := d.operate("transaction", "write-off", id, "--reason", "letter of 3 May")
	if code != 0 || !strings.Contains(out, `"state": "written_off"`) {
		t.Fatalf("%d %s%s", code, out, errs)
	}
	events := d.ask(http.MethodGet, "/v1/payments/"+id+"/events", "", "").body
	if !strings.Contains(events, `"write_off":{"operator":"ana","reason":"letter of 3 May"}`) {
		t.Errorf("the history does not say so: %s", events)
	}
	if links := d.ask(http.MethodGet, "/v1/links", "", "").body; strings.Contains(links, `"exceptions":1`) {
		t.Errorf("still an exception: %s", links)
	}
}

// TestOperationsNeedTheToken: the admin port alone is no permission.
func TestOperationsNeedTheToken(t *testing.T) {
	d := startDev(t)
	for _, c := range []struct{ method, path, token, body string }{
		{"POST", "/operate/links/cb-a/drain", "", `{"operator":"x"}`},
		{"POST", "/operate/links/cb-a/drain", d.info.Key, `{"operator":"x"}`},
		{"POST", "/operate/reload", "wrong", `{"operator":"x"}`},
		{"GET", "/operate/links", "", ""},
	} {
		request, err := http.NewRequest(c.method, d.info.Admin+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+c.token)
		a, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(a.Body)
		a.Body.Close()
		if a.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s %s: %d %s", c.method, c.path, a.StatusCode, b)
		}
	}
	if a := d.authorize("still", cbCard, 1000); a.field("link") != "cb-a" {
		t.Errorf("a link was drained without the token: %s", a.body)
	}
	open := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(open, []byte(strings.Repeat("x", 60)), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := run(t, "link", "echo", "cb-a", "--admin", d.info.Admin, "--token-file", open); code != 1 || !strings.Contains(errs, "chmod 600") {
		t.Errorf("a token that others may read: %d %s", code, errs)
	}
}

// TestReload takes a key out of the file: the next request with it is refused,
// on a connection that is open, too. A bad file changes nothing and says why.
func TestReload(t *testing.T) {
	d := startDev(t)
	file := filepath.Join(d.dir, "n1.yaml")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	links := func() int { return d.ask(http.MethodGet, "/v1/links", "", "").status }

	write(strings.Replace(string(good), "gateways:", "gatewayz:", 1))
	if _, errs, code := d.operate("config", "reload"); code != 1 || !strings.Contains(errs, "the old configuration stands") || !strings.Contains(errs, `unknown key "gatewayz"`) {
		t.Errorf("a bad file: %d %s", code, errs)
	}
	if got := links(); got != http.StatusOK {
		t.Fatalf("after a bad file: %d", got)
	}

	// A new key instead of the old one, and a change that must wait.
	const hashes = "key_hashes:"
	at := strings.Index(string(good), hashes)
	line := strings.Index(string(good)[at:], "- ") + at + 2
	write(strings.Replace(string(good)[:line]+strings.Repeat("0", 64)+string(good)[line+64:], "pprof: false", "pprof: true", 1))
	out, errs, code := d.operate("config", "reload")
	if code != 0 || !strings.Contains(out, "gateways") || !strings.Contains(out, "waiting for a restart: admin") {
		t.Fatalf("%d %s%s", code, out, errs)
	}
	if got := links(); got != http.StatusUnauthorized {
		t.Fatalf("with a revoked key: %d", got)
	}

	write(string(good))
	if err := syscall.Kill(d.pid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "SIGHUP takes the file", func() bool { return links() == http.StatusOK })
}

// TestTop looks at a node once, as a script would.
func TestTop(t *testing.T) {
	d := startDev(t)
	d.authorize("one", visaCard, 1000)
	out, errs, code := run(t, "top", "--admin", d.info.Admin, "--times", "1", "--every", "200ms")
	if code != 0 || strings.Contains(out, "\x1b") {
		t.Fatalf("%d %s", code, errs)
	}
	for _, want := range []string{"leading", "LINK", "cb-a", "visa-a", "ready"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}
