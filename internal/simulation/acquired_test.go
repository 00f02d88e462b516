package simulation_test

import (
	"encoding/csv"
	"fmt"
	"strings"
	"time"

	"authswitch/payment"
)

// What an acquirer gets once a day is over: the lines of batch uploads, what they
// came to, and clearing files.

// sums are the lines of an upload as an acquirer adds them up.
type sums struct {
	captures, refunds  int
	captured, refunded int64
}

// summed is what an acquirer has of an upload for a terminal.
func (h *host) summed(batch, terminal string) (x sums) {
	for _, d := range h.uploads[batch] {
		switch {
		case !d.live() || d.terminal != terminal:
		case d.kind == holdRefund:
			x.refunds, x.refunded = x.refunds+1, x.refunded+d.value
		default:
			x.captures, x.captured = x.captures+1, x.captured+d.value
		}
	}
	return x
}

// agreement names the totals of a terminal in a batch of a link.
type agreement struct {
	link            payment.LinkName
	batch, terminal string
}

// reconcile takes one transmission of totals. What is said must be what the
// acquirer has; it may say all the same that it is not.
func (h *host) reconcile(s *socket, m *message) {
	w := h.w
	name := agreement{linkName(h.index), m.fields[60], m.fields[41]}
	have := h.summed(name.batch, name.terminal)
	said := sums{int(amountOf(m.fields[76])), int(amountOf(m.fields[74])), amountOf(m.fields[88]), amountOf(m.fields[86])}
	net, sign := have.captured-have.refunded, "D"
	if net < 0 {
		net, sign = -net, "C"
	}
	if said != have || m.fields[97] != fmt.Sprintf("%s%016d", sign, net) {
		w.check.fail("totals", "of batch %s on %s it is said %+v and %s; the acquirer has %+v", name.batch, name.link, said, m.fields[97], have)
	}
	h.totalled[name] = true
	r := m.response("00", 7, 11, 41, 42, 50, 60)
	tell := func() { s.answer(r.bytes()[2:]) }
	if h.mischief(w.plan.lies) {
		w.check.lied[name] = true
		if r.fields[66] = "2"; w.r.IntN(2) == 0 {
			r.fields[39], r.fields[66] = "95", ""
		}
		tell()
		return
	}
	if w.r.IntN(3) > 0 {
		r.fields[66] = "1"
	}
	if h.mischief(w.plan.totalsMischief) {
		switch w.r.IntN(6) {
		case 0: // heard nothing
			return
		case 1:
			r.fields[39], r.fields[66] = "91", ""
			tell()
			return
		case 2: // agreed, and says nothing
			return
		case 3: // late
			w.check.agreed[name] = true
			w.after(w.between(answerTimeout, 2*answerTimeout), evHost, tell)
			return
		case 4: // twice
			w.check.agreed[name] = true
			tell()
			w.after(w.between(0, 3*time.Second), evHost, tell)
			return
		case 5: // the line breaks
			w.after(0, evDial, func() { s.x.lost(s, true) })
			return
		}
	}
	w.check.agreed[name] = true
	tell()
}

// detail is a line of a clearing file.
type detail struct {
	kind   string
	op     payment.ID
	rrn    string
	amount int64
}

// details reads a clearing file as an acquirer does, by docs/clearing.md.
func details(text []byte) ([]detail, error) {
	r := csv.NewReader(strings.NewReader(string(text)))
	r.FieldsPerRecord = -1
	lines, err := r.ReadAll()
	if err != nil {
		return nil, err
	}
	if len(lines) < 3 || lines[0][0] != "H" || lines[len(lines)-1][0] != "E" || lines[len(lines)-1][1] != fmt.Sprint(len(lines)-3) {
		return nil, fmt.Errorf("not a whole file of one currency")
	}
	var list []detail
	for _, f := range lines[1 : len(lines)-2] {
		x := detail{kind: f[2], rrn: f[15], amount: amountOf(f[11])}
		prefix := payment.OpCapture.Prefix()
		if x.kind == payment.OpRefund.String() {
			prefix = payment.OpRefund.Prefix()
		}
		if x.op, err = payment.ParseID(f[3], prefix); err != nil {
			return nil, err
		}
		list = append(list, x)
	}
	return list, nil
}

// take books what stands in a clearing file.
func (h *host) take(lines []detail) {
	for _, x := range lines {
		d := &hold{kind: holdCapture, rrn: x.rrn, value: x.amount, approved: true, op: x.op}
		if x.kind == payment.OpRefund.String() {
			d.kind = holdRefund
		}
		a := h.accounts[d.rrn]
		if a == nil {
			a = &account{}
			h.accounts[d.rrn] = a
		}
		a.moves, h.order = append(a.moves, d), append(h.order, d)
		h.moved(d)
	}
}
