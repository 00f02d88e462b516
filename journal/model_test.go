package journal

import (
	"encoding/binary"
	"fmt"
	"slices"

	"authswitch/payment"
)

// model is the journal again, as plain as it can be: Go maps, no encoding, no
// batches, nothing cached. Only the life-cycle table is shared.
type model struct {
	now      payment.Instant
	step     payment.Instant
	last     payment.Session
	nodes    map[payment.NodeID]payment.Session
	payments map[payment.ID]*modelPayment
	days     []uint32
	keys     map[uint32]map[string]modelKey
	owed     map[string]*payment.Owed // by link/seq
	claims   map[string]claim
	seqs     map[payment.LinkName]uint64
	working  []payment.Key // by number, from 1
}

type modelPayment struct {
	intents []payment.Intent
	state   payment.State
	outcome payment.Outcome
	known   bool // the last attempt was approved
	code    payment.ApprovalCode
	lines   int
	minted  payment.Instant
	at      []payment.Instant // when each intent was journalled
}

// shift moves an intent's deadlines from its node's clock to the journal's.
// One that is more than a minute ahead is wrong and counts for a minute.
func (p *modelPayment) shift(n int) payment.Instant {
	switch behind := p.at[n] - p.intents[n].ReceivedAt; {
	case behind < -60e9:
		return behind + 60e9
	default:
		return max(0, behind)
	}
}

func (p *modelPayment) intent() *payment.Intent { return &p.intents[len(p.intents)-1] }

type modelKey struct {
	barred    bool
	cancelled *payment.Cancelled
	asked     string
	id        payment.ID
	print     [32]byte
}

func newModel() *model {
	return &model{
		nodes: map[payment.NodeID]payment.Session{}, payments: map[payment.ID]*modelPayment{}, keys: map[uint32]map[string]modelKey{},
		owed: map[string]*payment.Owed{}, claims: map[string]claim{}, seqs: map[payment.LinkName]uint64{},
	}
}

func (m *model) alive(s payment.Session) bool {
	for _, x := range m.nodes {
		if x == s {
			return true
		}
	}
	return false
}

func (m *model) find(name string) (modelKey, bool) {
	for n := len(m.days) - 1; n >= 0 && n >= len(m.days)-3; n-- {
		if k, ok := m.keys[m.days[n]][name]; ok {
			return k, true
		}
	}
	return modelKey{}, false
}

func (m *model) put(name string, k modelKey) {
	day := uint32(m.now / day)
	if !slices.Contains(m.days, day) {
		m.days = append(m.days, day)
		m.keys[day] = map[string]modelKey{}
	}
	m.keys[day][name] = k
}

func minted(id payment.ID) payment.Instant {
	return payment.Instant(binary.BigEndian.Uint64(id[:])>>16) * 1e6
}

func keyName(m payment.MerchantID, key []byte) string { return fmt.Sprintf("%s/k/%s", m, key) }
func refName(m payment.MerchantID, ref []byte) string { return fmt.Sprintf("%s/r/%s", m, ref) }
func owedName(l payment.LinkName, seq uint64) string  { return fmt.Sprintf("%s/%d", l, seq) }

