package api

import (
	"strconv"
	"time"

	"authswitch/payment"
)

// Link is a link as GET /v1/links shows it.
type Link struct {
	Name            payment.LinkName
	Scheme          payment.Scheme
	Dialect         payment.DialectName
	Address         string
	Ledger          string // of its simulator, "" elsewhere
	Clearing        string // directory of its clearing files, where there is a simulator
	State           string // down, connected, ready, suspect, draining
	SignedOn        bool
	Connections     int
	InFlight        int
	Window          int
	WindowNow       int           // less while the acquirer answers slowly
	EchoRoundTrip   time.Duration // of the last echo, 0 before
	ReversalsOwed   int
	OldestOwedSince payment.Instant // 0: nothing is owed
	Exceptions      int
	OperationsOwed  int // messages of captures, refunds and so on
}

func appendLink(dst []byte, l *Link) []byte {
	dst = append(dst, `{"name":`...)
	dst = appendString(dst, string(l.Name))
	dst = append(dst, `,"scheme":`...)
	dst = appendName(dst, l.Scheme.String())
	dst = append(dst, `,"dialect":`...)
	dst = appendString(dst, string(l.Dialect))
	dst = append(dst, `,"address":`...)
	dst = appendString(dst, l.Address)
	dst = append(dst, `,"ledger":`...)
	dst = appendName(dst, l.Ledger)
	dst = append(dst, `,"clearing":`...)
	dst = appendName(dst, l.Clearing)
	dst = append(dst, `,"state":`...)
	dst = appendString(dst, l.State)
	dst = append(dst, `,"signed_on":`...)
	dst = strconv.AppendBool(dst, l.SignedOn)
	dst = appendCount(dst, `,"connections":`, l.Connections)
	dst = appendCount(dst, `,"in_flight":`, l.InFlight)
	dst = appendCount(dst, `,"window":`, l.Window)
	dst = appendCount(dst, `,"window_now":`, l.WindowNow)
	dst = append(dst, `,"echo_us":`...)
	if l.EchoRoundTrip == 0 {
		dst = append(dst, `null`...)
	} else {
		dst = strconv.AppendInt(dst, l.EchoRoundTrip.Microseconds(), 10)
	}
	dst = appendCount(dst, `,"reversals_owed":`, l.ReversalsOwed)
	dst = append(dst, `,"oldest_owed_since":`...)
	dst = appendInstant(dst, l.OldestOwedSince)
	dst = appendCount(dst, `,"exceptions":`, l.Exceptions)
	dst = appendCount(dst, `,"operations_owed":`, l.OperationsOwed)
	return append(dst, '}')
}

func appendCount(dst []byte, name string, n int) []byte {
	return strconv.AppendInt(append(dst, name...), int64(n), 10)
}

// appendEntry writes one line of a payment's history, with the part that its
// kind has.
func appendEntry(dst []byte, e *payment.Entry) []byte {
	dst = append(dst, `{"at":`...)
	dst = appendInstant(dst, e.At)
	dst = append(dst, `,"kind":`...)
	dst = appendString(dst, e.Kind.String())
	if e.Kind != payment.EntryReversalSent && e.Kind != payment.EntryOperation { // a transmission is no event of the life cycle: it changes nothing
		dst = append(dst, `,"event":`...)
		dst = appendString(dst, e.Event.String())
	}
	dst = append(dst, `,"state":`...)
	dst = appendString(dst, e.State.String())
	if e.Intent != nil {
		dst = appendIntent(dst, e.Intent)
	}
	if e.Outcome != nil {
		dst = appendOutcome(dst, e.Outcome)
	}
	if e.Response != nil {
		dst = append(dst, `,"response":{"response_code":`...)
		dst = appendOptional(dst, trimZero(e.Response.Code[:]))
		dst = append(dst, `,"approval_code":`...)
		dst = appendOptional(dst, trimZero(e.Response.ApprovalCode[:]))
		dst = append(dst, '}')
	}
	if e.Owed != nil {
		dst = appendOwed(dst, e.Owed)
	}
	if w := e.WriteOff; w != nil {
		dst = append(dst, `,"write_off":{"operator":`...)
		dst = appendString(dst, w.Operator)
		dst = append(dst, `,"reason":`...)
		dst = appendString(dst, w.Reason)
		dst = append(dst, '}')
	}
	if o := e.Operation; o != nil {
		dst = append(dst, `,"operation":{"kind":`...)
		dst = appendString(dst, o.Kind.String())
		dst = append(dst, ',')
		dst = appendMovement(dst, o, o.State.Status())
		dst = append(appendProgress(dst, o), '}')
	}
	return append(dst, '}')
}

