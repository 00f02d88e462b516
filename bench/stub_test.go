package bench

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// stub is a switch of a page, written from the API's description: it decides by
// the amount, remembers keys, keeps a journal and the acquirer's ledger.
type stub struct {
	mu      sync.Mutex
	url     string
	ledger  string
	answers map[string]stubAnswer
	lines   []string // of the ledger
	journal []map[string]any
	refuse  func(n int) (status int, body string) // 0: answer as usual
	asked   int
	owed    int
}

type stubAnswer struct {
	status int
	body   []byte
}

func newStub(t *testing.T) *stub {
	t.Helper()
	s := &stub{answers: map[string]stubAnswer{}, ledger: filepath.Join(t.TempDir(), "cb-a.jsonl")}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/whoami", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, `{"gateway":"dev","merchants":["parcels"]}`)
	})
	mux.HandleFunc("GET /v1/links", s.links)
	mux.HandleFunc("GET /v1/authorizations", s.list)
	mux.HandleFunc("POST /v1/authorizations", s.authorize)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

func (s *stub) links(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = json.NewEncoder(w).Encode(map[string]any{"data": []any{map[string]any{"name": "cb-a", "ledger": s.ledger, "reversals_owed": s.owed}}})
}

// list pages by position, as small pages as the caller's limit allows.
func (s *stub) list(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	from, _ := strconv.Atoi(r.URL.Query().Get("cursor"))
	limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
	to := min(from+min(limit, 7), len(s.journal))
	page := map[string]any{"data": s.journal[from:to], "has_more": to < len(s.journal)}
	if to < len(s.journal) {
		page["next"] = strconv.Itoa(to)
	}
	_ = json.NewEncoder(w).Encode(page)
}

func (s *stub) authorize(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Merchant string
		Amount   struct{ Value int64 }
	}
	if r.Header.Get("Authorization") != "Bearer secret" || json.NewDecoder(r.Body).Decode(&in) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	key := r.Header.Get("Idempotency-Key")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if s.refuse != nil {
		if status, body := s.refuse(s.asked); status != 0 {
			w.WriteHeader(status)
			_, _ = fmt.Fprint(w, body)
			return
		}
	}
	a, known := s.answers[key]
	if !known {
		a = s.decide(key, in.Merchant, in.Amount.Value)
		s.answers[key] = a
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body)
}

// decide does what switch and acquirer would do together.
func (s *stub) decide(key, merchant string, amount int64) stubAnswer {
	n := len(s.journal) + 1
	stan, rrn, at := fmt.Sprintf("%06d", n), fmt.Sprintf("6327%08d", n), "1123040506"
	line := func(mti, stan, decision, code, original string) {
		s.lines = append(s.lines, fmt.Sprintf(`{"at":"2026-11-23T04:05:06Z","mti":"%s","stan":"%s","rrn":"%s","transmitted":"%s","amount":%d,"currency":"978","card":"497010******0154","decision":"%s","response_code":"%s"%s}`,
			mti, stan, rrn, at, amount, decision, code, original))
	}
	status, state, code, result, http := "approved", "approved", "00", "approved", 201
	switch amount % 100 {
	case 51:
		status, state, code, result = "declined", "declined", "51", "declined"
		line("0100", stan, "declined", "51", "")
	case 68:
		status, state, code, result, http = "acquirer_timeout", "reversed", "", "unknown", 504
		line("0100", stan, "silent", "", "")
		line("0420", "9"+stan[1:], "reversed", "00", fmt.Sprintf(`,"original":{"mti":"0100","stan":"%s","transmitted":"%s","acquirer":"1"}`, stan, at))
	default:
		line("0100", stan, "approved", "00", "")
	}
	id := fmt.Sprintf("auth_%d", n)
	record := map[string]any{
		"id": id, "status": status, "state": state, "link": "cb-a", "rrn": rrn, "stan": stan,
		"amount": map[string]any{"value": amount, "currency": "EUR"}, "response_code": code, "idempotency_key": key, "reference": key,
		"attempts": []any{map[string]any{"link": "cb-a", "stan": stan, "rrn": rrn, "transmitted": at, "mti": "0100", "result": result}},
	}
	s.journal = append(s.journal, record)
	body := fmt.Sprintf(`{"id":"%s","status":"%s","rrn":"%s","stan":"%s","link":"cb-a","final":true}`, id, status, rrn, stan)
	if http == 504 {
		body = fmt.Sprintf(`{"type":"about:blank","code":"acquirer_timeout","id":"%s","reversal":"owed","final":true}`, id)
	}
	return stubAnswer{http, []byte(body)}
}

// writeLedger puts the ledger on disk.
func (s *stub) writeLedger(t *testing.T, name string, lines []string) {
	t.Helper()
	var content []byte
	for _, l := range lines {
		content = append(append(content, l...), '\n')
	}
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// clock is the real one: what is under test here is sockets and their time.
func clock() time.Time { return time.Now() }
