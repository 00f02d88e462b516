package session

import (
	"slices"
	"time"

	"authswitch/payment"
)

// Wrong is how far from the median a node's wall clock may be: one further off
// gives up leadership, because the leader's clock is the journal's.
const Wrong = 2 * time.Second

// Clocks compares the members' wall clocks as the leader hears of them in
// keepalives. The zero value knows none.
type Clocks struct {
	heard map[payment.Session]heardClock
}

type heardClock struct {
	ahead Moment // of the leader's own wall clock
	at    Moment
}

// clocksFor is how long what a node said of its clock counts.
const clocksFor = Moment(5 * time.Second)

// judges is the least number of clocks that can tell which one is wrong.
const judges = 3

// Heard notes how far ahead of the leader's a node's wall clock is.
func (c *Clocks) Heard(now Moment, s payment.Session, ahead Moment) {
	if c.heard == nil {
		c.heard = map[payment.Session]heardClock{}
	}
	c.heard[s] = heardClock{ahead: ahead, at: now}
}

// Agree is how many nodes' clocks are no further than Wrong from a node's, its
// own among them; zero where that is not known.
func (c *Clocks) Agree(now Moment, s payment.Session) (count int) {
	own, known := c.heard[s]
	if !known || now-own.at > clocksFor {
		return 0
	}
	for _, h := range c.heard {
		if now-h.at <= clocksFor && time.Duration(h.ahead-own.ahead).Abs() <= Wrong {
			count++
		}
	}
	return count
}

// Deviation is how far a node's clock is from the median of all; zero while
// fewer than three are known.
func (c *Clocks) Deviation(now Moment, s payment.Session) time.Duration {
	var all []Moment
	for other, h := range c.heard {
		if now-h.at > clocksFor {
			delete(c.heard, other)
			continue
		}
		all = append(all, h.ahead)
	}
	own, known := c.heard[s]
	if !known || len(all) < judges {
		return 0
	}
	slices.Sort(all)
	median := all[len(all)/2]
	if len(all)%2 == 0 {
		median = (all[len(all)/2-1] + median) / 2
	}
	return time.Duration(own.ahead - median)
}
