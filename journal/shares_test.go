package journal

import (
	"errors"
	"fmt"
	"testing"

	"authswitch/payment"
)

// TestShares has one line per command: who asks for how much of three
// connections, what it gets, and how all stand then, the keeper first.
func TestShares(t *testing.T) {
	b := newBench(t)
	sessions := map[string]payment.Session{}
	for _, c := range []struct {
		do    string // "node want", "node end", "restart"
		count int
		stand string
	}{
		{"n1 1", 1, "n1:1"},
		{"n2 1", 1, "n1:1 n2:1"},
		{"n3 2", 1, "n1:1 n2:1 n3:1"},
		{"n1 3", 1, "n1:1 n2:1 n3:1"},
		{"n1 1", 1, "n1:1 n2:1 n3:1 on"},
		{"n2 1", 1, "n1:1 n2:1 n3:1 on"}, // only the keeper says so
		{"restart", 0, "n1:1 n2:1 n3:1 on"},
		{"n1 end", 0, "n2:1 n3:1 on"},
		{"n3 2", 2, "n2:1 n3:2 on"},
		{"n3 1", 1, "n2:1 n3:1 on"},
		{"n1 1", 1, "n2:1 n3:1 n1:1 on"},
		{"n2 0", 0, "n3:1 n1:1 on"},
		{"n3 0", 0, "n1:1 on"},
		{"n1 0", 0, ""},
		{"n2 3", 3, "n2:3"},
		{"n2 end", 0, ""},
	} {
		var node, what string
		_, _ = fmt.Sscan(c.do, &node, &what)
		switch {
		case node == "restart":
			b.restart()
		case what == "end":
			b.do(KindEndSession, AppendEndSession(nil, sessions[node]))
			ended := sessions[node]
			delete(sessions, node)
			if r := b.do(KindShare, AppendShare(nil, &ShareClaim{Session: ended, Link: "cb-a", Want: 1, All: 3})); !errors.Is(r.Err, payment.ErrUnavailable) {
				t.Errorf("%s: an ended session gets %d, %v", c.do, r.Count, r.Err)
			}
		default:
			if sessions[node] == 0 {
				sessions[node] = b.do(KindSession, AppendSession(nil, payment.NodeID(node))).Session
			}
			var want int
			_, _ = fmt.Sscan(what, &want)
			claim := ShareClaim{Session: sessions[node], Link: "cb-a", Want: want, All: 3, SignedOn: c.stand != "" && c.stand[len(c.stand)-1] == 'n' && node != "n2"}
			if r := b.do(KindShare, AppendShare(nil, &claim)); r.Err != nil || r.Count != c.count {
				t.Errorf("%s: got %d, %v", c.do, r.Count, r.Err)
			}
		}
		if got := standing(b.m.Shares("cb-a"), sessions); got != c.stand {
			t.Errorf("%s: %q, want %q", c.do, got, c.stand)
		}
	}
}

func standing(s payment.Shares, sessions map[string]payment.Session) string {
	text := ""
	for _, h := range s.Held {
		for node, session := range sessions {
			if session == h.Session {
				text += fmt.Sprintf(" %s:%d", node, h.Connections)
			}
		}
	}
	if s.SignedOn {
		text += " on"
	}
	if text == "" {
		return ""
	}
	return text[1:]
}
