// Package ceremony decides what the people who look after keys may do: officers
// and how they prove who they are, dual control, and the ceremony in which two
// or three of them bring a key in, a component each.
//
// It decides only. Time, randomness and the combining of components are
// arguments; writing the audit log before the effect, keeping the roster, and
// speaking to terminals are its caller's (hsm/desk). Components live in a
// Ceremony and nowhere else, and are wiped on every way out of it.
package ceremony

import (
	"errors"
	"fmt"
	"time"

	"authswitch/hsm/engine"
	"authswitch/hsm/key"
)

// Errors: why a step is refused. Those that end a ceremony are marked in the
// table.
var (
	ErrRunning    = errors.New("a ceremony is under way; finish or abort it first")
	ErrNone       = errors.New("no ceremony is under way")
	ErrOrder      = errors.New("not the turn of this step")
	ErrAlone      = errors.New("one officer alone makes no key: the other components are missing")
	ErrSame       = errors.New("the same officer twice")
	ErrTime       = errors.New("ten minutes are over")
	ErrCheckValue = errors.New("the key check value does not fit")
	ErrLength     = errors.New("a component is as long as the key")
	ErrCombine    = errors.New("the components make no key that is kept")
	ErrOutsider   = errors.New("only an officer who brought a component confirms")
	ErrRequest    = errors.New("such a ceremony cannot be held")
)

// Life is how long a ceremony may take, from its start to the second
// confirmation. Then everything is wiped: components on paper must not lie
// about while somebody looks for a colleague.
const Life = 10 * time.Minute

// State is where a ceremony stands.
type State uint8

// The states.
const (
	Idle       State = iota // none was held since the module started
	Collecting              // components come in
	Combined                // all are there; the combined check value is shown
	Confirmed               // by one officer
	Done                    // by both: the key block was given out
	Aborted                 // refused, given up, or out of time; everything is wiped
)

// String is the state's name.
func (s State) String() string {
	return [...]string{"idle", "collecting", "combined", "confirmed", "done", "aborted"}[s]
}

// Step is what an officer does, or time.
type Step uint8

// The steps.
const (
	Start Step = iota
	Component
	Confirm
	Abort
	Tick // nobody did anything; time passed
)

// String is the step's name, as the audit log has it.
func (s Step) String() string {
	return [...]string{"start", "component", "confirm", "abort", "tick"}[s]
}

// Finding is what there is to say of a step before the table is asked.
type Finding uint8

// The findings, the first that holds.
const (
	Fine        Finding = iota
	Last                // a component, and none is missing after it
	TimeGone            // the ceremony is older than Life
	SameOfficer         // who did the same step before
	Outsider            // who confirms without having brought a component
	WrongValue          // another check value than the component, or the key, has
	WrongLength         // a component that is shorter or longer than the key
	NoKey               // components that are the same, or a combined key that is weak
	BadRequest          // a start that asks for a key nobody keeps
)

// String is for tests and messages.
func (f Finding) String() string {
	return [...]string{"fine", "last", "time gone", "same officer", "outsider", "wrong value", "wrong length", "no key", "bad request"}[f]
}

// rule is one row of the table.
type rule struct {
	state   State
	step    Step
	finding Finding
	next    State
	err     error
}

