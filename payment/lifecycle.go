package payment

// State is where a payment stands between the switch and the network. What the
// gateway was told is the Outcome, which is decided once and never changes;
// the state goes on after it.
type State uint8

// The states.
const (
	StateNone       State = iota // nothing is journalled
	StateOpen                    // the intent is durable; a request may be on the wire
	StateApproved                // the acquirer approved and nothing undid it
	StateDeclined                // an explicit no
	StateNotSent                 // proof that no byte left; the key is free again
	StateReversing               // a reversal is owed
	StateReversed                // the reversal is acknowledged
	StateException               // the reversal was refused oddly: still owed, for a person to see
	StateWrittenOff              // an operator ended an exception by an audited decision
	StateVerified                // an account was asked about, with whatever outcome: nothing is held or owed
	StateRefundOnly              // a refund without a payment of ours: nothing was authorized
	states
)

var stateNames = [states]string{
	"none", "open", "approved", "declined", "not_sent", "reversing", "reversed", "exception", "written_off", "verified", "refund_only",
}

// String is the state's name in API and tests.
func (s State) String() string {
	if s >= states {
		return "invalid"
	}
	return stateNames[s]
}

// States is how many states there are.
const States = int(states)

// Event is something that happens to a payment.
type Event uint8

// The events.
const (
	EventOpened               Event = iota // the first intent is committed
	EventNextAttempt                       // attempt n is closed, attempt n+1 opened in one commit
	EventApproved                          // a matched answer approves, wholly or in part
	EventDeclined                          // a matched answer decides against it
	EventNeverSent                         // no byte left and no other route is left
	EventUnknown                           // timeout, link lost, unparsable, rejected
	EventApprovalRefused                   // approved in a way the merchant cannot take: in part, or against an identity document
	EventCancelled                         // the gateway or an operator reverses it
	EventSessionEnded                      // the node that opened it is gone
	EventOverdue                           // open past send_by, acquirer timer and margin
	EventLateApproval                      // an approval after the outcome was decided
	EventLateDecline                       // a decline after the outcome was decided
	EventReversalAcknowledged              // 0410/0430 with an accepting code
	EventOriginalNotFound                  // "not found", after the original's longest life
	EventReversalExceptional               // an answer a machine must not settle
	EventWrittenOff                        // an operator's audited decision
	EventVerified                          // an account verification ended: answered or not, nothing is held
	EventCredited                          // a refund without a payment of ours is journalled
	events
)

var eventNames = [events]string{
	"opened", "next_attempt", "approved", "declined", "never_sent", "unknown", "approval_refused", "cancelled", "session_ended",
	"overdue", "late_approval", "late_decline", "reversal_acknowledged", "original_not_found", "reversal_exceptional", "written_off", "verified", "credited",
}

// String is the event's name in API and tests.
func (e Event) String() string {
	if e >= events {
		return "invalid"
	}
	return eventNames[e]
}

// Events is how many events there are.
const Events = int(events)

// refused stands in the table where an event has no meaning in a state.
const refused = State(0xFF)

// steps is the whole life of a payment: steps[state][event] is the state after
// it. An event that changes nothing leads to the same state; one that has no
// meaning is refused. Three rows carry the safety rules:
//   - open: whatever is not an explicit answer or proof of silence leads to
//     reversing, never back;
//   - declined, not_sent, reversed + late_approval: the acquirer holds money
//     for something we said no to, so the reversal is armed (again);
//   - approved + late_decline: a second answer never decides anything.
var steps = func() [States][Events]State {
	var t [States][Events]State
	for s := range t {
		for e := range t[s] {
			t[s][e] = refused
		}
	}
	row := func(from State, to map[Event]State) {
		for e, s := range to {
			t[from][e] = s
		}
	}
	row(StateNone, map[Event]State{EventOpened: StateOpen, EventCredited: StateRefundOnly})
	row(StateOpen, map[Event]State{
		EventNextAttempt: StateOpen, EventApproved: StateApproved, EventDeclined: StateDeclined, EventNeverSent: StateNotSent,
		EventUnknown: StateReversing, EventApprovalRefused: StateReversing, EventCancelled: StateReversing,
		EventSessionEnded: StateReversing, EventOverdue: StateReversing, EventVerified: StateVerified,
	})
	row(StateApproved, map[Event]State{
		EventCancelled: StateReversing, EventLateApproval: StateApproved, EventLateDecline: StateApproved,
	})
	row(StateDeclined, map[Event]State{
		EventCancelled: StateDeclined, EventLateApproval: StateReversing, EventLateDecline: StateDeclined,
	})
	row(StateNotSent, map[Event]State{
		EventOpened: StateOpen, EventCancelled: StateNotSent, EventLateApproval: StateReversing, EventLateDecline: StateNotSent,
	})
	row(StateReversing, map[Event]State{
		EventCancelled: StateReversing, EventLateApproval: StateReversing, EventLateDecline: StateReversing,
		EventReversalAcknowledged: StateReversed, EventOriginalNotFound: StateReversed, EventReversalExceptional: StateException,
	})
	row(StateReversed, map[Event]State{
		EventCancelled: StateReversed, EventLateApproval: StateReversing, EventLateDecline: StateReversed,
		EventReversalAcknowledged: StateReversed, EventOriginalNotFound: StateReversed,
	})
	row(StateException, map[Event]State{
		EventCancelled: StateException, EventLateApproval: StateReversing, EventLateDecline: StateException,
		EventReversalAcknowledged: StateReversed, EventReversalExceptional: StateException, EventWrittenOff: StateWrittenOff,
	})
	row(StateWrittenOff, map[Event]State{
		EventCancelled: StateWrittenOff, EventLateApproval: StateReversing, EventLateDecline: StateWrittenOff,
	})
	row(StateVerified, map[Event]State{EventCancelled: StateVerified, EventLateApproval: StateVerified, EventLateDecline: StateVerified})
	row(StateRefundOnly, map[Event]State{EventCancelled: StateRefundOnly})
	return t
}()

// Step is the state after an event, and whether the event has a meaning there.
func Step(s State, e Event) (State, bool) {
	if int(s) >= States || int(e) >= Events {
		return s, false
	}
	next := steps[s][e]
	return next, next != refused
}
