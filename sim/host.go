package sim

import (
	"math/rand/v2"
	"sync"
	"time"
)

// host decides. It sees messages, never connections or encodings; all
// connections of a simulator share it.
type host struct {
	config  Config
	profile *profile
	chooser chooser
	now     func() time.Time
	ledger  *ledger

	// mu guards what follows and makes the order of the ledger's lines the
	// order of the decisions. The ledger's own lock is taken inside it.
	mu     sync.Mutex
	book   *book
	script script
	random *rand.Rand
	held   map[requestKey][]byte // answers that wait for their reversal's
	text   []byte                // scratch for a line
}

// maxHeld bounds the answers that wait for a reversal.
const maxHeld = 4096

// ruling is what the host decided about a message and how to say it.
type ruling struct {
	code     string // DE 39 as spelled; "" on silence
	delivery delivery
	approved bool  // an approval: with DE 38 and what goes with it
	amount   int64 // approved, when it is not what was asked; else 0
	number   uint64
	key      requestKey
	latency  time.Duration
	line     uint64 // to be on disk before the answer leaves; 0: none
	after    []byte // a frame to send after the answer
	signOff  bool
	pause    time.Duration
	hangUp   bool // close the connection; nothing was decided
	cvv      byte // what the security code was worth
	chip     chipData
}

// secured is what the security of a request says of it, before the host decides.
type secured struct {
	refusal string // 1987 code, "" for none
	noCode  bool   // the printed security code is another
	chip    chipData
}

// facts are what the host reads of a payment message.
type facts struct {
	amount             int64
	currency, card     []byte
	acquirer, terminal []byte
	stan, when         uint64
	party              uint32
	transmitted, local []byte
	complete           bool // all that a decision needs is there
}

// maxAmount is the largest DE 4.
const maxAmount = 999_999_999_999

func (h *host) read(m *message, f *facts) {
	*f = facts{}
	amount := m.values[4]
	f.currency = m.values[49]
	if len(amount) == 16 {
		// 2003: currency and exponent come first.
		f.currency, amount = amount[:3], amount[4:]
	}
	n, okAmount := number(amount)
	f.amount = int64(min(n, maxAmount))
	f.card = cardOf(m)
	f.acquirer = trimZeros(trimRight(m.values[32]))
	f.terminal = trimRight(m.values[41])
	f.transmitted = m.values[7]
	var okSTAN, okWhen bool
	f.stan, okSTAN = number(m.values[11])
	f.when, okWhen = number(m.values[h.profile.when])
	if h.profile.when != 7 {
		f.local = m.values[h.profile.when]
		if len(f.transmitted) == 0 && len(f.local) >= 10 {
			f.transmitted = f.local[len(f.local)-10:]
		}
	}
	terminal := f.terminal
	if !h.profile.terminal {
		terminal = nil
	}
	f.party = h.book.party(f.acquirer, terminal)
	f.complete = okAmount && okSTAN && okWhen && len(f.card) > 0
}

// cardOf is the card number: DE 2, or what stands before the separator of
// track 2.
func cardOf(m *message) []byte {
	if m.has(2) {
		return m.values[2]
	}
	track := m.values[35]
	for i, c := range track {
		if c < '0' || c > '9' {
			return track[:i]
		}
	}
	return nil
}

// decide rules on a payment message.
func (h *host) decide(m *message, sec *secured) ruling {
	h.mu.Lock()
	defer h.mu.Unlock()
	var f facts
	h.read(m, &f)
	var r ruling
	switch {
	case (m.class() == '4' || m.function() == '2') && sec.refusal != "":
		r = ruling{code: h.spell(sec.refusal)} // believed to be nobody's: nothing is undone, nothing recorded
	case m.class() == '4' && (m.function() == '0' || m.function() == '2'):
		r = h.reverse(m, &f)
	case (m.class() == '1' || m.class() == '2') && m.function() == '0':
		r = h.authorize(m, &f, sec)
	case (m.class() == '1' || m.class() == '2' || m.class() == '3' || m.class() == '5') && (m.function() == '2' || m.function() == '0'):
		r = h.advise(m, &f)
	default:
		// An unknown type gets a format error, never silence.
		r = ruling{code: h.spell("30")}
	}
	r.latency = h.config.Latency.draw(h.random)
	if r.delivery == deliverLate {
		r.latency = h.config.LateAfter
	}
	return r
}

