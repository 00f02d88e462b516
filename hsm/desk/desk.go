// Package desk is where officers come to: it keeps the deciders of hsm/ceremony
// in a running module, with a clock, a source of challenges, the audit log and
// the file of officers.
//
// Everything an officer asks is proven by a signature over exactly that, for a
// challenge that is good once; is decided; is written to the audit log; and
// only then happens. The desk opens no socket: hsm/server hands it the requests
// of the admin socket.
package desk

import (
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"authswitch/hsm/audit"
	"authswitch/hsm/ceremony"
	"authswitch/hsm/wire"
)

// Errors of the desk.
var (
	ErrLocked    = errors.New("too many wrong proofs; this officer is locked for five minutes")
	ErrChallenge = errors.New("this challenge was used, is too old, or was never given")
	ErrAudit     = errors.New("the audit log could not be written, so nothing was done")
	ErrRollback  = errors.New("the list of officers is older than the audit log knows; restore the newest from its backup")
)

// Limits of the desk.
const (
	challengeLife = 2 * time.Minute
	maxChallenges = 64
	maxFailures   = 5
	lockTime      = 5 * time.Minute
)

// Book is the audit log: audit.Log.
type Book interface {
	Append(audit.Event) (audit.Place, error)
	Note(state string) (audit.Place, error) // signs a checkpoint that holds the state
	State() string                          // the last that was noted
	Checkpoint() (audit.Place, error)
}

// Store keeps the file of officers.
type Store interface {
	Load() ([]byte, error) // nil where there is none
	Save([]byte) error
}

// Options are what a desk needs of its process.
type Options struct {
	Now     func() time.Time
	Random  io.Reader
	Book    Book
	Store   Store
	Signer  audit.Signer
	Public  *ecdsa.PublicKey // of the signer
	KeyName string           // of the signer: audit/1
	Combine ceremony.Combine
	Keys    KeyKeeper
	Codes   Store // of the first officers, one a line; empty when they are used up
	// Production has operations on keys need two officers from the first day on,
	// not only once two are enrolled.
	Production bool
}

// Desk is good for any number of goroutines: what people do takes one lock.
type Desk struct {
	o    Options
	dual atomic.Bool // read by the server for every operation on keys

	mu         sync.Mutex
	roster     *ceremony.Roster
	ceremony   ceremony.Ceremony
	approvals  ceremony.Approvals
	challenges []challenge
	failures   map[string]failure
	place      audit.Place // of the last entry about the ceremony
}

type challenge struct {
	officer string
	nonce   []byte
	until   time.Time
}

type failure struct {
	count int
	until time.Time
}

// Open reads the officers. A list that the token has not signed, or that is
// older than the one in the audit log, is refused: it would make officers of
// whoever can write a file.
func Open(o Options) (*Desk, error) {
	d := &Desk{o: o, failures: map[string]failure{}}
	var err error
	if d.roster, err = d.load(); err != nil {
		return nil, err
	}
	d.setDual()
	return d, nil
}

// Handle answers one request of the admin socket. The answer is the fields of a
// response: JSON, or the text of an error.
func (d *Desk) Handle(op wire.Op, f *wire.Fields) (wire.Status, []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.expire()
	var answer any
	var err error
	switch op {
	case ceremony.OpChallenge:
		officer := f.String()
		if f.Done() != nil {
			return wire.StatusMalformed, nil
		}
		answer, err = d.challenge(officer)
	case ceremony.OpAct:
		act, wrong := ceremony.ReadAct(f)
		if wrong != nil {
			return wire.StatusMalformed, nil
		}
		answer, err = d.act(&act)
	case ceremony.OpView:
		answer = d.view()
	case ceremony.OpPaper:
		answer, err = d.paper()
	default:
		return wire.StatusUnknown, nil
	}
	if err != nil {
		return statusOf(err), []byte(err.Error())
	}
	text, err := json.Marshal(answer)
	if err != nil {
		return wire.StatusFailed, []byte(err.Error())
	}
	return wire.StatusOK, text
}

// statusOf sorts the errors: what the module could not do, what was no request,
// and what officers may not.
func statusOf(err error) wire.Status {
	switch {
	case errors.Is(err, ErrAudit), errors.Is(err, errStore):
		return wire.StatusFailed
	case errors.Is(err, ceremony.ErrMessage):
		return wire.StatusMalformed
	}
	return wire.StatusForbidden
}

// Tick ends what is out of time. The owner calls it every second.
func (d *Desk) Tick() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.expire()
}

// expire wipes a ceremony that is out of time, written down or not: the disk
// must not keep components alive.
func (d *Desk) expire() {
	now := d.o.Now()
	for _, p := range d.approvals.Expire(now) {
		_, _ = d.o.Book.Append(audit.Event{
			Actors: []string{p.By}, Operation: p.Action, Object: p.Object, Outcome: audit.Refused,
			Reason: "no second officer approved it: " + ceremony.ErrTime.Error(),
		})
	}
	decision := d.ceremony.Decide(ceremony.Event{Step: ceremony.Tick, At: now}, d.o.Combine)
	if decision.Err != nil {
		_ = d.settle(decision, "", ceremony.Tick)
	}
}

// challenge gives an officer something to sign. Who is to be a founder has no
// credential here yet.
func (d *Desk) challenge(officer string) (*ceremony.Challenge, error) {
	out := &ceremony.Challenge{Nonce: make([]byte, ceremony.NonceBytes)}
	known, err := d.roster.Find(officer)
	switch {
	case err == nil:
		out.Kind, out.Stretch = known.Kind, known.Stretch
	case !d.roster.Founding():
		return nil, err
	}
	if _, err := io.ReadFull(d.o.Random, out.Nonce); err != nil {
		return nil, fmt.Errorf("drawing a challenge: %w", err)
	}
	if len(d.challenges) >= maxChallenges {
		d.challenges = append(d.challenges[:0], d.challenges[1:]...)
	}
	d.challenges = append(d.challenges, challenge{officer, out.Nonce, d.o.Now().Add(challengeLife)})
	return out, nil
}

// spend takes a challenge out: it is good once.
func (d *Desk) spend(officer string, nonce []byte) error {
	for i, c := range d.challenges {
		if c.officer == officer && string(c.nonce) == string(nonce) {
			d.challenges = append(d.challenges[:i], d.challenges[i+1:]...)
			if d.o.Now().Before(c.until) {
				return nil
			}
			break
		}
	}
	return ErrChallenge
}
