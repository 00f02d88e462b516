package main

import (
	"testing"

	"authswitch/payment"
)

// TestWantedShare has one line per case: what a node has, what there is in all, and
// how many connections it should have.
func TestWantedShare(t *testing.T) {
	three, two := []payment.NodeID{"n1", "n2", "n3"}, []payment.NodeID{"n1", "n3"}
	for _, c := range []struct {
		nodes           []payment.NodeID
		own             payment.NodeID
		mine, all, most int
		want            int
	}{
		{three, "n1", 0, 3, 4, 1},
		{three, "n3", 0, 6, 4, 2},
		{three, "n2", 4, 6, 4, 2}, // gives back what is over its share
		{three, "n2", 0, 9, 2, 2}, // no more than a node may have
		{two, "n1", 1, 4, 4, 2},
		{two, "n2", 1, 4, 4, 0}, // it has no session
		{nil, "n1", 0, 4, 4, 0},
	} {
		if got := wantedShare(c.nodes, c.own, "cb-a", c.mine, c.all, c.most); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
	for all := range 7 {
		for _, name := range []payment.LinkName{"cb-a", "cb-b", "visa-a", "amex-a"} {
			sum, kept := 0, 0
			for _, node := range three {
				sum += wantedShare(three, node, name, 0, all, 10)
				kept += min(wantedShare(three, node, name, 1, 1, 10), 1)
			}
			if sum != all {
				t.Errorf("%d connections of %s: %d are wanted", all, name, sum)
			}
			if kept != 3 {
				t.Errorf("%s: a node gives its only connection away", name)
			}
		}
	}
}
