package desk

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"authswitch/hsm/ceremony"
)

// Errors of the first officers.
var (
	ErrCode   = errors.New("this is none of the enrolment codes that `hsmd init` wrote, or it was used already")
	ErrNoCode = errors.New("no enrolment code is left for the first officers; whoever sets the module up runs `hsmd init`, which draws them anew")
)

// codeName stands for the founders in the count of wrong proofs. No officer can
// have it: it is no name.
const codeName = "#enrolment code"

// spendCode takes an enrolment code out of its file, for ever: whoever reaches
// the admin socket first is not an officer by that. It goes before the officer
// is on the list; a crash in between costs a code, and `hsmd init` draws another.
func (d *Desk) spendCode(code string) error {
	now := d.o.Now()
	f := d.failures[codeName]
	if now.Before(f.until) {
		return ErrLocked
	}
	text, err := d.o.Codes.Load()
	if err != nil {
		return fmt.Errorf("%w: read the enrolment codes: %w", errStore, err)
	}
	left := bytes.Fields(text)
	defer clear(text)
	if len(left) == 0 {
		return ErrNoCode
	}
	given := sha256.Sum256(canonical([]byte(code)))
	at := -1
	for i, c := range left {
		if sum := sha256.Sum256(canonical(c)); subtle.ConstantTimeCompare(sum[:], given[:]) == 1 {
			at = i
		}
	}
	if at < 0 {
		if f.count++; f.count >= maxFailures {
			f = failure{until: now.Add(lockTime)}
		}
		d.failures[codeName] = f
		return ErrCode
	}
	delete(d.failures, codeName)
	rest := bytes.Join(append(left[:at:at], left[at+1:]...), []byte("\n"))
	if len(rest) > 0 {
		rest = append(rest, '\n')
	}
	if err := d.o.Codes.Save(rest); err != nil {
		return fmt.Errorf("%w: take an enrolment code out: %w", errStore, err)
	}
	return nil
}

// canonical lets a person type a code in either case, in groups or without.
func canonical(code []byte) []byte {
	return bytes.Map(func(r rune) rune {
		if r == '-' || unicode.IsSpace(r) {
			return -1
		}
		return unicode.ToUpper(r)
	}, code)
}

// Founders says how many of the first officers a list of officers still waits
// for. It reads the list without its signature, which only a running module
// checks: `hsmd init` draws so many codes.
func Founders(list []byte) (int, error) {
	r, err := unsigned(list)
	if err != nil {
		return 0, err
	}
	return max(0, ceremony.Founders-len(r.Officers)), nil
}

// Codes are so many lines of text, each good for one of the first officers.
func Codes(drawn ...string) []byte { return []byte(strings.Join(drawn, "\n") + "\n") }