// rules is the whole ceremony. What is not here changes nothing and is refused
// (see refusal): the order of steps is not a matter of chance.
func rules() []rule {
	return []rule{
		{Idle, Start, Fine, Collecting, nil},
		{Done, Start, Fine, Collecting, nil},
		{Aborted, Start, Fine, Collecting, nil},

		{Collecting, Component, Fine, Collecting, nil},
		{Collecting, Component, Last, Combined, nil},
		{Combined, Confirm, Fine, Confirmed, nil},
		{Confirmed, Confirm, Fine, Done, nil},

		// Refused, wiped, written down.
		{Collecting, Component, SameOfficer, Aborted, ErrSame},
		{Collecting, Component, WrongValue, Aborted, ErrCheckValue},
		{Collecting, Component, WrongLength, Aborted, ErrLength},
		{Collecting, Component, NoKey, Aborted, ErrCombine},
		{Collecting, Confirm, Fine, Aborted, ErrAlone},
		{Collecting, Confirm, Outsider, Aborted, ErrAlone},
		{Collecting, Confirm, WrongValue, Aborted, ErrAlone},
		{Combined, Confirm, Outsider, Aborted, ErrOutsider},
		{Combined, Confirm, WrongValue, Aborted, ErrCheckValue},
		{Confirmed, Confirm, SameOfficer, Aborted, ErrSame},
		{Confirmed, Confirm, Outsider, Aborted, ErrOutsider},
		{Confirmed, Confirm, WrongValue, Aborted, ErrCheckValue},

		// Given up.
		{Collecting, Abort, Fine, Aborted, nil},
		{Combined, Abort, Fine, Aborted, nil},
		{Confirmed, Abort, Fine, Aborted, nil},

		// Out of time: whatever is asked. A start that comes too late for the old
		// ceremony ends it, and is asked again.
		{Collecting, Start, TimeGone, Aborted, ErrTime},
		{Collecting, Component, TimeGone, Aborted, ErrTime},
		{Collecting, Confirm, TimeGone, Aborted, ErrTime},
		{Collecting, Abort, TimeGone, Aborted, ErrTime},
		{Collecting, Tick, TimeGone, Aborted, ErrTime},
		{Combined, Start, TimeGone, Aborted, ErrTime},
		{Combined, Component, TimeGone, Aborted, ErrTime},
		{Combined, Confirm, TimeGone, Aborted, ErrTime},
		{Combined, Abort, TimeGone, Aborted, ErrTime},
		{Combined, Tick, TimeGone, Aborted, ErrTime},
		{Confirmed, Start, TimeGone, Aborted, ErrTime},
		{Confirmed, Component, TimeGone, Aborted, ErrTime},
		{Confirmed, Confirm, TimeGone, Aborted, ErrTime},
		{Confirmed, Abort, TimeGone, Aborted, ErrTime},
		{Confirmed, Tick, TimeGone, Aborted, ErrTime},
	}
}

// look finds what the table says. A step that it does not have leaves the state
// alone.
func look(s State, step Step, f Finding) (State, error) {
	for _, r := range rules() {
		if r.state == s && r.step == step && r.finding == f {
			return r.next, r.err
		}
	}
	return s, refusal(s, step, f)
}

// refusal is why a step that the table does not have is refused. Time passing
// is never refused.
func refusal(s State, step Step, f Finding) error {
	running := s == Collecting || s == Combined || s == Confirmed
	switch {
	case step == Tick:
		return nil
	case step == Start && running:
		return ErrRunning
	case step == Start && f == BadRequest:
		return ErrRequest
	case !running:
		return ErrNone
	}
	return ErrOrder
}

// Request is what a ceremony is for.
type Request struct {
	ID         string // drawn by the caller
	Label      string // "zone key, Visa, production": for people
	Attributes engine.Attributes
	Bytes      int  // length of the key
	Components int  // two or three
	Rehearsal  bool // the same in every step, but the key is thrown away
}

// maxLabel bounds a label in bytes.
const maxLabel = 100

// check refuses what no key can come of.
func (r *Request) check() error {
	if r.ID == "" || r.Label == "" || len(r.Label) > maxLabel {
		return fmt.Errorf("%w: a label of 1 to %d bytes is needed", ErrRequest, maxLabel)
	}
	if r.Components < 2 || r.Components > 3 {
		return fmt.Errorf("%w: two or three components", ErrRequest)
	}
	if err := engine.Permitted(r.Attributes, r.Bytes); err != nil {
		return fmt.Errorf("%w: %w", ErrRequest, err)
	}
	return nil
}

// Event is one step of one officer.
type Event struct {
	Step      Step
	Officer   string // proven by the caller; empty for Tick
	At        time.Time
	Request   Request    // of Start
	Component key.Secret // of Component; copied
	KCV       []byte     // of Component and Confirm: what the officer has on paper, or sees on the screen
}