func (m *model) open(i *payment.Intent) payment.Opened {
	if p := m.payments[i.ID]; p != nil && p.state == payment.StateOpen {
		return payment.Opened{Verdict: payment.OpenAgain, ID: i.ID}
	}
	if m.payments[i.ID] != nil && m.now-m.payments[i.ID].minted >= day {
		return payment.Opened{Verdict: payment.OpenDecided, ID: i.ID}
	}
	if k, ok := m.find(keyName(i.Merchant, i.Key)); ok {
		if k.barred {
			return payment.Opened{Verdict: payment.OpenBarred}
		}
		if k.cancelled != nil {
			return payment.Opened{Verdict: payment.OpenConflict}
		}
		holder := m.payments[k.id]
		switch {
		case k.id == i.ID:
			return payment.Opened{Verdict: payment.OpenDecided, ID: k.id}
		case holder.state == payment.StateNotSent:
			if m.payments[i.ID] != nil {
				return payment.Opened{Verdict: payment.OpenDecided, ID: i.ID}
			}
		case k.print != i.Fingerprint:
			return payment.Opened{Verdict: payment.OpenConflict, ID: k.id}
		case holder.state == payment.StateOpen:
			return payment.Opened{Verdict: payment.OpenRunning, ID: k.id}
		default:
			return payment.Opened{Verdict: payment.OpenDecided, ID: k.id}
		}
	}
	if k, ok := m.find(refName(i.Merchant, i.Reference)); ok && k.barred {
		return payment.Opened{Verdict: payment.OpenBarred}
	}
	if !m.alive(i.Session) {
		return payment.Opened{Verdict: payment.OpenSessionEnded}
	}
	m.payments[i.ID] = &modelPayment{intents: []payment.Intent{*i}, state: payment.StateOpen, lines: 1, minted: minted(i.ID), at: []payment.Instant{m.now}}
	m.put(keyName(i.Merchant, i.Key), modelKey{id: i.ID, print: i.Fingerprint})
	return payment.Opened{Verdict: payment.OpenNew, ID: i.ID}
}

func (m *model) decide(p *modelPayment, o payment.Outcome, to payment.State) {
	o.At = m.now
	p.outcome, p.state = o, to
	p.lines++
	if approves(&o.Response) {
		p.known, p.code = true, o.Response.ApprovalCode
	}
	if to == payment.StateReversing {
		m.owe(p, len(p.intents), o.Reversal, p.known, p.code)
	}
}

func (m *model) owe(p *modelPayment, attempt int, reason payment.ReversalReason, known bool, code payment.ApprovalCode) {
	i := p.intents[attempt-1]
	m.seqs[i.Link]++
	seq := m.seqs[i.Link]
	life := i.LifeOver + p.shift(attempt-1)
	if at := p.at[attempt-1]; at < m.step {
		life += m.step - at
	}
	m.owed[owedName(i.Link, seq)] = &payment.Owed{
		Link: i.Link, Seq: seq, ID: i.ID, Attempt: uint8(attempt), Reason: reason, Since: m.now, Due: m.now,
		Approved: known, ApprovalCode: code, LifeOver: life,
	}
	p.lines++
}

func (m *model) settle(o payment.Outcome) (payment.Settled, error) {
	p := m.payments[o.ID]
	if p == nil {
		return payment.Settled{}, payment.ErrNotFound
	}
	ended := !m.alive(o.Session)
	i := p.intent()
	if p.state == payment.StateOpen && int(o.Attempt) == len(p.intents) && i.Session == o.Session && !ended {
		known := p.known
		to, _ := payment.Step(p.state, o.Event)
		m.decide(p, o, to)
		if known && (to == payment.StateDeclined || to == payment.StateNotSent) { // it answered twice
			p.state = payment.StateReversing
			m.owe(p, len(p.intents), payment.ReversalLate, true, p.code)
		}
	}
	return payment.Settled{Outcome: p.outcome, State: p.state, SessionEnded: ended}, nil
}

func (m *model) next(o payment.Outcome, i payment.Intent) (payment.Settled, error) {
	p := m.payments[i.ID]
	if p == nil {
		return payment.Settled{}, payment.ErrNotFound
	}
	ended := !m.alive(i.Session)
	if p.state == payment.StateOpen && !ended && int(i.Attempt) != len(p.intents) {
		if int(o.Attempt) != len(p.intents) || p.intent().Session != i.Session {
			return payment.Settled{SessionEnded: ended}, ErrInvalid
		}
		if p.known {
			m.owe(p, len(p.intents), payment.ReversalLate, true, p.code)
		}
		p.intents, p.at = append(p.intents, i), append(p.at, m.now)
		p.known, p.code = false, payment.ApprovalCode{}
		p.lines += 2
	}
	return payment.Settled{Outcome: p.outcome, State: p.state, SessionEnded: ended}, nil
}

