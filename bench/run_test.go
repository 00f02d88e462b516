package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func options(s *stub) Options {
	return Options{
		API: []string{s.url}, Key: "secret", Rate: 400, Duration: 500 * time.Millisecond,
		Now: clock, Random: strings.NewReader("bench-run-entropy"), Dial: (&net.Dialer{}).DialContext,
	}
}

func TestRunCountsEveryOutcome(t *testing.T) {
	s := newStub(t)
	o := options(s)
	o.Mix = Mix{Declined: 20, Silent: 10}
	name := filepath.Join(t.TempDir(), "answers")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	o.Answers = f
	var progress bytes.Buffer
	o.Progress = &progress
	got, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if got.Offered != 200 || got.Sent != 200 || got.Answered != 200 {
		t.Errorf("offered %d, sent %d, answered %d, want 200 each", got.Offered, got.Sent, got.Answered)
	}
	var approved, declined, silent int64
	for _, r := range s.journal {
		switch r["status"] {
		case "approved":
			approved++
		case "declined":
			declined++
		default:
			silent++
		}
	}
	if got.Approved != approved || got.Declined != declined || got.Unknown != silent || got.Errors["acquirer_timeout"] != silent {
		t.Errorf("got %d approved, %d declined, %d unknown (%v); the stub says %d, %d, %d",
			got.Approved, got.Declined, got.Unknown, got.Errors, approved, declined, silent)
	}
	if declined == 0 || silent == 0 {
		t.Errorf("the mix had no effect: %d declined, %d silent", declined, silent)
	}
	if got.P50 <= 0 || got.P999 < got.P50 || got.CPU <= 0 {
		t.Errorf("latencies %v %v, CPU %v", got.P50, got.P999, got.CPU)
	}
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(content), []byte("\n"))
	if len(lines) != 200 {
		t.Fatalf("%d answers, want 200", len(lines))
	}
	for _, l := range lines {
		var a answerLine
		if err := json.Unmarshal(l, &a); err != nil || a.Key == "" || len(a.Body) != 64 || a.Merchant != "parcels" || !a.Final {
			t.Fatalf("answer %s: %v", l, err)
		}
	}
	if bytes.Contains(content, []byte("4970100000000154")) {
		t.Error("the answers hold a card number")
	}
}

func TestRunAsksAgainWithTheSameKey(t *testing.T) {
	s := newStub(t)
	s.refuse = func(n int) (int, string) {
		switch {
		case n%10 == 0:
			return 503, `{"code":"outcome_pending","final":false}`
		case n%10 == 3:
			return 409, `{"code":"in_progress","final":false}`
		case n%10 == 6:
			return 503, `{"code":"overloaded","final":false}`
		}
		return 0, ""
	}
	got, err := Run(context.Background(), options(s))
	if err != nil {
		t.Fatal(err)
	}
	if got.Approved != 200 || len(s.journal) != 200 {
		t.Errorf("approved %d, payments %d, want 200 each", got.Approved, len(s.journal))
	}
	for _, kind := range []string{"outcome_pending", "in_progress", "overloaded"} {
		if got.Errors[kind] == 0 {
			t.Errorf("%s not counted: %v", kind, got.Errors)
		}
	}
	if got.Retried != int64(s.asked)-200 {
		t.Errorf("retried %d, want %d", got.Retried, s.asked-200)
	}
}

// TestRunImpatient: what is refused goes away, and is not counted as unknown.
func TestRunImpatient(t *testing.T) {
	s := newStub(t)
	s.refuse = func(n int) (int, string) {
		if n%4 == 0 {
			return 503, `{"code":"overloaded","final":false}`
		}
		return 0, ""
	}
	o := options(s)
	o.Impatient = true
	got, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if got.Refused != 50 || got.Approved != 150 || got.Retried != 0 || got.Unknown != 0 || got.Errors["overloaded"] != 50 {
		t.Errorf("refused %d, approved %d, retried %d, unknown %d, errors %v", got.Refused, got.Approved, got.Retried, got.Unknown, got.Errors)
	}
	if got.Goodput <= 0 || got.Goodput > 300 || got.AdmittedP99 <= 0 || got.AdmittedP99 > got.P999 {
		t.Errorf("goodput %v/s, p99 of what was taken %v ms", got.Goodput, got.AdmittedP99)
	}
}

func TestRunGoesOnWhileANodeIsAway(t *testing.T) {
	s := newStub(t)
	away, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := "http://" + away.Addr().String()
	if err := away.Close(); err != nil { // nobody listens there now
		t.Fatal(err)
	}
	o := options(s)
	o.API = []string{s.url, address}
	got, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if got.Approved != 200 || got.Errors[kindRefused] != 100 || got.Retried != 100 {
		t.Errorf("approved %d, refused %d, retried %d, want 200, 100, 100", got.Approved, got.Errors[kindRefused], got.Retried)
	}
}

func TestRunNamesWhatWasNeverAnswered(t *testing.T) {
	s := newStub(t)
	s.refuse = func(int) (int, string) { return 503, `{"code":"outcome_pending","final":false}` }
	o := options(s)
	o.Rate, o.Duration, o.Drain = 100, 100*time.Millisecond, 200*time.Millisecond
	name := filepath.Join(t.TempDir(), "answers")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	o.Answers = f
	got, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if got.Valid || got.Unknown != 10 || got.Errors[outcomeUnanswered] != 10 || got.Answered != 0 {
		t.Errorf("%+v", got.Result)
	}
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(content, []byte(`"outcome":"unanswered"`)); n != 10 {
		t.Errorf("%d unanswered lines, want 10", n)
	}
}