// Combine makes a key of components: engine.Engine.Combine.
type Combine func(a engine.Attributes, components ...key.Secret) (engine.Sealed, error)

// part is one component and who brought it.
type part struct {
	officer string
	secret  key.Secret
	check   engine.CheckValue
}

// Ceremony is one ceremony, or the last. The zero value is idle. It belongs to
// one goroutine at a time.
type Ceremony struct {
	state   State
	request Request
	started time.Time
	parts   []part
	sealed  engine.Sealed // once combined
	first   string        // who confirmed first
	record  Transcript
}

// Decision is what a step leads to. Nothing has happened yet: the caller writes
// it down and only then applies it.
type Decision struct {
	Next    State
	Finding Finding
	Err     error // why the step is refused; nil when it is not
	event   Event
	check   engine.CheckValue
	sealed  engine.Sealed
}

// Wipes says whether a ceremony that was under way ends here without a key.
func (d *Decision) Wipes() bool { return d.Next == Aborted }

// Started is what a ceremony is for that begins with this decision.
func (d *Decision) Started() (Request, bool) {
	return d.event.Request, d.event.Step == Start && d.Err == nil
}

// Says is the decision in words, for the audit log: why it is refused, or what
// became known.
func (d *Decision) Says() string {
	switch {
	case d.Err != nil && d.Wipes():
		return d.Err.Error() + "; all components wiped"
	case d.Err != nil:
		return d.Err.Error()
	case d.event.Step == Abort:
		return "given up; all components wiped"
	case d.event.Step == Component && d.Next == Combined:
		return fmt.Sprintf("component with KCV %s; combined KCV %s", d.check, d.sealed.Check)
	case d.event.Step == Component:
		return fmt.Sprintf("component with KCV %s", d.check)
	case d.Next == Done:
		return "confirmed by both officers"
	}
	return ""
}

// Decide judges a step. It changes nothing, so that a decision which could not
// be written down is as if it had never been asked.
func (c *Ceremony) Decide(e Event, combine Combine) Decision {
	d := Decision{event: e}
	var why error
	d.Finding, why = c.find(&d, combine)
	d.Next, d.Err = look(c.state, e.Step, d.Finding)
	if d.Err != nil && why != nil {
		if !errors.Is(why, d.Err) {
			why = fmt.Errorf("%w: %w", d.Err, why)
		}
		d.Err = why
	}
	return d
}

// find is what there is to say of a step, and what a person is told of it.
func (c *Ceremony) find(d *Decision, combine Combine) (Finding, error) {
	e := &d.event
	if c.underWay() && !e.At.Before(c.started.Add(Life)) {
		return TimeGone, nil
	}
	switch e.Step {
	case Start:
		if err := e.Request.check(); err != nil {
			return BadRequest, err
		}
	case Component:
		if c.state == Collecting {
			return c.findComponent(d, combine)
		}
	case Confirm:
		return c.findConfirm(e), nil
	}
	return Fine, nil
}

func (c *Ceremony) findComponent(d *Decision, combine Combine) (Finding, error) {
	e := &d.event
	if c.brought(e.Officer) {
		return SameOfficer, nil
	}
	if len(e.Component) != c.request.Bytes {
		return WrongLength, fmt.Errorf("%w: %d bytes, not %d", ErrLength, len(e.Component), c.request.Bytes)
	}
	k, err := key.New(c.request.Attributes.Algorithm, e.Component)
	if err != nil {
		return WrongLength, nil
	}
	defer k.Wipe()
	if d.check, err = engine.KCV(&k); err != nil {
		return NoKey, nil
	}
	if !d.check.Matches(e.KCV) {
		return WrongValue, nil
	}
	if len(c.parts)+1 < c.request.Components {
		return Fine, nil
	}
	all := make([]key.Secret, 0, c.request.Components)
	for i := range c.parts {
		all = append(all, c.parts[i].secret)
	}
	if d.sealed, err = combine(c.request.Attributes, append(all, e.Component)...); err != nil {
		return NoKey, err
	}
	return Last, nil
}

