package link

import (
	"fmt"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"authswitch/iso8583"
	"authswitch/payment"
)

// reportKind is what a report is about.
type reportKind uint8

const (
	reportLate reportKind = iota
	reportUnmatched
	reportUnparsable
	reportAlarm
	reportLost
	reportCutOver
)

// report is something for a person, or for the journal, that must not hold up
// a reader or a lock.
type report struct {
	kind    reportKind
	station int32
	ghost   ghost
	message *iso8583.Message
	line    string
}

// maxReports bounds the queue of reports; what does not fit is counted as
// dropped. A dropped late answer changes no outcome, and its reversal is owed
// already; only an approval after a decline is then left to reconciliation.
const maxReports = 1024

// logEvery and logBurst bound the lines a peer can make us write.
const (
	logEvery = 50 * time.Millisecond
	logBurst = 200
)

// report queues one. Under Link.mu; it never blocks.
func (l *Link) report(r report) {
	select {
	case l.reports <- r:
	default:
		l.core.counters.Dropped++
	}
}

// keepReports hands reports on, one at a time, until all is quiet.
func (l *Link) keepReports(quiet <-chan struct{}) {
	limiter := rate.NewLimiter(rate.Every(logEvery), logBurst)
	for {
		select {
		case r := <-l.reports:
			l.tell(r, limiter)
			continue
		default:
		}
		select {
		case r := <-l.reports:
			l.tell(r, limiter)
		case <-quiet:
			if len(l.reports) == 0 {
				return
			}
		}
	}
}

func (l *Link) tell(r report, limiter *rate.Limiter) {
	if limiter.Allow() {
		l.log(&r)
	}
	switch r.kind {
	case reportLate:
		l.tellLate(&r)
	case reportCutOver:
		if l.deps.CutOver != nil {
			l.deps.CutOver(l.cfg.Name)
		}
	case reportUnmatched:
		if r.message != nil && l.deps.Unmatched != nil {
			l.deps.Unmatched(r.message, r.line)
		}
	}
	if r.message != nil {
		r.message.Wipe()
	}
}

func (l *Link) log(r *report) {
	log := l.deps.Log.With("connection", r.station)
	switch r.kind {
	case reportLate:
		log.Warn("late answer", "payment", r.ghost.id.String(), "attempt", r.ghost.attempt, "stan", r.ghost.key.stan.String(), "answer", r.line)
	case reportUnmatched:
		log.Warn("answer matches nothing", "answer", r.line)
	case reportUnparsable:
		log.Warn("frame cannot be decoded", "error", r.line)
	case reportAlarm:
		log.Error("link trouble", "reason", r.line)
	case reportLost:
		log.Warn("connection lost", "reason", r.line)
	case reportCutOver:
		log.Info("cut-over: the settlement date rolls")
	}
}

// tellLate decodes a late answer for the journal. A late acknowledgement of a
// reversal goes to the outbox, never to the payment: it decides nothing there.
func (l *Link) tellLate(r *report) {
	var response payment.Response
	if r.ghost.key.owed && r.ghost.key.class != iso8583.ClassReversal {
		l.tellLateOperation(r)
		return
	}
	if r.ghost.key.owed {
		if l.deps.LateReversal == nil {
			return
		}
		if err := l.dialect.DecodeReversal(r.message, &response); err != nil {
			l.deps.Log.Warn("late acknowledgement cannot be decoded", "error", err)
			return
		}
		if !stale(&response) {
			l.deps.LateReversal(l.cfg.Name, r.ghost.seq, &response)
		}
		return
	}
	if l.deps.Late == nil {
		return
	}
	if err := l.dialect.DecodeAuthorization(r.message, &response); err != nil {
		l.deps.Log.Warn("late answer cannot be decoded", "error", err)
		return
	}
	l.deps.Late(payment.Late{ID: r.ghost.id, Attempt: r.ghost.attempt, Link: l.cfg.Name, Response: response})
}

// stale says whether a late answer to a reversal decides nothing: an acquirer
// that did not find the original when it was asked may have it since. The repeat
// asks again.
func stale(r *payment.Response) bool { return r.Advice == payment.AdviceNotFound }

// tellLateOperation names the payment: the outbox may not have what was answered
// any more, and an approval must be undone all the same.
func (l *Link) tellLateOperation(r *report) {
	if l.deps.LateOperation == nil {
		return
	}
	a := payment.Acknowledgement{Link: l.cfg.Name, Seq: r.ghost.seq, ID: r.ghost.id}
	if err := l.dialect.DecodeAdvice(r.message, &a.Response); err != nil {
		l.deps.Log.Warn("late answer to an operation cannot be decoded", "error", err)
		return
	}
	a.Verdict = a.Response.Advice
	if r.ghost.second {
		a.Verdict = payment.AdviceUnknown // where it is journalled before the first, neither is believed
	}
	l.deps.LateOperation(&a)
}

// unmatchedLine is the one line about an answer that matches nothing: what it
// carries, the nearest pending key, and which element differs. This is the
// question integrators ask most. Under Link.mu.
func (l *Link) unmatchedLine(e *echoed) string {
	return describe(e) + "; " + l.core.table.explain(e, l.core.rule)
}

// explain says why an answer matches nothing.
func (t *table) explain(e *echoed, r rule) string {
	if t.answered.has(e, r) {
		return "its request was answered already"
	}
	near, element := t.nearest(e, r)
	switch {
	case near == nil:
		return fmt.Sprintf("no pending key is near, %d in flight", t.used)
	case element == deNone:
		return "nearest pending: " + near.describe() + "; its frame has not left"
	case element == deType:
		return "nearest pending: " + near.describe() + "; differs: message type"
	}
	return fmt.Sprintf("nearest pending: %s; differs: DE %d", near.describe(), element)
}

// describe shows what an answer carries of a key, and nothing else of it.
func describe(e *echoed) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s stan=%s", e.mti, e.stan)
	if e.transmitted != 0 {
		fmt.Fprintf(&b, " transmitted=%s", e.transmitted)
	}
	if e.rrn != nil {
		fmt.Fprintf(&b, " rrn=%q", e.rrn)
	}
	if e.terminal != nil {
		fmt.Fprintf(&b, " terminal=%q", e.terminal)
	}
	return b.String()
}

func (k *key) describe() string {
	var b strings.Builder
	fmt.Fprintf(&b, "class %d stan=%s", k.class, k.stan)
	if !k.owed {
		fmt.Fprintf(&b, " transmitted=%s", k.transmitted)
	}
	fmt.Fprintf(&b, " rrn=%q", k.rrn.String())
	if k.terminal != "" {
		fmt.Fprintf(&b, " terminal=%q", k.terminal)
	}
	return b.String()
}
