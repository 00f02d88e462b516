package api

import (
	"strconv"

	"authswitch/payment"
	"authswitch/query"
)

// appendOperated writes the answer to the request that made an operation. What
// is stored and forwarded is pending in it for ever, so that the same key gets
// the same bytes; where it stands later is in GET. Only what an acquirer is
// asked online is not final before it is decided.
func appendOperated(dst []byte, o *payment.Operation, asked payment.OperationKind) []byte {
	dst = append(dst, '{')
	told := *o
	final := true
	switch o.Means {
	case payment.MeansNone, payment.MeansSale:
		told.State, told.Response = payment.OperationDone, payment.Response{}
	case payment.MeansOnline, payment.MeansPayment:
		final = o.State.Over()
	default:
		told.State, told.Response = payment.OperationWaiting, payment.Response{}
	}
	status := told.State.Status()
	if o.Kind == payment.OpVoid && o.Means == payment.MeansNone {
		status = "reversed"
	}
	dst = appendMovement(dst, &told, status)
	if asked == payment.OpVoid && o.Kind == payment.OpRefund { // it came after the cut-over
		dst = append(dst, `,"how":"refund"`...)
	}
	dst = append(dst, `,"final":`...)
	dst = strconv.AppendBool(dst, final)
	return append(dst, '}')
}

// appendMovement writes the members that an operation's answer and its record
// share.
func appendMovement(dst []byte, o *payment.Operation, status string) []byte {
	dst = append(dst, `"id":`...)
	dst = appendID(dst, o.ID, o.Kind.Prefix())
	dst = append(dst, `,"authorization":`...)
	dst = appendID(dst, o.Payment, payment.AuthorizationPrefix)
	if o.Kind == payment.OpRefund || o.Kind == payment.OpVoid {
		dst = append(dst, `,"capture":`...)
		dst = appendID(dst, o.Parent, payment.OpCapture.Prefix())
	}
	dst = append(dst, `,"status":`...)
	dst = appendString(dst, status)
	dst = append(dst, `,"amount":`...)
	dst = appendAmount(dst, o.Amount)
	switch o.Kind {
	case payment.OpCapture:
		dst = append(dst, `,"final_capture":`...)
		dst = strconv.AppendBool(dst, o.Last)
	case payment.OpVoid:
		dst = append(dst, `,"how":`...)
		dst = appendString(dst, howVoided(o))
	case payment.OpCorrection:
		dst = appendCorrected(dst, o)
	}
	dst = append(dst, `,"means":`...)
	dst = appendString(dst, o.Means.String())
	r := &o.Response
	dst = append(dst, `,"response_code":`...)
	dst = appendOptional(dst, trimZero(r.Code[:]))
	dst = append(dst, `,"reason":`...)
	dst = appendName(dst, declineReason(o))
	dst = append(dst, `,"approval_code":`...)
	return appendOptional(dst, trimZero(r.ApprovalCode[:]))
}

// howVoided says what the reversal of a capture came to.
func howVoided(o *payment.Operation) string {
	if o.Means == payment.MeansNone {
		return "withdrawn"
	}
	return "reversal"
}

func declineReason(o *payment.Operation) string {
	if o.State != payment.OperationDeclined {
		return ""
	}
	return o.Response.Verdict.Reason.String()
}

func appendID(dst []byte, id payment.ID, prefix string) []byte {
	if id.IsZero() {
		return append(dst, `null`...)
	}
	dst = append(dst, '"')
	return append(id.Append(dst, prefix), '"')
}

// appendOperationRecord writes an operation as GET shows it.
func appendOperationRecord(dst []byte, o *payment.Operation) []byte {
	dst = append(dst, '{')
	dst = appendMovement(dst, o, o.State.Status())
	dst = append(dst, `,"final":`...)
	dst = strconv.AppendBool(dst, o.State.Over())
	return append(appendProgress(dst, o), '}')
}

