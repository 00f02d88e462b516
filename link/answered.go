package link

import (
	"authswitch/iso8583"
	"authswitch/payment"
)

// lastAnswered bounds how many answered requests are remembered: a power of
// two, some tenths of a second of a busy link.
const lastAnswered = 4096

// answeredRequest is what is remembered of a request that had its answer.
type answeredRequest struct {
	key     key
	id      payment.ID
	attempt uint8
	seq     uint64               // of what is owed
	told    bool                 // its second answer was handed on already
	code    payment.ResponseCode // DE 39 of its answer
}

// answered remembers the newest requests that had their answer: an acquirer
// that declines and then approves holds money that nobody would ask back. The
// place of a request is given by its trace number. They are handed out in
// order, so that what a new one displaces is the oldest, and neither keeping
// nor finding one takes a search or memory.
type answered struct{ requests []answeredRequest }

func newAnswered() answered { return answered{requests: make([]answeredRequest, lastAnswered)} }

func (a *answered) at(stan payment.STAN) *answeredRequest {
	return &a.requests[int(stan)&(lastAnswered-1)]
}

// note remembers a request that had its answer. A reversal that shares its
// original's trace number leaves the original in place.
func (a *answered) note(p *place, code payment.ResponseCode) {
	r := a.at(p.key.stan)
	if p.key.owed && !r.key.owed && r.key.stan == p.key.stan {
		return
	}
	*r = answeredRequest{key: p.key, id: p.id, attempt: p.attempt, seq: p.seq, code: code}
}

// second finds the request of which e is the second answer, once, and only
// where it says otherwise than the first: a mere copy tells nothing new, and a
// peer that sends each answer twice must not fill the journal. An online refund
// that is declined and then approved has paid; what is stored and forwarded is
// over with its answer. DE 11 alone is never enough, whatever the dialect's
// answers echo.
func (a *answered) second(e *echoed, r rule) (ghost, bool) {
	q := a.at(e.stan)
	more := r.transmitted || r.acquirer || e.rrn != nil || e.terminal != nil
	if e.stan == 0 || !more || q.told || q.key.owed && !online(e) || q.code == e.code || q.key.differs(e, r) != deNone {
		return ghost{}, false
	}
	q.told = true
	return ghost{key: q.key, id: q.id, attempt: q.attempt, seq: q.seq, second: true}, true
}

// online says whether an answer is to a request for money.
func online(e *echoed) bool {
	return e.mti.Class() != iso8583.ClassReversal && e.mti.Function() == iso8583.FunctionResponse
}

// has says whether an answer is a further one of its request.
func (a *answered) has(e *echoed, r rule) bool {
	k := &a.at(e.stan).key
	return e.stan != 0 && k.stan == e.stan && (k.transmitted == e.transmitted || e.transmitted == 0 || !r.transmitted)
}
