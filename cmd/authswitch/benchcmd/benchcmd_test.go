package benchcmd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// server approves everything and journals nothing: enough to see a run's
// record agree with itself and disagree with an empty journal.
func server(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/v1/whoami":
			_, _ = fmt.Fprint(w, `{"gateway":"g","merchants":["parcels"]}`)
		case r.Method == http.MethodPost:
			w.WriteHeader(http.StatusCreated)
			_, _ = fmt.Fprint(w, `{"id":"auth_1","status":"approved","final":true}`)
		default:
			_, _ = fmt.Fprint(w, `{"data":[],"has_more":false}`)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// call runs the command line and gives its output and exit code.
func call(args ...string) (stdout, stderr string, code int) {
	var out, diagnostics bytes.Buffer
	c := Commands()
	c.SetOut(&out)
	c.SetErr(&diagnostics)
	c.SetArgs(args)
	err := c.Execute()
	var exit *ExitError
	switch {
	case errors.As(err, &exit):
		code = exit.Code
		diagnostics.WriteString(err.Error())
	case err != nil:
		code = -1
		diagnostics.WriteString(err.Error())
	}
	return out.String(), diagnostics.String(), code
}

func TestExitCodes(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	for _, c := range []struct {
		line string
		code int
	}{
		{"", 0},
		{"nonsense", 2},
		{"run", 2},
		{"run --api http://127.0.0.1:1", 2},
		{"run --api http://127.0.0.1:1 --key k --rate x", 2},
		{"run --api http://127.0.0.1:1 --key k --rate 0", 2},
		{"run --api http://127.0.0.1:1 --key k --duration -1s", 2},
		{"run --api http://127.0.0.1:1 --key k --mix all", 2},
		{"run --api http://127.0.0.1:1 --key k --amounts 0", 2},
		{"run --api http://127.0.0.1:1 --key k --pids x", 2},
		{"run --api http://127.0.0.1:1 --key @" + missing, 2},
		{"run --api http://127.0.0.1:1 --key k --unknown", 2},
		{"run surplus", 2},
		{"run --api nowhere --key k --merchant m", 1},
		{"run --api http://127.0.0.1:1 --key k --merchant m --answers " + missing + "/x", 1},
		{"ramp", 2},
		{"ramp --api http://127.0.0.1:1 --key k --merchant m --factor 1", 1},
		{"verify", 2},
		{"verify --api http://127.0.0.1:1", 2},
		{"verify --api http://127.0.0.1:1 --key k --answers " + missing, 1},
		{"report", 2},
		{"report " + missing, 1},
		{"compare " + missing, 2},
		{"compare " + missing + " " + missing, 1},
	} {
		if _, stderr, code := call(strings.Fields(c.line)...); code != c.code {
			t.Errorf("bench %s: exit %d, want %d (%s)", c.line, code, c.code, stderr)
		}
	}
}

func TestRunVerifyReportCompare(t *testing.T) {
	api, dir := server(t), t.TempDir()
	answers, out := filepath.Join(dir, "answers"), filepath.Join(dir, "out.json")
	stdout, stderr, code := call("run", "--api", api, "--key", "k", "--rate", "200", "--duration", "200ms", "--answers", answers, "--out", out, "--json")
	if code != 0 {
		t.Fatalf("run: %d %s", code, stderr)
	}
	var result map[string]any
	d := json.NewDecoder(strings.NewReader(stdout))
	if err := d.Decode(&result); err != nil || d.More() {
		t.Fatalf("not one JSON object: %v: %s", err, stdout)
	}
	for _, field := range []string{
		"offered", "sent", "answered", "approved", "declined", "unknown", "errors", "retried", "p50_ms", "p90_ms", "p99_ms", "p999_ms",
		"late_ms", "cpu_us_per_authorization", "valid", "gap_ms", "gap_at_s", "recovered_s", "recovery_ms",
	} {
		if _, there := result[field]; !there {
			t.Errorf("no %s in %s", field, stdout)
		}
	}
	if result["approved"] != 40.0 {
		t.Errorf("approved %v, want 40", result["approved"])
	}

	stdout, _, code = call("verify", "--api", api, "--key", "k", "--answers", answers, "--settle", "1s")
	if code != 1 || strings.Count(stdout, "difference I3") != 40 {
		t.Errorf("verify against an empty journal: exit %d\n%s", code, stdout)
	}
	if stdout, _, code = call("verify", "--api", api, "--key", "k", "--settle", "1s", "--json"); code != 0 || !json.Valid([]byte(stdout)) {
		t.Errorf("verify of nothing: exit %d\n%s", code, stdout)
	}

	page := filepath.Join(dir, "report.html")
	if _, stderr, code = call("report", out, "--html", page); code != 0 {
		t.Errorf("report: %d %s", code, stderr)
	}
	if content, err := os.ReadFile(page); err != nil || !bytes.Contains(content, []byte("<svg")) {
		t.Errorf("report: %v", err)
	}
	if stdout, _, code = call("compare", out, out); code != 0 || !strings.Contains(stdout, "1.00 ×") {
		t.Errorf("compare: %d\n%s", code, stdout)
	}
	stdout, stderr, code = call("ramp", "--api", api, "--key", "k", "--from", "100", "--to", "150", "--duration", "100ms", "--pause", "1ms", "--p99", "1m")
	if code != 0 || !strings.Contains(stdout, "best") && !strings.Contains(stdout, "did not hold") {
		t.Errorf("ramp: %d %s\n%s", code, stderr, stdout)
	}
}