// appendProgress writes where an operation stands and what travelled for it.
func appendProgress(dst []byte, o *payment.Operation) []byte {
	dst = append(dst, `,"state":`...)
	dst = appendString(dst, o.State.String())
	if o.Kind == payment.OpCapture {
		dst = append(dst, `,"refunded":`...)
		dst = strconv.AppendInt(dst, o.Refunded, 10)
	}
	dst = append(dst, `,"automatic":`...)
	dst = strconv.AppendBool(dst, o.Automatic)
	dst = append(dst, `,"merchant":`...)
	dst = appendString(dst, string(o.Merchant))
	dst = append(dst, `,"idempotency_key":`...)
	dst = appendOptional(dst, o.Key)
	dst = append(dst, `,"text":`...)
	dst = appendOptional(dst, o.Text)
	dst = append(dst, `,"link":`...)
	dst = appendString(dst, string(o.Link))
	dst = append(dst, `,"mti":`...)
	if o.MTI == 0 {
		dst = append(dst, `null`...)
	} else {
		dst = append(appendMTI(append(dst, '"'), o.MTI), '"')
	}
	dst = append(dst, `,"stan":`...)
	dst = appendSTAN(dst, o.STAN)
	dst = append(dst, `,"transmitted":`...)
	dst = appendTransmitted(dst, o.Transmitted)
	dst = append(dst, `,"attempt":`...)
	dst = strconv.AppendUint(dst, uint64(o.Attempt), 10)
	if o.File != 0 {
		dst = append(dst, `,"clearing":{"batch":`...)
		dst = strconv.AppendUint(dst, o.File, 10)
		dst = append(dst, `,"line":`...)
		dst = append(strconv.AppendUint(dst, uint64(o.FileLine), 10), '}')
	}
	dst = append(dst, `,"created_at":`...)
	dst = appendInstant(dst, o.CreatedAt)
	dst = append(dst, `,"decided_at":`...)
	return appendInstant(dst, o.DecidedAt)
}

// appendReleased writes a partial reversal, in the form of a whole one.
func appendReleased(dst []byte, o *payment.Operation) []byte {
	dst = append(dst, `{"authorization":`...)
	dst = appendID(dst, o.Payment, payment.AuthorizationPrefix)
	dst = append(dst, `,"id":`...)
	dst = appendID(dst, o.ID, o.Kind.Prefix())
	dst = append(dst, `,"amount":`...)
	dst = appendAmount(dst, o.Amount)
	return append(dst, `,"status":"pending","state":"approved","final":true}`...)
}

// appendMoney writes what has become of the money of a payment that was approved,
// or is a refund.
func appendMoney(dst []byte, p *payment.Payment) []byte {
	if !p.Outcome.Status.Approved() && p.State != payment.StateRefundOnly {
		return append(dst, `,"money":null`...)
	}
	a := p.Account
	switch p.State {
	case payment.StateReversing, payment.StateReversed, payment.StateException, payment.StateWrittenOff:
		a.Released += a.Capturable() // the whole is reversed: nothing is left to capture
	default:
	}
	dst = append(dst, `,"money":{"authorized":`...)
	dst = strconv.AppendInt(dst, a.Authorized, 10)
	for _, m := range [...]struct {
		name  string
		value int64
	}{{"incremented", a.Incremented}, {"released", a.Released}, {"captured", a.Captured}, {"refunded", a.Refunded}, {"capturable", a.Capturable()}} {
		dst = append(dst, `,"`...)
		dst = append(dst, m.name...)
		dst = append(dst, `":`...)
		dst = strconv.AppendInt(dst, m.value, 10)
	}
	return append(dst, '}')
}

// appendOperations writes a payment's operations with every message that
// travelled for them.
func appendOperations(dst []byte, item *query.Item) []byte {
	dst = append(dst, `,"operations":[`...)
	for i := range item.Operations {
		o := &item.Operations[i]
		dst = appendComma(dst, i)
		dst = append(dst, `{"kind":`...)
		dst = appendString(dst, o.Kind.String())
		dst = append(dst, ',')
		dst = appendMovement(dst, &o.Operation, o.State.Status())
		dst = appendProgress(dst, &o.Operation)
		dst = append(dst, `,"messages":[`...)
		for j, m := range o.Messages {
			dst = appendComma(dst, j)
			dst = append(dst, `{"stan":`...)
			dst = appendSTAN(dst, m.STAN)
			dst = append(dst, `,"transmitted":`...)
			dst = appendTransmitted(dst, m.Transmitted)
			dst = append(dst, '}')
		}
		dst = append(dst, `]}`...)
	}
	return append(dst, ']')
}