func (h *host) spell(code string) string { return h.profile.spelled[indexOf(code)] }

// write puts a decision into the ledger.
func (h *host) write(m *message, f *facts, amount int64, d decision, code string, original *named) uint64 {
	l := line{
		at: h.now(), mti: m.mti, stan: m.values[11], rrn: trimRight(m.values[37]), transmitted: f.transmitted, local: f.local,
		acquirer: f.acquirer, terminal: f.terminal, amount: amount, currency: f.currency, card: f.card, decision: d, code: code, original: original,
	}
	if m.class() == '3' || m.class() == '5' {
		l.batch = m.values[60]
	}
	h.text = l.appendTo(h.text[:0])
	return h.ledger.append(h.text)
}

// authorize rules on a request.
func (h *host) authorize(m *message, f *facts, sec *secured) ruling {
	cue := h.script.next(onRequest, f.amount)
	r := ruling{signOff: cue.signOff, pause: cue.pause}
	if cue.fault != nil && cue.fault.Fault == faultClose {
		return ruling{hangUp: true}
	}
	if !f.complete {
		r.code = h.spell("30")
		r.line = h.write(m, f, f.amount, declined, r.code, nil)
		return r
	}
	r.key = requestKey{when: f.when, stan: f.stan, party: f.party, mti: mtiNumber(m.mti)}
	r.number = r.key.number()
	if q, ok := h.book.requests[r.key]; ok {
		return h.again(m, f, &q, r)
	}
	b := *h.chooser.of(f.amount)
	if cue.fault != nil {
		b = b.under(cue.fault)
	}
	if !h.profile.coherent(m.values[22], m.values[25]) {
		b = decline("30")
	}
	if sec.refusal != "" {
		b = decline(sec.refusal)
	}
	if sec.noCode {
		b.cvv = 'N'
	}
	if h.book.full() {
		b = decline("96")
	}
	if h.completes(m, f) == completesNothing && b.decision == approved {
		b = decline("25")
	}
	r.chip = sec.chip
	return h.grant(m, f, &b, r)
}

// grant carries a behaviour out.
func (h *host) grant(m *message, f *facts, b *behaviour, r ruling) ruling {
	transmitted, _ := number(f.transmitted)
	q := request{transmitted: uint32(transmitted), decision: b.decision, code: indexOf(b.code)}
	r.delivery, r.cvv = b.delivery, b.cvv
	r.code = h.profile.spelled[q.code]
	what := b.decision
	switch {
	case b.decision == silent:
		r.code = ""
	case b.decision == approved:
		r.approved, q.amount = true, f.amount
		if b.code == "10" {
			q.amount /= 2
			r.amount = q.amount
		}
		if len(m.values[3]) >= 2 && string(m.values[3][:2]) == "20" {
			what = refunded
			q.decision = refunded
		}
		if h.completes(m, f) == completesPayment {
			what, q.decision = captured, captured
		}
		if b.delivery == deliverSecondThoughts {
			h.write(m, f, f.amount, declined, h.spell("05"), nil)
		}
	}
	amount := f.amount
	if r.approved {
		amount = q.amount
	}
	r.line = h.write(m, f, amount, what, r.code, nil)
	if q.decision == approved {
		h.book.grant(r.key, q, m.values[37])
	} else {
		h.book.requests[r.key] = q
	}
	return r
}

