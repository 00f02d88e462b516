package sim

// original reads what DE 90 or DE 56 names. ok is false when there is none or
// it cannot be read.
func (h *host) original(m *message) (n named, ok bool) {
	text := m.values[h.profile.original]
	stanLen, whenLen := 6, 10
	if h.profile.original == 56 {
		whenLen = len(m.values[h.profile.when])
		stanLen = len(m.values[11])
	}
	head := 4 + stanLen + whenLen
	if len(text) < head || stanLen == 0 || whenLen == 0 {
		return named{}, false
	}
	if _, digits := number(text[:4]); !digits {
		return named{}, false
	}
	copy(n.mti[:], text[:4])
	n.stan = text[4 : 4+stanLen]
	when := text[4+stanLen : head]
	rest := text[head:]
	if h.profile.original == 90 {
		n.transmitted = when
		rest = rest[:min(len(rest), 11)]
	} else {
		n.local = when
		n.transmitted = when[max(0, len(when)-10):]
		if length, _ := number(rest[:min(len(rest), 2)]); h.profile.lengthed && len(rest) >= 2 && int(length) == len(rest)-2 {
			rest = rest[2:]
		}
	}
	n.acquirer = trimZeros(trimRight(rest))
	if len(n.acquirer) == 0 {
		n.acquirer = trimZeros(trimRight(m.values[32]))
	}
	return n, true
}

// reverse rules on a reversal. The original is found by what DE 90 (or 56)
// says, DE 32 and DE 41, and by nothing else; undoing twice is undoing once.
func (h *host) reverse(m *message, f *facts) ruling {
	cue := h.script.next(onReversal, f.amount)
	r := ruling{code: h.profile.reversalAccepted, signOff: cue.signOff, pause: cue.pause}
	manner := h.chooser.of(f.amount).reversal
	if cue.fault != nil {
		switch cue.fault.Fault {
		case faultClose:
			return ruling{hangUp: true}
		case faultAnswer:
			r.code = h.spell(cue.fault.Code)
			return r
		case faultForget:
			manner = reversalForgotten
		case faultLose:
			r.delivery = deliverNever
		default:
			r.delivery, _ = deliveryNamed(cue.fault.Fault)
		}
	}
	o, ok := h.original(m)
	if !ok {
		r.code = h.spell("30")
		return r
	}
	if o.mti[2] == '2' {
		return h.undoAdvice(m, f, &o, r)
	}
	k := h.keyOf(m, &o, f)
	r.after = h.held[k]
	delete(h.held, k)
	q, known := h.book.requests[k]
	if known {
		// The ledger names the original as its own line does.
		o.transmitted = appendNumber(nil, uint64(q.transmitted), 10)
	}
	switch {
	case !known || q.decision == unknownOriginal || manner == reversalForgotten:
		return h.notFound(m, f, k, known, &o, r)
	case q.decision == reversed:
		return r
	case manner == reversalFormatError:
		r.code = h.spell("30")
		return r
	case manner == reversalTwice91 && q.tries < 2:
		q.tries++
		h.book.requests[k] = q
		r.code = h.spell("91")
		return r
	case manner == reversalAnswerLost:
		r.delivery = deliverNever
	}
	return h.undo(m, f, k, q, &o, r)
}

// keyOf is the original's key. A partial DE 90 without an acquirer takes the
// reversal's own DE 32.
func (h *host) keyOf(m *message, o *named, f *facts) requestKey {
	terminal := f.terminal
	if !h.profile.terminal {
		terminal = nil
	}
	k := requestKey{party: h.book.party(o.acquirer, terminal), mti: mtiNumber(o.mti)}
	k.stan, _ = number(o.stan)
	when := o.transmitted
	if h.profile.original == 56 {
		when = o.local
	}
	k.when, _ = number(when)
	return k
}

func (h *host) notFound(m *message, f *facts, k requestKey, known bool, o *named, r ruling) ruling {
	r.code = h.spell("25")
	if !known && h.book.remember && !h.book.full() {
		transmitted, _ := number(o.transmitted) // a repeat names it again
		h.book.requests[k] = request{decision: unknownOriginal, transmitted: uint32(transmitted)}
	}
	r.line = h.write(m, f, f.amount, unknownOriginal, r.code, o)
	return r
}

// undo takes an approval back, or, with replacement amounts, a part of it. The
// amount of its line is what was undone.
func (h *host) undo(m *message, f *facts, k requestKey, q request, o *named, r ruling) ruling {
	undone := f.amount
	if q.amount > 0 {
		undone = q.amount
	}
	left, partial := h.replacement(m)
	if partial {
		stan, _ := number(m.values[11])
		this := release{k, stan, left}
		if _, taken := h.book.releases[this]; left >= q.amount || taken {
			return r // it repeats what was done
		}
		h.book.releases[this] = struct{}{}
		undone = q.amount - left
	}
	h.book.lower(k, undone)
	r.line = h.write(m, f, undone, reversed, r.code, o)
	return r
}

// undoAdvice takes a capture or refund back that was advised. It is found by
// its trace number and the payment's reference number: its DE 7 may be that of
// a repeat.
func (h *host) undoAdvice(m *message, f *facts, o *named, r ruling) ruling {
	k := adviceKey{party: h.keyOf(m, o, f).party, mti: mtiNumber(o.mti)}
	copy(k.rrn[:], m.values[37])
	k.stan, _ = number(o.stan)
	a, ok := h.book.advices[k]
	switch {
	case !ok:
		r.code = h.spell("25")
		r.line = h.write(m, f, f.amount, unknownOriginal, r.code, o)
		return r
	case a.undone:
		return r
	}
	undone := a.amount
	o.transmitted = appendNumber(nil, uint64(a.transmitted), 10)
	a.amount, a.undone = 0, true
	h.book.advices[k] = a
	r.line = h.write(m, f, undone, reversed, r.code, o)
	return r
}

// replacement is what the cardholder really owes after a partial reversal: the
// first amount of DE 95, or in 1993 and 2003 DE 4 beside the original amount
// in DE 30.
func (h *host) replacement(m *message) (int64, bool) {
	text := m.values[95]
	if h.profile.original == 56 {
		if !m.has(30) {
			return 0, false
		}
		text = m.values[4]
	}
	if len(text) < 12 {
		return 0, false
	}
	if h.profile.original == 56 {
		text = text[len(text)-12:]
	}
	n, ok := number(text[:12])
	return int64(n), ok && n > 0
}
