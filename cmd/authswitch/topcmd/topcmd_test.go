package topcmd

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

const first = `# HELP raft_leader 1 on the leader.
raft_leader 1
raft_applied_index 100
http_requests_total{route="/v1/authorizations",status="201"} 1000
http_requests_total{route="/v1/authorizations",status="503"} 10
raft_commit_seconds_count 50
raft_batch_commands_sum 500
authorizations_total{link="cb-a",scheme="cb",status="approved",response_code="00"} 900
authorizations_total{link="cb-a",scheme="cb",status="unknown",response_code=""} 5
authorization_seconds_bucket{link="cb-a",scheme="cb",le="0.01"} 900
authorization_seconds_bucket{link="cb-a",scheme="cb",le="0.1"} 905
authorization_seconds_bucket{link="cb-a",scheme="cb",le="+Inf"} 905
link_state{link="cb-a",scheme="cb"} 4
link_state{link="visa-a",scheme="visa"} 0
reversals_owed 7
`

const second = `raft_leader 1
raft_applied_index 300
http_requests_total{route="/v1/authorizations",status="201"} 2000
http_requests_total{route="/v1/authorizations",status="503"} 20
raft_commit_seconds_count 150
raft_batch_commands_sum 2500
authorizations_total{link="cb-a",scheme="cb",status="approved",response_code="00"} 1890
authorizations_total{link="cb-a",scheme="cb",status="unknown",response_code=""} 15
authorization_seconds_bucket{link="cb-a",scheme="cb",le="0.01"} 1400
authorization_seconds_bucket{link="cb-a",scheme="cb",le="0.1"} 1905
authorization_seconds_bucket{link="cb-a",scheme="cb",le="+Inf"} 1905
link_state{link="cb-a",scheme="cb"} 4
link_held{link="cb-a",scheme="cb"} 1
link_state{link="visa-a",scheme="visa"} 2
link_in_flight{link="cb-a",scheme="cb"} 42
link_window{link="cb-a",scheme="cb"} 192
reversals_owed 9
reversals_owed_by_link{link="cb-a",scheme="cb"} 9
reversals_oldest_age_seconds{link="cb-a",scheme="cb"} 61.4
`

func between(t *testing.T, a, b string) span {
	t.Helper()
	before, err := readScrape(strings.NewReader(a))
	if err != nil {
		t.Fatal(err)
	}
	now, err := readScrape(strings.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return span{before, now, 2}
}

func TestView(t *testing.T) {
	got := between(t, first, second).view("http://node:8081", time.Date(2026, 11, 26, 7, 8, 9, 0, time.UTC))
	for _, want := range []string{
		"http://node:8081  07:08:09  leading, applied 300",
		"505 requests/s, 5.0 refused/s",
		"50.0 commits/s of 20.0 commands",
		"9 reversals",
		"cb-a", "ready (drained)", "500", "99.0 %", "5.0", "10.0 ms", "98.2 ms", "42", "192", "1m1s",
		"visa-a", "draining",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

// TestRestart: a process that started anew has no negative rates.
func TestRestart(t *testing.T) {
	p := between(t, second, first)
	if got := p.rate("http_requests_total", "status", "201"); got != 500 {
		t.Errorf("%v a second after a restart", got)
	}
	if q := p.quantile(.5, "authorization_seconds"); !math.IsNaN(q) {
		t.Errorf("a quantile of less than nothing: %v", q)
	}
}

func TestBadScrape(t *testing.T) {
	for _, text := range []string{"nonsense", "name value", "<html>\n"} {
		if _, err := readScrape(strings.NewReader(text)); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}

// TestRun reads a server twice and prints plain text: a buffer is no terminal.
func TestRun(t *testing.T) {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		fmt.Fprint(w, map[bool]string{true: first, false: second}[asked == 1])
	}))
	defer server.Close()
	var out bytes.Buffer
	tool := &top{admin: server.URL + "/", every: time.Millisecond, times: 1, out: &out, terminal: isTerminal(&out)}
	if err := tool.run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "cb-a") || strings.Contains(out.String(), "\x1b") {
		t.Errorf("%q", out.String())
	}
	server.Close()
	if err := tool.run(context.Background()); err == nil {
		t.Error("a node that is not there was read")
	}
}