func (m *model) expire(event payment.Event, cause payment.Cause, match func(*modelPayment) bool) (count int) {
	var ids []payment.ID
	for id, p := range m.payments {
		if p.state == payment.StateOpen && match(p) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b payment.ID) int { return slices.Compare(a[:], b[:]) })
	for _, id := range ids {
		p := m.payments[id]
		i := p.intent()
		m.decide(p, payment.Outcome{
			ID: id, Attempt: uint8(len(p.intents)), Session: i.Session, Event: event, Status: payment.StatusUnknown, Cause: cause,
			Amount: i.Amount, Reversal: payment.ReversalTimeout,
		}, payment.StateReversing)
	}
	return len(ids)
}

func (m *model) session(node payment.NodeID) (payment.Session, int) {
	count := 0
	if earlier, ok := m.nodes[node]; ok {
		count = m.expire(payment.EventSessionEnded, payment.CauseSessionEnded, func(p *modelPayment) bool { return p.intent().Session == earlier })
	}
	m.last++
	m.nodes[node] = m.last
	return m.last, count
}

func (m *model) target(c *payment.Cancellation) *modelPayment {
	if !c.ID.IsZero() {
		if p := m.payments[c.ID]; p != nil && p.intent().Merchant == c.Merchant {
			return p
		}
		return nil
	}
	if len(c.Key) > 0 {
		k, _ := m.find(keyName(c.Merchant, c.Key))
		return m.payments[k.id]
	}
	var newest, best *modelPayment
	var newestID, bestID payment.ID
	for id, p := range m.payments {
		if i := p.intents[0]; i.Merchant != c.Merchant || string(i.Reference) != string(c.Reference) {
			continue
		}
		if newest == nil || slices.Compare(id[:], newestID[:]) > 0 {
			newest, newestID = p, id
		}
		if p.state == payment.StateOpen || p.state == payment.StateApproved {
			if best == nil || slices.Compare(id[:], bestID[:]) > 0 {
				best, bestID = p, id
			}
		}
	}
	if best != nil {
		return best
	}
	return newest
}

func (m *model) cancel(c payment.Cancellation) payment.Cancelled {
	asked := fmt.Sprintf("%x %q %q %d", c.ID, c.Key, c.Reference, c.Reason)
	own := keyName(c.Merchant, c.RequestKey)
	if len(c.RequestKey) > 0 {
		if k, ok := m.find(own); ok {
			free := !k.barred && k.cancelled == nil && m.payments[k.id].state == payment.StateNotSent
			if !free && k.cancelled != nil && k.asked == asked {
				return *k.cancelled
			}
			if !free {
				return payment.Cancelled{Conflict: true}
			}
		}
	}
	var answer payment.Cancelled
	if p := m.target(&c); p != nil {
		i := p.intents[0]
		answer = payment.Cancelled{Found: true, ID: i.ID, Before: p.state}
		switch p.state {
		case payment.StateOpen:
			m.decide(p, payment.Outcome{
				ID: i.ID, Attempt: uint8(len(p.intents)), Session: p.intent().Session, Event: payment.EventCancelled, Status: payment.StatusCancelled,
				Cause: payment.CauseCancelled, Amount: i.Amount, Reversal: c.Reason,
			}, payment.StateReversing)
		case payment.StateApproved:
			p.state = payment.StateReversing
			m.owe(p, len(p.intents), c.Reason, p.known, p.code)
		case payment.StateNotSent:
			k, held := m.find(keyName(c.Merchant, i.Key))
			if !held || !k.barred && k.cancelled == nil && m.payments[k.id].state == payment.StateNotSent {
				m.put(keyName(c.Merchant, i.Key), modelKey{barred: true})
			}
			if len(c.Reference) > 0 {
				m.put(refName(c.Merchant, c.Reference), modelKey{barred: true})
			}
		}
		answer.State = p.state
	} else if len(c.Key) > 0 {
		if _, ok := m.find(keyName(c.Merchant, c.Key)); !ok {
			m.put(keyName(c.Merchant, c.Key), modelKey{barred: true})
		}
	} else if len(c.Reference) > 0 {
		m.put(refName(c.Merchant, c.Reference), modelKey{barred: true})
	}
	if len(c.RequestKey) > 0 {
		m.put(own, modelKey{cancelled: &answer, asked: asked})
	}
	return answer
}

