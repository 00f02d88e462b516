package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"authswitch/hsm"
	"authswitch/hsm/ceremony"
	"authswitch/keyring"
	"authswitch/payment"
)

// papers signs as a module's token does.
type papers struct {
	t   *testing.T
	key *ecdsa.PrivateKey
	der []byte
}

func newPapers(t *testing.T) *papers {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return &papers{t, k, der}
}

func (p *papers) sign(digest [32]byte) []byte {
	p.t.Helper()
	s, err := ecdsa.SignASN1(rand.Reader, p.key, digest[:])
	if err != nil {
		p.t.Fatal(err)
	}
	return s
}

func (p *papers) json(v any) []byte {
	p.t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		p.t.Fatal(err)
	}
	return b
}

func (p *papers) warrant(w ceremony.Warrant) string {
	text := p.json(w)
	return string(p.json(ceremony.SignedWarrant{Warrant: text, Key: "audit/1", Signature: p.sign(ceremony.WarrantDigest(text))}))
}

func (p *papers) transcript(s ceremony.Transcript) string {
	text := p.json(s)
	return string(p.json(ceremony.Signed{Transcript: text, Key: "audit/1", Signature: p.sign(ceremony.Digest(text))}))
}

// What a node takes as the proof of two officers, and what it does not.
func TestPapers(t *testing.T) {
	p, stranger := newPapers(t), newPapers(t)
	at := time.Date(2026, 11, 26, 9, 0, 0, 0, time.UTC)
	now := payment.Instant(at.Add(time.Hour).UnixNano())
	w := ceremony.Warrant{Label: "cb-a", Attributes: "P0TBE", KCV: "ABCDEF", Block: "D", Officers: []string{"alice", "bob"}, At: at.Format(time.RFC3339)}
	s := ceremony.Transcript{
		Usage: "K1", Algorithm: "A", Mode: "B", Exportability: "N", CheckValue: "0123456789", Block: "D", Result: "done", Ended: at.Format(time.RFC3339Nano),
		Steps: []ceremony.Line{{Step: "start", Officer: "carol"}, {Step: "confirm", Officer: "alice", Refused: "no"}, {Step: "confirm", Officer: "alice"}, {Step: "confirm", Officer: "bob"}},
	}
	with := func(change func(w *ceremony.Warrant)) string { c := w; change(&c); return p.warrant(c) }
	script := func(change func(s *ceremony.Transcript)) string { c := s; change(&c); return p.transcript(c) }
	for name, c := range map[string]struct{ text, letters, want string }{
		"a warrant":          {p.warrant(w), "", ""},
		"with its header":    {p.warrant(w), "P0TBE", ""},
		"a transcript":       {p.transcript(s), "", ""},
		"another header":     {p.warrant(w), "P0TBN", "the paper says P0TBE"},
		"a stranger's":       {stranger.warrant(w), "", ceremony.ErrWarrant.Error()},
		"a stranger's, too":  {stranger.transcript(s), "", ceremony.ErrTranscript.Error()},
		"for another link":   {with(func(w *ceremony.Warrant) { w.Label = "cb-b" }), "", "made for cb-b"},
		"for no link":        {with(func(w *ceremony.Warrant) { w.Label = "" }), "", errPaper.Error()},
		"one officer":        {with(func(w *ceremony.Warrant) { w.Officers = w.Officers[:1] }), "", errPaper.Error()},
		"no key":             {with(func(w *ceremony.Warrant) { w.Block = "" }), "", errPaper.Error()},
		"no time":            {with(func(w *ceremony.Warrant) { w.At = "" }), "", errPaper.Error()},
		"of last month":      {with(func(w *ceremony.Warrant) { w.At = "2026-10-26T09:00:00Z" }), "", "too long ago"},
		"of next month":      {with(func(w *ceremony.Warrant) { w.At = "2026-12-26T09:00:00Z" }), "", "not yet"},
		"a rehearsal":        {script(func(s *ceremony.Transcript) { s.Rehearsal = true }), "", errPaper.Error()},
		"an aborted one":     {script(func(s *ceremony.Transcript) { s.Result = "aborted" }), "", errPaper.Error()},
		"confirmed by one":   {script(func(s *ceremony.Transcript) { s.Steps = s.Steps[:3] }), "", errPaper.Error()},
		"neither":            {"{}", "", ceremony.ErrTranscript.Error()},
		"a warrant's digest": {string(p.json(ceremony.Signed{Transcript: p.json(s), Signature: p.sign(ceremony.WarrantDigest(p.json(s)))})), "", ceremony.ErrTranscript.Error()},
	} {
		g := keyGuard{now: func() payment.Instant { return now }, module: func(int64) (hsm.Control, error) { return hsm.Control{Dual: true, Public: p.der}, nil }}
		var r keyring.ImportRequest
		bad := g.paper(&keyOperation{Link: "cb-a", Letters: c.letters, Sent: c.text}, &r)
		switch {
		case c.want == "" && (bad != nil || r.Officers != [2]string{"alice", "bob"} || r.Form != keyring.Stored || string(r.Sent) != "D" || len(r.CheckValue) == 0):
			t.Errorf("%s: %+v %+v", name, bad, r)
		case c.want != "" && (bad == nil || !strings.Contains(bad.text, c.want)):
			t.Errorf("%s: %+v, want %q", name, bad, c.want)
		}
	}
}

// When one operator is enough.
func TestAlone(t *testing.T) {
	for name, c := range map[string]struct {
		production, dual bool
		err              error
		want             int
	}{
		"no officers":             {false, false, nil, 0},
		"officers":                {false, true, nil, 403},
		"production":              {true, false, nil, 403},
		"a payment HSM":           {true, false, hsm.ErrInput, 0},
		"the module away":         {false, false, hsm.ErrUnavailable, 503},
		"a module of yesterday's": {true, false, errors.New("unknown"), 503},
	} {
		g := keyGuard{production: c.production, module: func(int64) (hsm.Control, error) { return hsm.Control{Dual: c.dual}, c.err }}
		got := 0
		if bad := g.alone("make"); bad != nil {
			got = bad.status
		}
		if got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}