func appendIntent(dst []byte, in *payment.Intent) []byte {
	dst = append(dst, `,"attempt":{"number":`...)
	dst = strconv.AppendUint(dst, uint64(in.Attempt), 10)
	dst = append(dst, `,"link":`...)
	dst = appendString(dst, string(in.Link))
	dst = append(dst, `,"scheme":`...)
	dst = appendName(dst, in.Scheme.String())
	dst = append(dst, `,"dialect":`...)
	dst = appendString(dst, string(in.Dialect))
	dst = append(dst, `,"mti":"`...)
	dst = appendMTI(dst, in.MTI)
	dst = append(dst, `","stan":`...)
	dst = appendSTAN(dst, in.STAN)
	dst = append(dst, `,"rrn":`...)
	dst = appendOptional(dst, trimZero(in.RRN[:]))
	dst = append(dst, `,"transmitted":`...)
	dst = appendTransmitted(dst, in.Transmitted)
	dst = append(dst, `,"send_by":`...)
	dst = appendInstant(dst, in.SendBy)
	dst = append(dst, `,"answer_by":`...)
	dst = appendInstant(dst, in.AnswerBy)
	return append(dst, '}')
}

func appendOutcome(dst []byte, o *payment.Outcome) []byte {
	dst = append(dst, `,"outcome":{"attempt":`...)
	dst = strconv.AppendUint(dst, uint64(o.Attempt), 10)
	dst = append(dst, `,"status":`...)
	dst = appendString(dst, status(o.Status))
	dst = append(dst, `,"cause":`...)
	dst = appendName(dst, o.Cause.String())
	dst = append(dst, `,"amount":`...)
	dst = appendAmount(dst, o.Amount)
	dst = append(dst, `,"response_code":`...)
	dst = appendOptional(dst, trimZero(o.Response.Code[:]))
	dst = append(dst, `,"approval_code":`...)
	dst = appendOptional(dst, trimZero(o.Response.ApprovalCode[:]))
	dst = append(dst, `,"reversal_reason":`...)
	dst = appendName(dst, o.Reversal.String())
	dst = append(dst, `,"processing_ms":`...)
	dst = strconv.AppendUint(dst, uint64(o.ProcessingMS), 10)
	return append(dst, '}')
}

func appendOwed(dst []byte, o *payment.Owed) []byte {
	dst = append(dst, `,"reversal":{"link":`...)
	dst = appendString(dst, string(o.Link))
	if !o.Operation.IsZero() {
		dst = append(dst, `,"of":`...)
		dst = appendID(dst, o.Operation, o.Kind.Prefix())
	}
	dst = append(dst, `,"attempt":`...)
	dst = strconv.AppendUint(dst, uint64(o.Attempt), 10)
	dst = append(dst, `,"reason":`...)
	dst = appendName(dst, o.Reason.String())
	dst = append(dst, `,"stan":`...)
	dst = appendSTAN(dst, o.STAN)
	dst = append(dst, `,"transmitted":`...)
	dst = appendTransmitted(dst, o.Transmitted)
	dst = append(dst, `,"tries":`...)
	dst = strconv.AppendUint(dst, uint64(o.Tries), 10)
	dst = append(dst, `,"since":`...)
	dst = appendInstant(dst, o.Since)
	dst = append(dst, `,"due":`...)
	dst = appendInstant(dst, o.Due)
	dst = append(dst, `,"exception":`...)
	dst = strconv.AppendBool(dst, o.Exception)
	dst = append(dst, `,"response_code":`...)
	dst = appendOptional(dst, trimZero(o.LastCode[:]))
	return append(dst, '}')
}
