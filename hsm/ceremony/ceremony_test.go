package ceremony

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"authswitch/hsm/engine"
	"authswitch/hsm/key"
	"authswitch/hsm/tr31"
)

var epoch = time.Date(2026, 11, 26, 9, 0, 0, 0, time.UTC)

func newEngine(t testing.TB) *engine.Engine {
	t.Helper()
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	k, err := key.New(key.AES, b)
	if err != nil {
		t.Fatal(err)
	}
	lmk, err := tr31.New(tr31.D, &k)
	if err != nil {
		t.Fatal(err)
	}
	e, err := engine.New(lmk, rand.Reader, 1)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func request(components int) Request {
	return Request{
		ID: "c1", Label: "zone key", Bytes: 16, Components: components,
		Attributes: engine.Attributes{Usage: tr31.BlockProtection, Algorithm: key.TDES, Mode: tr31.EncryptDecrypt, Exportability: tr31.NotAtAll},
	}
}

// Published components are nobody's: these are counted up, with odd parity left
// to the combination.
func component(n byte) key.Secret {
	s := make(key.Secret, 16)
	for i := range s {
		s[i] = n*17 + byte(i)*29
	}
	return s
}

func kcvOf(t testing.TB, s key.Secret) []byte {
	t.Helper()
	k, err := key.New(key.TDES, s)
	if err != nil {
		t.Fatal(err)
	}
	v, err := engine.KCV(&k)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(v.Bytes())
}

// officers of the tests.
const (
	alice = "alice"
	bob   = "bob"
	carol = "carol"
	dave  = "dave"
)

// room is a ceremony with what is around it.
type room struct {
	t   *testing.T
	c   Ceremony
	e   *engine.Engine
	now time.Time
}

func newRoom(t *testing.T) *room { return &room{t: t, e: newEngine(t), now: epoch} }

func (r *room) do(e Event) Decision {
	e.At = r.now
	d := r.c.Decide(e, r.e.Combine)
	r.c.Apply(d)
	return d
}

func (r *room) start(components int) Decision {
	return r.do(Event{Step: Start, Officer: alice, Request: request(components)})
}

func (r *room) bring(officer string, n byte) Decision {
	s := component(n)
	return r.do(Event{Step: Component, Officer: officer, Component: s, KCV: kcvOf(r.t, s)})
}

func (r *room) confirm(officer string) Decision {
	v, _ := r.c.CheckValue()
	return r.do(Event{Step: Confirm, Officer: officer, KCV: v.Bytes()})
}

// to brings a ceremony of two components into a state.
func (r *room) to(s State) {
	r.t.Helper()
	if s == Idle {
		return
	}
	r.start(2)
	switch s {
	case Aborted:
		r.do(Event{Step: Abort, Officer: bob})
	case Combined, Confirmed, Done:
		r.bring(alice, 1)
		r.bring(bob, 2)
		if s != Combined {
			r.confirm(alice)
		}
		if s == Done {
			r.confirm(bob)
		}
	}
	if r.c.State() != s {
		r.t.Fatalf("state %s, want %s", r.c.State(), s)
	}
}

// wiped says whether no component is left in a ceremony.
func wiped(c *Ceremony) bool {
	return !slices.ContainsFunc(c.parts, func(p part) bool { return p.secret != nil })
}

// Every state meets every step with everything there is to say of it: what the
// table has is what happens, and what it does not have changes nothing.
func TestEveryTransition(t *testing.T) {
	in := map[string]bool{}
	for _, r := range rules() {
		name := fmt.Sprint(r.state, r.step, r.finding)
		if in[name] {
			t.Errorf("%s, %s, %s stands in the table twice", r.state, r.step, r.finding)
		}
		in[name] = true
	}
	checked := 0
	for s := Idle; s <= Aborted; s++ {
		for step := Start; step <= Tick; step++ {
			for f := Fine; f <= BadRequest; f++ {
				next, err := look(s, step, f)
				running := s == Collecting || s == Combined || s == Confirmed
				switch {
				case !in[fmt.Sprint(s, step, f)]:
					if next != s || err == nil && step != Tick {
						t.Errorf("%s, %s, %s is not in the table, and leads to %s, %v", s, step, f, next, err)
					}
				case next == Done && (s != Confirmed || step != Confirm || f != Fine):
					t.Errorf("%s, %s, %s makes a key", s, step, f)
				case next == Aborted && err == nil && step != Abort:
					t.Errorf("%s, %s, %s aborts without a reason", s, step, f)
				case next != Aborted && err != nil:
					t.Errorf("%s, %s, %s is in the table as refused, and goes on to %s", s, step, f, next)
				case running && f == TimeGone && (next != Aborted || !errors.Is(err, ErrTime)):
					t.Errorf("%s, %s is too late, and leads to %s, %v", s, step, next, err)
				}
				if running && f == TimeGone && next != Aborted {
					t.Errorf("%s, %s outlives its time", s, step)
				}
				checked++
			}
		}
	}
	if want := 6 * 5 * 9; checked != want {
		t.Errorf("%d transitions looked at, %d there are", checked, want)
	}
}

// Every row is reached by doing it, and none leaves a component behind.
func TestEveryRowHappens(t *testing.T) {
	short, weak := component(2)[:8], component(1)
	at := func(d time.Duration) func(*room) { return func(r *room) { r.now = r.now.Add(d) } }
	late := at(Life)
	none := func(*room) {}
	bringing := func(officer string, s key.Secret, kcv []byte) Event {
		return Event{Step: Component, Officer: officer, Component: s, KCV: kcv}
	}
	good, wrong := kcvOf(t, component(2)), []byte{1, 2, 3}
	shown := func(r *room) []byte { v, _ := r.c.CheckValue(); return v.Bytes() }
	begin := Event{Step: Start, Officer: carol, Request: request(2)}
	bad := begin
	bad.Request.Components = 1
	type try struct {
		from   State
		before func(*room)
		event  func(*room) Event
		want   rule
	}
	is := func(e Event) func(*room) Event { return func(*room) Event { return e } }
	confirms := func(officer string, kcv func(*room) []byte) func(*room) Event {
		return func(r *room) Event { return Event{Step: Confirm, Officer: officer, KCV: kcv(r)} }
	}
	not := func(*room) []byte { return wrong }
	one := func(r *room) { r.bring(alice, 1) }
	tries := []try{
		{Idle, none, is(begin), rule{Idle, Start, Fine, Collecting, nil}},
		{Done, none, is(begin), rule{Done, Start, Fine, Collecting, nil}},
		{Aborted, none, is(begin), rule{Aborted, Start, Fine, Collecting, nil}},
		{Collecting, none, is(bringing(bob, component(2), good)), rule{Collecting, Component, Fine, Collecting, nil}},
		{Collecting, one, is(bringing(bob, component(2), good)), rule{Collecting, Component, Last, Combined, nil}},
		{Combined, none, confirms(alice, shown), rule{Combined, Confirm, Fine, Confirmed, nil}},
		{Confirmed, none, confirms(bob, shown), rule{Confirmed, Confirm, Fine, Done, nil}},
		{Collecting, one, is(bringing(alice, component(2), good)), rule{Collecting, Component, SameOfficer, Aborted, ErrSame}},
		{Collecting, none, is(bringing(bob, component(2), wrong)), rule{Collecting, Component, WrongValue, Aborted, ErrCheckValue}},
		{Collecting, none, is(bringing(bob, component(2), good[:1])), rule{Collecting, Component, WrongValue, Aborted, ErrCheckValue}},
		{Collecting, none, is(bringing(bob, component(2), nil)), rule{Collecting, Component, WrongValue, Aborted, ErrCheckValue}},
		{Collecting, none, is(bringing(bob, short, good)), rule{Collecting, Component, WrongLength, Aborted, ErrLength}},
		{Collecting, none, is(bringing(bob, nil, good)), rule{Collecting, Component, WrongLength, Aborted, ErrLength}},
		{Collecting, one, is(bringing(bob, weak, kcvOf(t, weak))), rule{Collecting, Component, NoKey, Aborted, ErrCombine}},
		{Collecting, one, confirms(alice, func(*room) []byte { return nil }), rule{Collecting, Confirm, WrongValue, Aborted, ErrAlone}},
		{Collecting, none, confirms(alice, func(*room) []byte { return nil }), rule{Collecting, Confirm, Outsider, Aborted, ErrAlone}},
		{Combined, none, confirms(dave, shown), rule{Combined, Confirm, Outsider, Aborted, ErrOutsider}},
		{Combined, none, confirms(alice, not), rule{Combined, Confirm, WrongValue, Aborted, ErrCheckValue}},
		{Confirmed, none, confirms(alice, shown), rule{Confirmed, Confirm, SameOfficer, Aborted, ErrSame}},
		{Confirmed, none, confirms(dave, shown), rule{Confirmed, Confirm, Outsider, Aborted, ErrOutsider}},
		{Confirmed, none, confirms(bob, not), rule{Confirmed, Confirm, WrongValue, Aborted, ErrCheckValue}},
		// What is not in the table.
		{Idle, none, is(bad), rule{Idle, Start, BadRequest, Idle, ErrRequest}},
		{Done, none, confirms(alice, shown), rule{Done, Confirm, Fine, Done, ErrNone}},
		{Idle, none, is(Event{Step: Abort, Officer: alice}), rule{Idle, Abort, Fine, Idle, ErrNone}},
		{Aborted, none, is(bringing(bob, component(2), good)), rule{Aborted, Component, Fine, Aborted, ErrNone}},
		{Collecting, none, is(begin), rule{Collecting, Start, Fine, Collecting, ErrRunning}},
		{Combined, none, is(bringing(carol, component(3), good)), rule{Combined, Component, Fine, Combined, ErrOrder}},
		{Combined, at(Life - 1), is(Event{Step: Tick}), rule{Combined, Tick, Fine, Combined, nil}},
		{Done, late, is(Event{Step: Tick}), rule{Done, Tick, Fine, Done, nil}},
	}
	for _, s := range []State{Collecting, Combined, Confirmed} {
		tries = append(tries, try{s, none, is(Event{Step: Abort, Officer: carol}), rule{s, Abort, Fine, Aborted, nil}})
		for step := Start; step <= Tick; step++ {
			e := Event{Step: step, Officer: bob, Request: request(2), Component: component(2), KCV: good}
			tries = append(tries, try{s, late, is(e), rule{s, step, TimeGone, Aborted, ErrTime}})
		}
	}
	seen := map[string]bool{}
	for _, x := range tries {
		w := x.want
		name := fmt.Sprintf("%s %s %s", w.state, w.step, w.finding)
		r := newRoom(t)
		r.to(x.from)
		x.before(r)
		d := r.do(x.event(r))
		if d.Finding != w.finding || d.Next != w.next || !errors.Is(d.Err, w.err) || w.err == nil && d.Err != nil || r.c.State() != w.next {
			t.Errorf("%s: found %s, to %s, %v; want %s, %v", name, d.Finding, d.Next, d.Err, w.next, w.err)
		}
		if w.next != Collecting && !wiped(&r.c) {
			t.Errorf("%s: a component is left", name)
		}
		if _, made := r.c.Key(); made != (w.next == Done) {
			t.Errorf("%s: key made: %v", name, made)
		}
		seen[name] = true
	}
	for _, row := range rules() {
		name := fmt.Sprintf("%s %s %s", row.state, row.step, row.finding)
		// One alone who shows a value is not possible: there is none to show.
		if !seen[name] && name != "collecting confirm fine" {
			t.Errorf("%s is in the table and nobody did it", name)
		}
	}
}

func TestCeremonyMakesTheKey(t *testing.T) {
	for n := 2; n <= 3; n++ {
		r := newRoom(t)
		r.start(n)
		names := []string{alice, bob, carol}[:n]
		sum := make([]byte, 16)
		for i, officer := range names {
			if _, shown := r.c.CheckValue(); shown {
				t.Fatal("a check value before all components are there")
			}
			s := component(byte(i + 1))
			for j := range sum {
				sum[j] ^= s[j]
			}
			if d := r.bring(officer, byte(i+1)); d.Err != nil {
				t.Fatal(d.Err)
			}
		}
		r.confirm(names[n-1])
		if _, ok := r.c.Key(); ok {
			t.Fatal("a key after one confirmation")
		}
		r.confirm(names[0])
		sealed, ok := r.c.Key()
		if !ok {
			t.Fatal("no key")
		}
		k, err := key.New(key.TDES, sum)
		if err != nil {
			t.Fatal(err)
		}
		k.FixParity()
		want, err := engine.KCV(&k)
		if err != nil {
			t.Fatal(err)
		}
		if sealed.Check != want {
			t.Errorf("%d components: KCV %s, want %s", n, sealed.Check, want)
		}
		opened, err := r.e.Load(sealed.Block)
		if err != nil || opened.CheckValue() != want {
			t.Errorf("%d components: the block does not open: %v", n, err)
		}
		script, over := r.c.Transcript()
		if !over || script.Result != "done" || script.CheckValue != want.String() || script.Block != string(sealed.Block) || len(script.Steps) != n+3 {
			t.Errorf("transcript %+v", script)
		}
		text := fmt.Sprintf("%+v %v", script, r.c.Components())
		for i := range names {
			if strings.Contains(strings.ToLower(text), hex.EncodeToString(component(byte(i+1)))) {
				t.Error("a component is in the transcript")
			}
		}
	}
}

func TestRehearsalMakesNoKey(t *testing.T) {
	r := newRoom(t)
	q := request(2)
	q.Rehearsal = true
	r.do(Event{Step: Start, Officer: alice, Request: q})
	r.bring(alice, 1)
	r.bring(bob, 2)
	r.confirm(alice)
	if d := r.confirm(bob); d.Err != nil || d.Next != Done {
		t.Fatalf("%s, %v", d.Next, d.Err)
	}
	if _, made := r.c.Key(); made {
		t.Error("a rehearsal made a key")
	}
	if script, _ := r.c.Transcript(); script.Block != "" || !script.Rehearsal || script.CheckValue == "" {
		t.Errorf("transcript %+v", script)
	}
}

// A decision that could not be written down is as if it had not been asked.
func TestDecideChangesNothing(t *testing.T) {
	r := newRoom(t)
	r.to(Collecting)
	r.bring(alice, 1)
	for range 3 {
		s := component(2)
		d := r.c.Decide(Event{Step: Component, Officer: bob, Component: s, KCV: kcvOf(t, s), At: r.now}, r.e.Combine)
		if d.Finding != Last || r.c.State() != Collecting || len(r.c.parts) != 1 {
			t.Fatalf("%s; state %s, %d components", d.Finding, r.c.State(), len(r.c.parts))
		}
	}
}

func TestRequestsThatCannotBe(t *testing.T) {
	for name, change := range map[string]func(*Request){
		"no label":      func(r *Request) { r.Label = "" },
		"long label":    func(r *Request) { r.Label = strings.Repeat("x", 101) },
		"one component": func(r *Request) { r.Components = 1 },
		"four":          func(r *Request) { r.Components = 4 },
		"single length": func(r *Request) { r.Bytes = 8 },
		"odd length":    func(r *Request) { r.Bytes = 17 },
		"usage":         func(r *Request) { r.Attributes.Usage = 'Z'<<8 | '9' },
		"mode":          func(r *Request) { r.Attributes.Mode = tr31.SignOnly },
		"AES as DES":    func(r *Request) { r.Attributes.Algorithm = key.AES; r.Bytes = 8 },
	} {
		r := newRoom(t)
		q := request(2)
		change(&q)
		if d := r.do(Event{Step: Start, Officer: alice, Request: q}); !errors.Is(d.Err, ErrRequest) || r.c.State() != Idle {
			t.Errorf("%s: %v", name, d.Err)
		}
	}
}
