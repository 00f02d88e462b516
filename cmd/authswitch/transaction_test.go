package main_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A transmission of a reversal has no event: its cell is empty, and the columns
// after it stand where the heading says.
func TestTransactionShow(t *testing.T) {
	door := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := `{"id":"auth_x","status":"declined","amount":{"value":1080,"currency":"EUR"},"state":"reversed"}`
		if strings.HasSuffix(r.URL.Path, "/events") {
			body = `{"data":[{"at":"T1","kind":"reversal_owed","event":"late_approval","state":"reversing","reversal":{"stan":null}},` +
				`{"at":"T2","kind":"reversal_sent","state":"reversing","reversal":{"stan":"000099","response_code":null}}],"has_more":false,"next":null}`
		}
		_, _ = w.Write([]byte(body))
	}))
	defer door.Close()
	out, errs, code := run(t, "transaction", "show", "auth_x", "--key", "k", "--api", door.URL)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != 0 || len(lines) < 3 {
		t.Fatalf("exit %d\n%s%s", code, out, errs)
	}
	heading, owed, sent := lines[len(lines)-3], lines[len(lines)-2], lines[len(lines)-1]
	event, state := strings.Index(heading, "EVENT"), strings.Index(heading, "STATE")
	if event < 0 || state < event || !strings.HasPrefix(owed[event:], "late_approval") {
		t.Fatalf("events:\n%s", out)
	}
	if strings.TrimSpace(sent[event:state]) != "" || !strings.HasPrefix(sent[state:], "reversing") || !strings.HasSuffix(strings.TrimSpace(sent), "000099") {
		t.Errorf("a transmission is shown as\n%s\n%s", heading, sent)
	}
}