func (m *model) late(l payment.Late) (payment.State, error) {
	p := m.payments[l.ID]
	if p == nil || l.Attempt == 0 || int(l.Attempt) > len(p.intents) {
		return payment.StateNone, payment.ErrNotFound
	}
	p.lines++
	if !approves(&l.Response) {
		return p.state, nil
	}
	current := int(l.Attempt) == len(p.intents)
	if current {
		p.known, p.code = true, l.Response.ApprovalCode
		if p.state == payment.StateOpen || p.state == payment.StateApproved {
			return p.state, nil
		}
		p.state = payment.StateReversing
	}
	for _, o := range m.owed {
		if o.ID == l.ID && o.Attempt == l.Attempt {
			o.Approved, o.ApprovalCode, o.Exception, o.Due = true, l.Response.ApprovalCode, false, m.now
			p.lines++
			return p.state, nil
		}
	}
	m.owe(p, int(l.Attempt), payment.ReversalLate, true, l.Response.ApprovalCode)
	return p.state, nil
}

func (m *model) claim(by claim, link payment.LinkName, seq uint64, stan payment.STAN, t payment.Transmitted) (payment.Owed, error) {
	name := owedName(link, seq)
	o := m.owed[name]
	switch {
	case o == nil:
		return payment.Owed{}, payment.ErrNotFound
	case !m.alive(by.session):
		return payment.Owed{}, payment.ErrUnavailable
	case m.claims[name] == by:
		return *o, nil
	case o.Due > m.now:
		return *o, payment.ErrBusy
	}
	m.claims[name] = by
	if o.STAN == 0 {
		o.STAN = stan
	}
	o.Transmitted, o.Tries = t, o.Tries+1
	wait := payment.Instant(3600e9)
	if !o.Exception {
		wait = 1e9
		for range o.Tries - 1 {
			wait = min(2*wait, 60e9)
		}
	}
	o.Due = m.now + wait
	life := o.LifeOver
	if o.Since < m.step {
		life += max(0, m.step-o.Since)
	}
	if !o.Approved && !o.Exception && m.now < life && life < o.Due {
		o.Due = life
	}
	m.payments[o.ID].lines++
	return *o, nil
}

func (m *model) writeOff(id payment.ID) (count int, state payment.State, err error) {
	p := m.payments[id]
	if p == nil {
		return 0, payment.StateNone, payment.ErrNotFound
	}
	for name, o := range m.owed {
		if o.ID != id || !o.Exception {
			continue
		}
		delete(m.owed, name)
		delete(m.claims, name)
		p.lines++
		count++
		if int(o.Attempt) == len(p.intents) {
			p.state = payment.StateWrittenOff
		}
	}
	return count, p.state, nil
}

func (m *model) acknowledge(link payment.LinkName, seq uint64, code payment.ResponseCode, v payment.AdviceVerdict) (payment.State, error) {
	name := owedName(link, seq)
	o := m.owed[name]
	if o == nil {
		return payment.StateNone, payment.ErrNotFound
	}
	p := m.payments[o.ID]
	o.LastCode = code
	if v == payment.AdviceNotFound {
		switch {
		case o.Approved:
			v = payment.AdviceExceptional
		case m.now < o.LifeOver || o.Exception || o.Since < m.step && m.now-m.step < o.LifeOver-o.Since:
			v = payment.AdviceRepeat
		default:
			v = payment.AdviceAcknowledged
		}
	}
	current := int(o.Attempt) == len(p.intents)
	switch v {
	case payment.AdviceAcknowledged:
		delete(m.owed, name)
		delete(m.claims, name)
		p.lines++
		if current {
			p.state = payment.StateReversed
		}
	case payment.AdviceExceptional:
		o.Exception, o.Due = true, m.now+3600e9
		p.lines++
		if current {
			p.state = payment.StateException
		}
	}
	return p.state, nil
}
