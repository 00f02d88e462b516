package switching_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"authswitch/payment"
)

// TestElsewhere has one line per way of a request whose link may be up at another
// node: routes are a, then b. Handed is the link that another node handed it here
// for.
func TestElsewhere(t *testing.T) {
	down := []wire{{reserve: payment.ErrUnavailable}}
	for _, c := range []struct {
		name      string
		a, b      []wire
		others    string // links that are up at another node
		handed    payment.LinkName
		here      bool
		elsewhere payment.LinkName
		calls     string
		refuse    payment.RefusalKind
	}{
		{"up here: nobody is asked", nil, nil, "a b", "", false, "", "open close", 0},
		{"down here, up there: not the next route", down, nil, "a", "", false, "a", "", 0},
		{"down everywhere: the next route", down, nil, "", "", false, "", "open close", 0},
		{"the next route is up there only", down, down, "b", "", false, "b", "", 0},
		{"full is not down", []wire{{reserve: payment.ErrBusy}}, nil, "a", "", false, "", "open close", 0},
		{"nobody took it: what this node has", down, nil, "a", "", true, "", "open close", 0},
		{"nobody took it, and nothing is here", down, down, "a b", "", true, "", "", payment.RefusedNoRoute},
		{"handed here and up", nil, nil, "a", "a", false, "", "open close", 0},
		{"handed here and down: refused, not handed on", down, nil, "a", "a", false, "a", "", 0},
		{"handed here for a, which is down nowhere else either", down, nil, "", "a", false, "a", "", 0},
		{"handed here for b, a comes first and is down", down, nil, "a", "b", false, "", "open close", 0},
		{"after an attempt it stays", []wire{{err: fmt.Errorf("%w: gone", payment.ErrNotSent)}}, down, "b", "", false, "", "open close", payment.RefusedNoRoute},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, map[payment.LinkName][]wire{"a": c.a, "b": c.b})
			r.Elsewhere = func(l payment.LinkName) bool { return strings.Contains(c.others, string(l)) }
			a := request(t)
			a.Handed, a.Here = c.handed, c.here
			var out payment.Payment
			err := r.Authorize(a, &out)
			var e *payment.Elsewhere
			if errors.As(err, &e) != (c.elsewhere != "") || e != nil && e.Link != c.elsewhere {
				t.Fatalf("%v, want elsewhere %q", err, c.elsewhere)
			}
			if c.elsewhere == "" {
				check(t, r, err, c.refuse)
			}
			if got := strings.Join(r.journal.calls, " "); got != c.calls {
				t.Errorf("commits: %q, want %q", got, c.calls)
			}
			if r.links.held != 0 {
				t.Errorf("%d places are left behind", r.links.held)
			}
		})
	}
}
