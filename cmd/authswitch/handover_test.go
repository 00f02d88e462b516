package main_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// at is the instance as one of its nodes shows it.
func (d *instance) at(node int) *instance {
	n := d.info.Nodes[node]
	other := &instance{t: d.t, dir: d.dir, info: d.info}
	other.info.API, other.info.Admin, other.info.Nodes = n.API, n.Admin, d.info.Nodes[node:node+1]
	return other
}

// TestHandover has acquirers that give one connection to all three nodes, one
// sign-on for all: each link is up on one node only, and all three serve. Each
// request is answered once and alike by all; when the node that has a link dies,
// another takes the link, and what was handed to the dead one is settled by its
// repeat.
func TestHandover(t *testing.T) {
	d := startDev(t, "--nodes", "3", "--connections-in-all", "1", "--state-scope", "institution")
	nodes := []*instance{d.at(0), d.at(1), d.at(2)}
	owners := map[string]int{}
	for _, l := range d.info.Links {
		owners[l.Name] = ownerOf(t, nodes, l.Name)
	}
	if len(owners) != len(d.info.Links) {
		t.Fatalf("links are up at %v", owners)
	}
	for i, c := range []struct {
		card   string
		amount int
		status int
		says   string
	}{
		{visaCard, 1000, http.StatusCreated, `"status":"approved"`},
		{mastercardCard, 1051, http.StatusCreated, `"status":"declined"`},
		{cbCard, 2000, http.StatusCreated, `"link":"cb-a"`},
		{amexCard, 3068, http.StatusGatewayTimeout, `"code":"acquirer_timeout"`},
		{"4111111111111112", 1000, http.StatusUnprocessableEntity, `"final":false`},
	} {
		key := fmt.Sprintf("handed-%d", i)
		body := strings.Replace(d.body(c.card, c.amount), "ORDER-42", `ORDER\u002d42`, 1) // reading it changes it
		first := nodes[1].ask(http.MethodPost, "/v1/authorizations", key, body)
		if first.status != c.status || !strings.Contains(first.body, c.says) {
			t.Errorf("%s %d: %d %s", c.card, c.amount, first.status, first.body)
		}
		for n, other := range nodes {
			if again := other.ask(http.MethodPost, "/v1/authorizations", key, body); again.status != first.status || again.body != first.body {
				t.Errorf("node %d answers the repeat with %d %s, the first was %d %s", n+1, again.status, again.body, first.status, first.body)
			}
		}
	}
	if conflict := nodes[2].ask(http.MethodPost, "/v1/authorizations", "handed-0", d.body(visaCard, 1001)); conflict.field("code") != "idempotency_key_reused" {
		t.Errorf("another body under a used key: %d %s", conflict.status, conflict.body)
	}
	handedRefund(t, nodes)
	handedToTheDying(t, d, nodes)
	if s := d.logs.String(); strings.Contains(s, visaCard) || strings.Contains(s, cbCard) {
		t.Error("a card number is in the logs")
	}
}

// handedRefund captures and refunds at a node without the link: what is owed
// leaves from the node that has it.
func handedRefund(t *testing.T, nodes []*instance) {
	t.Helper()
	paid := nodes[2].authorize("to-refund", visaCard, 4000)
	capture := nodes[2].ask(http.MethodPost, "/v1/authorizations/"+paid.field("id")+"/captures", "to-refund-c", "{}")
	if capture.status != http.StatusCreated {
		t.Fatalf("capture: %d %s", capture.status, capture.body)
	}
	refund := nodes[1].ask(http.MethodPost, "/v1/refunds", "to-refund-r", fmt.Sprintf(`{"capture":%q}`, capture.field("id")))
	if refund.status != http.StatusCreated {
		t.Fatalf("refund: %d %s", refund.status, refund.body)
	}
	eventually(t, 20*time.Second, "the refund is done", func() bool {
		return nodes[2].ask(http.MethodGet, "/v1/refunds/"+refund.field("id"), "", "").field("status") == "approved"
	})
}

// ownerOf is the one node that has a link up.
func ownerOf(t *testing.T, nodes []*instance, name string) int {
	t.Helper()
	owner := -1
	eventually(t, 30*time.Second, "one node has "+name, func() bool {
		up := 0
		for n, node := range nodes {
			a, err := node.tryAsk(http.MethodGet, "/v1/links", "", "")
			if err != nil {
				continue
			}
			all, _ := a.fields["data"].([]any)
			for _, l := range all {
				if l, _ := l.(map[string]any); l["name"] == name && l["state"] == "ready" {
					up, owner = up+1, n
				}
			}
		}
		if up > 1 {
			t.Fatalf("%d nodes have %s", up, name)
		}
		return up == 1
	})
	return owner
}

// handedToTheDying kills the node that has the link while the acquirer is silent
// about a request that was handed to it: the gateway is told that the outcome is
// pending, and repeating the key, at whatever node, ends it for good.
func handedToTheDying(t *testing.T, d *instance, nodes []*instance) {
	t.Helper()
	dying := ownerOf(t, nodes, "visa-a")
	other := (dying + 1) % 3
	body := d.body(visaCard, 5068) // silence
	came := make(chan answer, 1)
	go func() {
		a, err := nodes[other].tryAsk(http.MethodPost, "/v1/authorizations", "dying", body)
		if err != nil {
			a.body = err.Error()
		}
		came <- a
	}()
	eventually(t, 10*time.Second, "the acquirer has the request", func() bool {
		return strings.Contains(string(mustRead(t, filepath.Join(d.dir, "visa-a.jsonl"))), `"amount":5068`)
	})
	d.signal(t, dying, syscall.SIGKILL)
	if a := <-came; a.field("code") != "outcome_pending" || a.field("final") != "false" {
		t.Errorf("handed to a node that died: %d %s", a.status, a.body)
	}
	var last answer
	eventually(t, 30*time.Second, "the repeat is final", func() bool {
		var err error
		last, err = nodes[(dying+2)%3].tryAsk(http.MethodPost, "/v1/authorizations", "dying", body)
		return err == nil && last.field("final") == "true"
	})
	if last.field("reversal") != "owed" && last.field("code") != "reversed" {
		t.Errorf("after the death: %d %s", last.status, last.body)
	}
	eventually(t, 30*time.Second, "all links are served again", func() bool {
		a, err := nodes[other].tryAsk(http.MethodPost, "/v1/authorizations", fmt.Sprintf("again-%d", time.Now().UnixNano()), d.body(visaCard, 1000))
		return err == nil && a.status == http.StatusCreated
	})
	d.awaitNodes(t)
	ownerOf(t, nodes, "visa-a")
	stdout, stderr, code := run(t, "bench", "verify", "--api", d.info.API, "--key", d.info.Key, "--settle", "60s")
	if code != 0 {
		t.Errorf("verify: %s%s", tail(stdout, 3000), tail(stderr, 1000))
	}
}