// again rules on a request that was decided before, or whose reversal came
// first.
func (h *host) again(m *message, f *facts, q *request, r ruling) ruling {
	switch {
	case q.decision == unknownOriginal:
		r.code = h.spell("12")
		r.line = h.write(m, f, f.amount, declined, r.code, nil)
	case m.repeat() && q.decision == silent:
		r.delivery = deliverNever
	case m.repeat():
		r.code = h.profile.spelled[q.code]
		r.approved = q.decision == approved || q.decision == refunded || q.decision == captured
		if codes87[q.code] == "10" {
			r.amount = q.amount
		}
	default:
		r.code = h.spell("94")
		r.line = h.write(m, f, f.amount, declined, r.code, nil)
	}
	return r
}

// under is a behaviour with a scripted fault laid over it.
func (b behaviour) under(f *Fault) behaviour {
	switch f.Fault {
	case faultAnswer:
		return decline(f.Code)
	case faultLose:
		b.delivery = deliverNever
		return b
	}
	d, _ := deliveryNamed(f.Fault)
	switch d {
	case deliverNever:
		return behaviour{decision: silent, delivery: deliverNever}
	case deliverReject:
		return behaviour{decision: declined, code: "30", delivery: d}
	case deliverSecondThoughts:
		return behaviour{decision: approved, code: "00", delivery: d}
	}
	b.delivery = d
	return b
}

// advise accepts an advice: it was decided elsewhere, and is only recorded.
func (h *host) advise(m *message, f *facts) ruling {
	cue := h.script.next(onAdvice, f.amount)
	r := ruling{code: h.spell("00"), signOff: cue.signOff, pause: cue.pause}
	if cue.fault != nil {
		switch cue.fault.Fault {
		case faultClose:
			return ruling{hangUp: true}
		case faultAnswer:
			r.code = h.spell(cue.fault.Code)
			return r
		case faultLose:
			r.delivery = deliverNever
		default:
			r.delivery, _ = deliveryNamed(cue.fault.Fault)
		}
	}
	if m.class() == '5' {
		return h.reconcile(m, f, r)
	}
	if m.class() == '3' && !m.has(4) {
		return r // of no payment
	}
	k := adviceOf(m, f.party)
	if _, known := h.book.advices[k]; known {
		return r
	}
	if h.book.full() {
		r.code = h.spell("96")
		return r
	}
	what := captured
	switch {
	case len(m.values[3]) >= 2 && string(m.values[3][:2]) == "20":
		what = refunded
	case m.class() == '1':
		what = approved
	}
	var o *named
	if n, ok := h.original(m); ok {
		o = &n
	}
	transmitted, _ := number(f.transmitted)
	h.book.advices[k] = advice{amount: f.amount, transmitted: uint32(transmitted)}
	if m.class() == '3' {
		h.book.upload(uploadOf(m, f, f.currency), what, f.amount)
	}
	r.line = h.write(m, f, f.amount, what, r.code, o)
	return r
}

// number makes the payment's own number, from which its approval code and
// network transaction id come: the same after a restart.
func (k requestKey) number() uint64 {
	n := k.when*0x9E3779B97F4A7C15 ^ k.stan*0xBF58476D1CE4E5B9 ^ uint64(k.party)<<17 ^ uint64(k.mti)
	n ^= n >> 31
	n *= 0x94D049BB133111EB
	return n ^ n>>29
}

// refuse declines a payment on a connection that has not signed on.
func (h *host) refuse(m *message) ruling {
	h.mu.Lock()
	defer h.mu.Unlock()
	var f facts
	h.read(m, &f)
	r := ruling{code: h.spell("58")}
	if m.class() != '4' {
		r.line = h.write(m, &f, f.amount, declined, r.code, nil)
	}
	return r
}

// signOn asks the script what becomes of a sign-on.
func (h *host) signOn() *Fault {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.script.next(onSignOn, 0).fault
}

// onExchange asks the script what becomes of a key exchange.
func (h *host) onExchange() *Fault {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.script.next(onKeyExchange, 0).fault
}

// hold keeps an answer until its reversal was answered. ok is false when there
// is no room.
func (h *host) hold(k requestKey, frame []byte) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.held) >= maxHeld {
		return false
	}
	h.held[k] = append([]byte(nil), frame...)
	return true
}
