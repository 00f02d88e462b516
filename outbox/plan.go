package outbox

import "authswitch/payment"

// Plan decides which due entries to send now. It has no goroutine, lock, clock
// or I/O: the simulation drives it as it is.
//
// Order is per payment: the next message of a payment leaves only when the
// previous one is acknowledged; across payments entries are free. Both checks
// are map look-ups over what is in flight, at most the window.
type Plan struct {
	window   int
	inFlight map[uint64]payment.ID // by Seq
	busy     map[payment.ID]struct{}
	picked   []payment.Owed
}

// NewPlan has room for window entries in flight.
func NewPlan(window int) *Plan {
	return &Plan{
		window:   window,
		inFlight: make(map[uint64]payment.ID, window),
		busy:     make(map[payment.ID]struct{}, window),
	}
}

// Pick chooses from due, in its order, what may leave now, and counts it as in
// flight until Done. The result is valid until the next Pick.
func (p *Plan) Pick(due []payment.Owed) []payment.Owed {
	p.picked = p.picked[:0]
	for i := range due {
		if len(p.inFlight) == p.window {
			break
		}
		if _, busy := p.busy[due[i].ID]; busy {
			continue
		}
		p.inFlight[due[i].Seq] = due[i].ID
		p.busy[due[i].ID] = struct{}{}
		p.picked = append(p.picked, due[i])
	}
	return p.picked
}

// Free is how many more Pick could choose.
func (p *Plan) Free() int { return p.window - len(p.inFlight) }

// Done ends an entry's flight.
func (p *Plan) Done(seq uint64) {
	id, ok := p.inFlight[seq]
	if !ok {
		return
	}
	delete(p.inFlight, seq)
	delete(p.busy, id)
}
