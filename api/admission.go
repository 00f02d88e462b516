package api

import (
	"sync/atomic"
	"time"

	"authswitch/payment"
)

// admission decides at the door who is let in, by the age of what waits inside
// and not by how much of it there is: a long queue that moves answers everybody
// in time, and a short one on a disk that stands still answers nobody. Nothing
// of a request that is refused here is read, sealed, numbered or durable; its
// key may be used again.
//
// It is CoDel's rule ("controlled delay"), as servers with deadlines use it: a
// burst may make the queue old for an interval; one that has been older than
// the target for all of it is standing, only adds to everybody's wait, and is
// held below the target by turning new requests away until none had to be for
// an interval. Of those that come between half the target and the target the
// more are refused the older the queue is: an age is known only when whoever
// has it leaves, and to let all in below a line and none above it would swing
// by as much again. Who gives way first has the lower target and the shorter
// interval. CoDel itself drops at the queue's head; what waits in ours has been
// promised an answer, so the tail is turned away. A limit on the number in work
// stands behind it, for when nobody knows the age.
//
// It has no clock and takes no lock: three atomic loads at most on the path of
// a request that is let in.
type admission struct {
	target   time.Duration // of those who wait: of customers
	interval time.Duration
	budget   time.Duration
	requests int // in work

	// late is since when the queue was seen older than each priority's target, 0
	// while it is not; refused is when one was last turned away for that.
	late, refused [payment.Priorities]atomic.Int64
	drawn         atomic.Uint32 // turns for who is refused
}

// refusalReason says why a request is turned away.
type refusalReason uint8

const (
	admitted       refusalReason = iota
	refusedFull                  // too many are in work
	refusedOld                   // what waits has waited too long
	refusedTooLate               // it would be over its gateway's budget before it is answered
	refusalReasons
)

var refusalReasonNames = [refusalReasons]string{"", "requests", "queue_age", "budget"}

func newAdmission(cfg *Config) *admission {
	return &admission{target: cfg.QueueTarget, interval: cfg.QueueInterval, budget: cfg.Budget, requests: cfg.Requests}
}

// commits of an authorization, each of which waits as long as the queue is old.
const commits = 2

// decide says whether a request is let in that finds so many in work, itself
// included, and this age of what it would wait for.
func (a *admission) decide(p payment.Priority, now payment.Instant, inWork int, age time.Duration) refusalReason {
	if inWork > p.Share(a.requests) {
		return refusedFull
	}
	if commits*age >= a.budget {
		return refusedTooLate
	}
	if p != payment.PriorityReversal && a.old(p, now, age) {
		a.refused[p].Store(int64(now))
		return refusedOld
	}
	return admitted
}

// crowd is the part of what may be in work from which on requests can be what the
// processors are short for. Where fewer are, somebody else has them, and to turn
// requests away would help nobody.
const crowd = 16

func (a *admission) crowded(inWork int) bool { return inWork > a.requests/crowd }

// commitWaits is how often what is to be committed waits for a processor on its
// way: the batcher, Raft, its log, the state, who waits for it.
const commitWaits = 5

// ofProcessors is the age that a wait for a processor amounts to. It is a look at
// some milliseconds, not at one that has waited so long: it must be seen for all
// of an interval.
func (a *admission) ofProcessors(wait time.Duration) time.Duration {
	return min(commitWaits*wait, a.target+a.interval/8)
}

// old says whether a request is to be turned away for the age of what it would
// wait for. A reversal never is: it frees what others wait for, and its gateway
// would only send it again.
func (a *admission) old(p payment.Priority, now payment.Instant, age time.Duration) bool {
	target, interval := a.limits(p)
	late, refused := a.late[p].Load(), a.refused[p].Load()
	if age <= target && late != 0 {
		a.late[p].Store(0)
	}
	if age <= target/2 {
		return false
	}
	if refused == 0 || time.Duration(int64(now)-refused) >= interval {
		if age <= target {
			return false
		}
		if late == 0 {
			a.late[p].CompareAndSwap(0, int64(now))
			late = int64(now)
		}
		// What is older than target and interval together was too old for as long,
		// whoever saw it.
		return time.Duration(int64(now)-late) >= interval || age-target >= interval
	}
	return age > target || a.draw() < float64(age-target/2)/float64(target-target/2)
}

// limits are a priority's target and interval: for merchants three quarters and
// a quarter of customers', for batches half and an eighth.
func (a *admission) limits(p payment.Priority) (target, interval time.Duration) {
	switch p {
	case payment.PriorityMerchant:
		return a.target * 3 / 4, a.interval / 4
	case payment.PriorityBatch:
		return a.target / 2, a.interval / 8
	}
	return a.target, a.interval
}

// draw is the next of numbers from 0 to 1 that lie evenly wherever one stops
// (the multiples of the golden ratio).
func (a *admission) draw() float64 { return float64(a.drawn.Add(2654435769)) / (1 << 32) }

// comeBack is when a refused request should be asked again: those that nobody
// waits for last.
func comeBack(p payment.Priority) time.Duration {
	switch p {
	case payment.PriorityMerchant:
		return 2 * time.Second
	case payment.PriorityBatch:
		return 5 * time.Second
	}
	return time.Second
}

// asks is the priority of a request by its route, and whether it waits for the
// journal at all: reads do not, and are only counted. An authorization's may
// turn out to be lower when its body is read.
func (r *request) asks(post bool) (p payment.Priority, waits bool) {
	if !post {
		return payment.PriorityReversal, false
	}
	switch r.route {
	case routeAuthorizations, routeVerifications:
		return payment.PriorityCustomer, true
	case routeCaptures, routeIncrements, routeRefunds, routeCorrections, routePaymentLinks:
		return payment.PriorityMerchant, true
	case routeRefundsByTag, routeBatches:
		return payment.PriorityBatch, true
	}
	return payment.PriorityReversal, true
}

// admit turns a request away that there is no room for.
func (r *request) admit(p payment.Priority, waits bool) bool {
	s := r.server
	var age time.Duration
	if waits && s.deps.QueueAge != nil {
		age = s.deps.QueueAge(p)
	}
	inWork := int(s.inWork.Load())
	if waits && s.deps.Starved != nil && s.admission.crowded(inWork) {
		age = max(age, s.admission.ofProcessors(s.deps.Starved()))
	}
	reason := s.admission.decide(p, r.came, inWork, age)
	if reason == admitted {
		return true
	}
	s.metrics.refused[reason][p].Inc()
	refusal := overloaded("too much waits here already; this request was not taken and nothing was sent")
	if reason == refusedFull {
		refusal.detail = "too many requests are in work; nothing was sent"
	}
	refusal.retryAfter = comeBack(p)
	r.problem(refusal)
	return false
}
