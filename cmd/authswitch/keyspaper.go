package main

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"authswitch/hsm"
	"authswitch/hsm/ceremony"
	"authswitch/keyring"
	"authswitch/payment"
)

// formPaper is a key that comes with proof of its officers: a warrant, or the
// transcript of a ceremony.
const formPaper = "paper"

// paperLife is how long after its signature a paper is taken: a key that was
// destroyed does not come back by a sheet from an old folder.
const paperLife = 7 * 24 * time.Hour

// keyGuard is what a node's security module says of dual control.
type keyGuard struct {
	module     func(deadline int64) (hsm.Control, error)
	now        func() payment.Instant
	production bool
}

// control asks the module. One that speaks host commands has its own ways, at
// its own console.
func (g *keyGuard) control() (hsm.Control, *failure) {
	if g.module == nil {
		return hsm.Control{}, nil
	}
	c, err := g.module(0)
	switch {
	case errors.Is(err, hsm.ErrInput):
		return hsm.Control{}, nil
	case err != nil:
		return c, refuse(http.StatusServiceUnavailable, "ask the security module for its officers: %s", err)
	}
	c.Dual = c.Dual || g.production
	return c, nil
}

// alone refuses what one operator may not do where there is dual control.
func (g *keyGuard) alone(what string) *failure {
	c, bad := g.control()
	if bad != nil || !c.Dual {
		return bad
	}
	return refuse(http.StatusForbidden, "two officers %s a key here: ask with --officer NAME at hsmd's admin socket, let another approve with `authswitch hsm officer approve`, and take its warrant in", what)
}

// paper reads a key with the proof of its officers into an import of a stored
// block.
func (g *keyGuard) paper(o *keyOperation, r *keyring.ImportRequest) *failure {
	c, bad := g.control()
	if bad != nil {
		return bad
	}
	parsed, err := x509.ParsePKIXPublicKey(c.Public)
	public, ok := parsed.(*ecdsa.PublicKey)
	if err != nil || !ok {
		return refuse(http.StatusConflict, "this security module signs no warrants")
	}
	var kind struct{ Warrant, Transcript json.RawMessage }
	if err := json.Unmarshal([]byte(o.Sent), &kind); err != nil {
		return refuse(http.StatusBadRequest, "neither a warrant nor a transcript: %s", err)
	}
	var p paper
	if len(kind.Warrant) > 0 {
		p, err = readWarrant([]byte(o.Sent), public)
	} else {
		p, err = readTranscript([]byte(o.Sent), public)
	}
	if err != nil {
		return refuse(http.StatusForbidden, "%s", err)
	}
	age := time.Duration(int64(g.now()) - p.at.UnixNano())
	switch {
	case age > paperLife || age < -time.Hour:
		return refuse(http.StatusForbidden, "the paper is of %s: too long ago, or not yet", p.at.UTC().Format(time.RFC3339))
	case p.link != "" && p.link != o.Link:
		return refuse(http.StatusForbidden, "the officers had it made for %s, not for %s", p.link, o.Link)
	case o.Letters != "" && o.Letters != p.letters:
		return refuse(http.StatusConflict, "the paper says %s, not %s", p.letters, o.Letters)
	}
	r.Form, r.Letters, r.Sent, r.Officers = keyring.Stored, p.letters, []byte(p.block), p.officers
	if len(r.CheckValue) == 0 {
		if r.CheckValue, err = hex.DecodeString(p.kcv); err != nil {
			return refuse(http.StatusConflict, "the paper's check value is not hexadecimal")
		}
	}
	return nil
}

// paper is what a signed sheet says of a key.
type paper struct {
	link, letters, kcv, block string
	officers                  [2]string
	at                        time.Time
}

var errPaper = errors.New("not the paper of a key that two officers made or took in")

func readWarrant(text []byte, public *ecdsa.PublicKey) (paper, error) {
	w, err := ceremony.VerifyWarrant(text, public)
	if err != nil {
		return paper{}, err
	}
	if len(w.Officers) != 2 || w.Block == "" || w.Label == "" {
		return paper{}, errPaper
	}
	p := paper{link: w.Label, letters: w.Attributes, kcv: w.KCV, block: w.Block, officers: [2]string{w.Officers[0], w.Officers[1]}}
	if p.at, err = time.Parse(time.RFC3339, w.At); err != nil {
		return paper{}, fmt.Errorf("%w: its time: %w", errPaper, err)
	}
	return p, nil
}

func readTranscript(text []byte, public *ecdsa.PublicKey) (paper, error) {
	t, err := ceremony.VerifyTranscript(text, public)
	if err != nil {
		return paper{}, err
	}
	if t.Result != ceremony.Done.String() || t.Rehearsal || t.Block == "" {
		return paper{}, errPaper
	}
	p := paper{letters: t.Usage + t.Algorithm + t.Mode + t.Exportability, kcv: t.CheckValue, block: t.Block}
	n := 0
	for _, l := range t.Steps {
		if l.Step == ceremony.Confirm.String() && l.Refused == "" && n < len(p.officers) {
			p.officers[n] = l.Officer
			n++
		}
	}
	if n != len(p.officers) {
		return paper{}, errPaper
	}
	if p.at, err = time.Parse(time.RFC3339, t.Ended); err != nil {
		return paper{}, fmt.Errorf("%w: its time: %w", errPaper, err)
	}
	return p, nil
}
