package main_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
)

// docs/api.md is a conversation with a node that `authswitch dev` runs. A request
// is a block
//
//	```http
//	POST /v1/refunds
//	Idempotency-Key: r-1
//
//	{"capture":"{capture}"}
//	```
//
// and the block after it what is answered: its status, and members that must be
// in it. "…" stands for any value. A comment `<!-- keep capture = id -->` before a
// request keeps a member of its answer for {capture} in later ones. The gateway's
// key is sent where a request names none; $ADMIN_KEY is the administrator's.

// undocumented are the calls of api/openapi.yaml that have no example yet. It
// only gets shorter.
func undocumented() []string { return nil }

// exchange is one example.
type exchange struct {
	line         int
	method, path string
	headers      []string
	body         string
	status       int
	answer       string
	file         bool              // the answer is a file of lines, not JSON
	keep         map[string]string // name → path of a member
}

// readExchanges reads docs/api.md.
func readExchanges(t *testing.T) []exchange {
	t.Helper()
	raw, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	var all []exchange
	keep := map[string]string{}
	lines := strings.Split(string(raw), "\n")
	for n := 0; n < len(lines); n++ {
		if text, ok := strings.CutPrefix(lines[n], "<!-- keep "); ok {
			name, member, _ := strings.Cut(strings.TrimSuffix(text, " -->"), " = ")
			keep[name] = member
		}
		kind, fence := strings.CutPrefix(lines[n], "```")
		if !fence || kind == "" {
			continue
		}
		from := n + 1
		for n++; n < len(lines) && lines[n] != "```"; n++ {
		}
		block := strings.Join(lines[from:n], "\n")
		switch word, rest, _ := strings.Cut(kind, " "); word {
		case "http":
			e := readRequest(block)
			e.line, e.keep, keep = from, keep, map[string]string{}
			all = append(all, e)
		case "json", "csv":
			last := &all[len(all)-1]
			last.file = word == "csv"
			if _, err := fmt.Sscanf(rest, "%d", &last.status); err != nil {
				t.Fatalf("docs/api.md:%d: an answer without status", from)
			}
			last.answer = block
		}
	}
	return all
}

func readRequest(block string) (e exchange) {
	head, body, _ := strings.Cut(block, "\n\n")
	lines := strings.Split(head, "\n")
	e.method, e.path, _ = strings.Cut(lines[0], " ")
	e.headers, e.body = lines[1:], body
	return e
}

// TestAPIDocument runs every example of docs/api.md against a node, holds each
// answer to what the document shows, and wants an example of every call of
// api/openapi.yaml.
func TestAPIDocument(t *testing.T) {
	d := startDev(t)
	spec, router := openAPI(t)
	seen, kept := map[string]bool{}, map[string]string{}
	for _, e := range readExchanges(t) {
		at := fmt.Sprintf("docs/api.md:%d %s %s", e.line, e.method, e.path)
		fill := func(s string) string {
			for name, value := range kept {
				s = strings.ReplaceAll(s, "{"+name+"}", value)
			}
			return strings.NewReplacer("$ADMIN_KEY", d.info.AdminKey, "$KEY", d.info.Key).Replace(s)
		}
		request, err := http.NewRequest(e.method, d.info.API+fill(e.path), strings.NewReader(fill(e.body)))
		if err != nil {
			t.Fatalf("%s: %v", at, err)
		}
		request.Header.Set("Authorization", "Bearer "+d.info.Key)
		if e.body != "" {
			request.Header.Set("Content-Type", "application/json")
		}
		for _, h := range e.headers {
			name, value, _ := strings.Cut(fill(h), ": ")
			request.Header.Set(name, value)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatalf("%s: %v", at, err)
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil {
			t.Fatalf("%s: %v", at, err)
		}
		route, _, err := router.FindRoute(request)
		if err != nil {
			t.Errorf("%s: not in api/openapi.yaml: %v", at, err)
		} else {
			seen[route.Operation.OperationID] = true
		}
		if e.file {
			if !sameLines(e.answer, string(body)) || response.StatusCode != e.status {
				t.Errorf("%s: %d %s", at, response.StatusCode, body)
			}
			continue
		}
		var got, want any
		if err := json.Unmarshal(body, &got); err != nil {
			t.Errorf("%s: %d %q", at, response.StatusCode, body)
			continue
		}
		if err := json.Unmarshal([]byte(fill(e.answer)), &want); err != nil {
			t.Errorf("%s: the documented answer is no JSON: %v", at, err)
			continue
		}
		if why := differs("", want, got); response.StatusCode != e.status || why != "" {
			t.Errorf("%s: wants %d, %s\ngot %d %s", at, e.status, why, response.StatusCode, body)
		}
		for name, member := range e.keep {
			a := answer{}
			_ = json.Unmarshal(body, &a.fields)
			if kept[name] = a.field(strings.Split(member, ".")...); kept[name] == "" {
				t.Fatalf("%s: no %s in %s", at, member, body)
			}
		}
	}
	for _, path := range slices.Sorted(maps.Keys(spec.Paths.Map())) {
		for method, o := range spec.Paths.Value(path).Operations() {
			if !seen[o.OperationID] && !slices.Contains(undocumented(), o.OperationID) {
				t.Errorf("docs/api.md has no example of %s: %s %s", o.OperationID, method, path)
			}
		}
	}
}

// sameLines says whether a file has the documented lines, column by column.
func sameLines(want, got string) bool {
	return slices.EqualFunc(strings.Split(want, "\n"), strings.Split(strings.TrimSuffix(got, "\n"), "\n"), func(w, g string) bool {
		return slices.EqualFunc(strings.Split(w, ","), strings.Split(g, ","), func(w, g string) bool { return w == "…" || w == g })
	})
}

func openAPI(t *testing.T) (*openapi3.T, routers.Router) {
	t.Helper()
	spec, err := openapi3.NewLoader().LoadFromFile("../../api/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	spec.Servers = nil // the router would hold the host to them
	router, err := legacy.NewRouter(spec)
	if err != nil {
		t.Fatal(err)
	}
	return spec, router
}

// differs says where a documented value is not in an answer, "" where it is.
func differs(at string, want, got any) string {
	switch want := want.(type) {
	case string:
		if want == "…" {
			return ""
		}
	case map[string]any:
		have, ok := got.(map[string]any)
		if !ok {
			return at + " is no object"
		}
		for _, name := range slices.Sorted(maps.Keys(want)) {
			value, found := have[name]
			if !found {
				return at + "/" + name + " is missing"
			}
			if why := differs(at+"/"+name, want[name], value); why != "" {
				return why
			}
		}
		return ""
	case []any:
		have, ok := got.([]any)
		if !ok || len(have) < len(want) {
			return at + " is no such list"
		}
		for n := range want {
			if why := differs(fmt.Sprintf("%s/%d", at, n), want[n], have[n]); why != "" {
				return why
			}
		}
		return ""
	}
	if want != got {
		return fmt.Sprintf("%s is %v, and is documented as %v", at, got, want)
	}
	return ""
}
