package simulation_test

import (
	"fmt"
	"strconv"
)

// An acquirer's own books: what it was asked to hold, capture and refund of each
// payment, which it knows by DE 37.

type holdKind uint8

const (
	holdAuthorization holdKind = iota
	holdSale                   // authorized and captured by one message
	holdIncrement
	holdCapture
	holdRefund
	holdRelease // value is what is still held after it
)

// account is one payment at an acquirer.
type account struct {
	base  *hold
	moves []*hold // in the order in which they came
}

func (d *hold) live() bool { return d.approved && !d.reversed }

// other notes that an acquirer did something for another amount, which its
// answer says.
func (d *hold) other(r *message) {
	d.value, d.odd = amountOf(r.fields[4]), true
}

func amountOf(digits string) int64 {
	v, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return -1
	}
	return v
}

// enter opens the entry of a message.
func (h *host) enter(key original, m *message) *hold {
	d := &hold{rrn: m.fields[37], stan: m.fields[11], terminal: m.fields[41], value: amountOf(m.fields[4]), line: m.mti[1] == '3'}
	a := h.accounts[d.rrn]
	switch {
	case m.fields[3][:2] == "20":
		d.kind = holdRefund
	case m.mti == "0220" || m.mti == "0221" || d.line || m.fields[90] != "":
		d.kind = holdCapture
	case a != nil && a.base != nil && a.base.live():
		d.kind = holdIncrement
	case m.mti == "0200":
		d.kind = holdSale
	}
	if a == nil {
		a = &account{}
		h.accounts[d.rrn] = a
	}
	if d.kind == holdAuthorization || d.kind == holdSale {
		a.base = d
	} else {
		a.moves = append(a.moves, d)
	}
	h.book[key] = d
	h.order = append(h.order, d)
	return d
}

// advise takes one transmission of a capture or refund that may not be declined.
func (h *host) advise(s *socket, m *message) {
	w := h.w
	known := h.advices[m.fields[11]+m.fields[37]]
	code := "00"
	if known != nil && m.mti[3] == '1' && w.r.IntN(2) == 0 {
		code = "94"
	}
	h.perhaps(w.plan.adviceMischief, s, m, code, func() {
		key := original{mti: m.mti[:3] + "0", stan: m.fields[11], at: m.fields[7], terminal: m.fields[41]}
		if known != nil {
			h.book[key] = known // named by either transmission
			return
		}
		d := h.enter(key, m)
		d.approved = true
		h.advices[m.fields[11]+m.fields[37]] = d
		if batch := m.fields[60]; d.line {
			if h.totalled[agreement{linkName(h.index), batch, d.terminal}] {
				w.check.fail("U", "%s gets a line of batch %s after its totals, rrn %s", linkName(h.index), batch, d.rrn)
			}
			h.uploads[batch] = append(h.uploads[batch], d)
		}
		h.moved(d)
	})
}

// release takes a partial reversal: DE 95 says what is still held.
func (h *host) release(m *message, base *hold) {
	name := m.fields[11] + m.fields[37]
	if base == nil || h.advices[name] != nil {
		return
	}
	d := &hold{kind: holdRelease, rrn: base.rrn, stan: m.fields[11], value: amountOf(m.fields[95][:12]), approved: true}
	h.advices[name] = d
	h.order = append(h.order, d)
	a := h.accounts[d.rrn]
	if rest := a.held() - amountOf(m.fields[95][:12]); rest <= 0 {
		h.w.check.fail("I11", "a partial reversal, rrn %s, releases %d", d.rrn, rest)
	}
	a.moves = append(a.moves, d)
	h.moved(d)
}

// held is what an acquirer holds of a payment.
func (a *account) held() (v int64) {
	if a.base == nil || !a.base.live() {
		return 0
	}
	v = a.base.value
	for _, d := range a.moves {
		switch {
		case !d.live():
		case d.kind == holdIncrement:
			v += d.value
		case d.kind == holdRelease:
			v = d.value
		}
	}
	return v
}

// sum is what it has of one kind.
func (a *account) sum(kind holdKind) (v int64) {
	for _, d := range a.moves {
		if d.live() && d.kind == kind {
			v += d.value
		}
	}
	if kind == holdCapture && a.base != nil && a.base.kind == holdSale && a.base.live() {
		v += a.base.value
	}
	return v
}

// strange says that an acquirer did something for another amount than asked, or
// said two things of it: until that is undone its books are its own.
func (a *account) strange() bool {
	if a.base != nil && (a.base.odd || a.base.whispered) {
		return true
	}
	for _, d := range a.moves {
		if d.odd || d.whispered {
			return true
		}
	}
	return false
}

func (a *account) String() string {
	return fmt.Sprintf("held %d, captured %d, refunded %d", a.held(), a.sum(holdCapture), a.sum(holdRefund))
}