func (c *Ceremony) findConfirm(e *Event) Finding {
	switch {
	case c.state == Confirmed && e.Officer == c.first:
		return SameOfficer
	case !c.brought(e.Officer):
		return Outsider
	case !c.sealed.Check.Matches(e.KCV):
		return WrongValue
	}
	return Fine
}

// brought says whether an officer has brought a component.
func (c *Ceremony) brought(officer string) bool {
	for i := range c.parts {
		if c.parts[i].officer == officer {
			return true
		}
	}
	return false
}

func (c *Ceremony) underWay() bool {
	return c.state == Collecting || c.state == Combined || c.state == Confirmed
}

// Apply makes a decision come true. It must be the last one that Decide gave.
func (c *Ceremony) Apply(d Decision) {
	e := &d.event
	if d.Next == Collecting && e.Step == Start && d.Err == nil {
		c.wipe()
		*c = Ceremony{state: Collecting, request: e.Request, started: e.At, record: begin(&e.Request, e.At)}
	}
	if e.Step != Tick || d.Err != nil {
		c.record.add(e, &d)
	}
	before := c.state
	c.state = d.Next
	switch {
	case d.Next == Aborted && before != Aborted:
		c.end(e.At, d.Err)
	case d.Next == before && before != Collecting || d.Err != nil:
		return
	case e.Step == Component:
		c.parts = append(c.parts, part{e.Officer, append(key.Secret(nil), e.Component...), d.check})
		if d.Next == Combined {
			c.sealed = d.sealed
			c.record.CheckValue = d.sealed.Check.String()
			c.wipe() // from here on there is the key under the master key, and nobody needs its parts
		}
	case d.Next == Confirmed:
		c.first = e.Officer
	case d.Next == Done:
		c.end(e.At, nil)
	}
}

// end closes the record and wipes what must not stay.
func (c *Ceremony) end(at time.Time, err error) {
	c.wipe()
	c.record.close(c.state, at, err, c.state == Done && !c.request.Rehearsal, c.sealed.Block)
	if c.state != Done || c.request.Rehearsal {
		clear(c.sealed.Block)
		c.sealed = engine.Sealed{}
	}
}

// wipe overwrites the components; who brought them stays known.
func (c *Ceremony) wipe() {
	for i := range c.parts {
		c.parts[i].secret.Wipe()
		c.parts[i].secret = nil
	}
}

// State is where the ceremony stands.
func (c *Ceremony) State() State { return c.state }

// Request is what it is for.
func (c *Ceremony) Request() Request { return c.request }

// Deadline is when it is wiped; zero when none is under way.
func (c *Ceremony) Deadline() time.Time {
	if !c.underWay() {
		return time.Time{}
	}
	return c.started.Add(Life)
}

// Components are who brought one, and its check value, in their order.
func (c *Ceremony) Components() []Brought {
	out := make([]Brought, len(c.parts))
	for i := range c.parts {
		out[i] = Brought{c.parts[i].officer, c.parts[i].check}
	}
	return out
}

// Brought is a component of which nothing more is known.
type Brought struct {
	Officer string
	Check   engine.CheckValue
}

// CheckValue is that of the combined key, to be shown to the officers.
func (c *Ceremony) CheckValue() (engine.CheckValue, bool) {
	shown := c.state == Combined || c.state == Confirmed || c.state == Done
	return c.sealed.Check, shown && len(c.sealed.Block) > 0
}

// Key is what a ceremony that is done has made. A rehearsal has made none.
func (c *Ceremony) Key() (engine.Sealed, bool) {
	return c.sealed, c.state == Done && len(c.sealed.Block) > 0
}

// Transcript is what happened, once the ceremony is over.
func (c *Ceremony) Transcript() (Transcript, bool) {
	return c.record, c.state == Done || c.state == Aborted
}
