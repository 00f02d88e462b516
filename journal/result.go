package journal

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"

	"authswitch/payment"
)

// A result travels from the leader to the node that its command came from. It
// is never stored: its form may change with the protocol between nodes.
//
//	kind 1 | fault 1 | form 1 | fields of that kind
//
// Kinds that are not hot travel in gob's form, which needs no code of their
// own and takes some 20 µs.
const (
	formFields = 1
	formGob    = 2
)

// faults are the errors a result can carry, in the order of their codes from 1.
func faults() []error {
	return []error{
		payment.ErrNotFound, payment.ErrBusy, payment.ErrUnavailable, ErrInvalid, ErrCorrupt, payment.ErrPending,
		payment.ErrKeyKnown, payment.ErrKeyState, payment.ErrKeyDates, payment.ErrKeyChanged, payment.ErrKeyLimit,
		payment.ErrPersonKnown,
		payment.ErrMerchantVersion, payment.ErrMerchantLimit, payment.ErrKeyUsed,
	}
}

// faultOther is an error that is none of faults: its text travels.
const faultOther = 255

// AppendResult writes a result.
func AppendResult(b []byte, r *Result) ([]byte, error) {
	b = append(b, byte(r.Kind))
	code := byte(0)
	if r.Err != nil {
		code = faultOther
		for n, fault := range faults() {
			if errors.Is(r.Err, fault) {
				code = byte(n + 1)
				break
			}
		}
	}
	b = append(b, code)
	if code == faultOther {
		b = putText(b, r.Err.Error())
	}
	switch r.Kind {
	case KindOpen:
		b = append(b, formFields, byte(r.Opened.Verdict))
		return append(b, r.Opened.ID[:]...), nil
	case KindNext, KindSettle:
		b = append(b, formFields, byte(r.Settled.State))
		b = putBool(b, r.Settled.SessionEnded)
		return appendOutcome(b, &r.Settled.Outcome), nil
	case KindClaim:
		return appendOwed(append(b, formFields), &r.Owed, claim{}), nil
	case KindOperate, KindCredit:
		b = append(b, formFields, byte(r.Operated.Verdict), byte(r.Operated.Refused))
		return appendOperation(put64(b, uint64(r.Operated.Left)), &r.Operated.Operation), nil
	case KindAcknowledge, KindLate:
		return append(b, formFields, byte(r.State)), nil
	}
	plain := *r
	plain.Err = nil
	var out bytes.Buffer
	if err := gob.NewEncoder(&out).Encode(&plain); err != nil {
		return b, fmt.Errorf("encode the result of a %s: %w", r.Kind, err)
	}
	return append(append(b, formGob), out.Bytes()...), nil
}

// ReadResult reads what AppendResult wrote into memory of its own.
func ReadResult(b []byte, r *Result) error {
	c := cursor{b: b}
	*r = Result{}
	kind := Kind(c.u8())
	fault := readFault(&c)
	form := c.u8()
	if form == formGob && !c.broken {
		if err := gob.NewDecoder(bytes.NewReader(c.b)).Decode(r); err != nil {
			return fmt.Errorf("decode the result of a %s: %w", kind, err)
		}
		r.Kind, r.Err = kind, fault
		return nil
	}
	if form != formFields {
		return ErrCorrupt
	}
	r.Kind, r.Err = kind, fault
	switch kind {
	case KindOpen:
		r.Opened.Verdict = payment.OpenVerdict(c.u8())
		r.Opened.ID = c.id()
	case KindNext, KindSettle:
		r.Settled.State = payment.State(c.u8())
		r.Settled.SessionEnded = c.flag()
		readOutcome(&c, &r.Settled.Outcome)
	case KindClaim:
		readOwed(&c, &r.Owed)
	case KindOperate, KindCredit:
		r.Operated.Verdict, r.Operated.Refused = payment.OperationVerdict(c.u8()), payment.OperationRefusal(c.u8())
		r.Operated.Left = int64(c.u64())
		readOperation(&c, &r.Operated.Operation)
	case KindAcknowledge, KindLate:
		r.State = payment.State(c.u8())
	default:
		return ErrCorrupt
	}
	return c.end()
}

func readFault(c *cursor) error {
	switch code := c.u8(); {
	case code == 0:
		return nil
	case code == faultOther:
		return errors.New(string(c.text()))
	case int(code) <= len(faults()):
		return faults()[code-1]
	}
	c.broken = true
	return nil
}
