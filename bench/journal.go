package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// States of a payment as the API names them; the verifier needs no others.
const (
	stateOpen       = "open"
	stateApproved   = "approved"
	stateReversing  = "reversing"
	stateNotSent    = "not_sent"
	stateReversed   = "reversed"
	stateException  = "exception"
	stateWrittenOff = "written_off"
	stateRefundOnly = "refund_only"
)

// listedAuthorization is an element of GET /v1/authorizations.
type listedAuthorization struct {
	ID        string            `json:"id"`
	Merchant  string            `json:"merchant"`
	Status    string            `json:"status"`
	State     string            `json:"state"`
	Link      string            `json:"link"`
	STAN      string            `json:"stan"`
	Amount    listedAmount      `json:"amount"`
	Code      string            `json:"response_code"`
	Key       string            `json:"idempotency_key"`
	Attempts  []listedAttempt   `json:"attempts"`
	Reversals []json.RawMessage `json:"reversals"`
	Movements []listedMovement  `json:"operations"`
}

type listedAttempt struct {
	Link        string `json:"link"`
	STAN        string `json:"stan"`
	RRN         string `json:"rrn"`
	Transmitted string `json:"transmitted"`
	MTI         string `json:"mti"`
	Result      string `json:"result"`
}

// listedAmount is {"value","currency"}, or the bare value.
type listedAmount int64

// UnmarshalJSON implements json.Unmarshaler.
func (a *listedAmount) UnmarshalJSON(b []byte) error {
	if bytes.HasPrefix(b, []byte("{")) {
		var full struct {
			Value int64 `json:"value"`
		}
		err := json.Unmarshal(b, &full)
		*a = listedAmount(full.Value)
		return err
	}
	return json.Unmarshal(b, (*int64)(a))
}

// listedLink is an element of GET /v1/links.
type listedLink struct {
	Name   string `json:"name"`
	Ledger string `json:"ledger"`
	Files  string `json:"clearing"` // directory of clearing files
	Owed   int64  `json:"reversals_owed"`
	Moving int64  `json:"operations_owed"`
}

// wire names one transmission on one link: what DE 90 names, and what a ledger
// and a journal have in common.
type wire struct {
	link        uint16
	stan        uint32
	transmitted uint32
}

// What the ledger says about an attempt.
type marks uint8

const (
	markSeen            marks = 1 << iota // the request arrived
	markApproved                          // and was approved
	markReversed                          // a reversal of it was accepted
	markUnknownOriginal                   // a reversal of it found nothing
)

// attempt is one attempt of a payment in the journal, with the ledger's marks.
// It is small: a million payments have a million of them.
type attempt struct {
	wire   wire
	rrn    rrn
	amount int64 // as the ledger has it, once approved
	undone int64 // by reversals, in the ledger
	line   uint32
	marks  marks
}

type rrn [12]byte

func toRRN(s string) (r rrn) {
	copy(r[:], strings.TrimSpace(s))
	return r
}

// record is one payment of the journal.
type record struct {
	id       string
	key      string // with its merchant
	attempts []attempt
	amount   int64
	answered uint64 // digest of the first decided answer; 0: none yet
	status   string // from names: few different strings
	state    string
	winner   uint8   // the attempt whose answer the payment shows
	ordered  bool    // the gateway ordered a reversal
	moving   bool    // an operation on it is not at rest
	moved    []int32 // its operations
}

// owes reports whether the payment is not at rest.
func (r *record) owes() bool {
	return r.state == stateOpen || r.state == stateReversing || r.state == stateException || r.moving
}

func (r *record) name() string {
	_, key, _ := strings.Cut(r.key, "\x00")
	return fmt.Sprintf("payment %s (key %s)", r.id, key)
}

// place says where an attempt's record is.
type place struct {
	record  int32
	attempt uint8
}

// journalSide is the switch's own account of what happened.
type journalSide struct {
	client  *client
	links   []listedLink
	linkOf  map[string]uint16
	records []record
	byKey   map[string]int32
	byID    map[string]int32
	byWire  map[wire]place
	byRRN   map[rrnKey]int32

	movements  []movement
	movementOf map[string]int32 // by id
	byMovement map[wire]int32
	names      map[string]string // one copy of each state's name
	found      *Findings
}

type rrnKey struct {
	link uint16
	rrn  rrn
}

func newJournalSide(c *client, found *Findings) *journalSide {
	return &journalSide{
		client: c, linkOf: map[string]uint16{}, byKey: map[string]int32{}, byID: map[string]int32{}, byWire: map[wire]place{},
		movementOf: map[string]int32{}, byMovement: map[wire]int32{},
		byRRN: map[rrnKey]int32{}, names: map[string]string{}, found: found,
	}
}

// readLinks asks for the links and says how many reversals they owe.
func (s *journalSide) readLinks(ctx context.Context) (owed int64, err error) {
	var page struct {
		Data []listedLink `json:"data"`
	}
	if err := s.client.get(ctx, "/v1/links", &page); err != nil {
		return 0, err
	}
	s.links = page.Data
	for _, l := range s.links {
		s.link(l.Name)
		owed += l.Owed + l.Moving
	}
	return owed, nil
}

// link numbers the links in the order in which they are met.
func (s *journalSide) link(name string) uint16 {
	n, known := s.linkOf[name]
	if !known {
		n = uint16(len(s.linkOf))
		s.linkOf[name] = n
	}
	return n
}

func (s *journalSide) linkName(n uint16) string {
	for name, number := range s.linkOf {
		if number == n {
			return name
		}
	}
	return "?"
}

// pageSize is the API's largest page.
const pageSize = 1000

// read lists all authorizations of a merchant.
func (s *journalSide) read(ctx context.Context, merchant string) error {
	cursor := ""
	for {
		query := url.Values{"merchant": {merchant}, "limit": {strconv.Itoa(pageSize)}}
		if cursor != "" {
			query.Set("cursor", cursor)
		}
		var page struct {
			Data    []listedAuthorization `json:"data"`
			HasMore bool                  `json:"has_more"`
			Next    string                `json:"next"`
		}
		if err := s.client.get(ctx, "/v1/authorizations?"+query.Encode(), &page); err != nil {
			return err
		}
		for i := range page.Data {
			s.add(merchant, &page.Data[i])
		}
		if !page.HasMore {
			return nil
		}
		if page.Next == "" || page.Next == cursor {
			return fmt.Errorf("GET /v1/authorizations: %w: a page that does not lead on", ErrAnswer)
		}
		cursor = page.Next
	}
}

// add takes a payment in. One that is known already (a page may move while the
// list is read, and what is not at rest is read again) is brought up to date.
func (s *journalSide) add(merchant string, a *listedAuthorization) {
	at, known := s.byID[a.ID]
	if !known {
		at = int32(len(s.records))
		s.records = append(s.records, record{id: a.ID, key: merchant + "\x00" + a.Key})
		s.byID[a.ID] = at
	}
	r := &s.records[at]
	r.status, r.state, r.amount = s.intern(a.Status), s.intern(a.State), int64(a.Amount)
	// A payment that ended without a byte sent gave its key back: whoever has it
	// now is what the gateway was told of.
	if holder, held := s.byKey[r.key]; !held || s.records[holder].state == stateNotSent {
		s.byKey[r.key] = at
	}
	r.ordered = len(a.Reversals) > 0
	for i := len(r.attempts); i < len(a.Attempts) && i < 255; i++ {
		s.addAttempt(at, &a.Attempts[i])
	}
	s.addMovements(at, a)
	r = &s.records[at]
	r.winner = uint8(max(0, len(r.attempts)-1))
	for i, t := range r.attempts {
		if t.wire.link == s.link(a.Link) && t.wire.stan == number(a.STAN) {
			r.winner = uint8(i)
		}
	}
}

func (s *journalSide) addAttempt(at int32, a *listedAttempt) {
	r := &s.records[at]
	t := attempt{wire: wire{s.link(a.Link), number(a.STAN), number(a.Transmitted)}, rrn: toRRN(a.RRN)}
	r.attempts = append(r.attempts, t)
	if other, taken := s.byWire[t.wire]; taken {
		s.found.differ("I14", "%s and %s share STAN %06d at %010d on link %s", r.name(), s.records[other.record].name(),
			t.wire.stan, t.wire.transmitted, a.Link)
		return
	}
	s.byWire[t.wire] = place{at, uint8(len(r.attempts) - 1)}
	named := rrnKey{t.wire.link, t.rrn}
	if other, taken := s.byRRN[named]; taken && other != at && t.rrn != (rrn{}) {
		s.found.differ("I14", "%s and %s share RRN %s on link %s", r.name(), s.records[other].name(), a.RRN, a.Link)
		return
	}
	s.byRRN[named] = at
}

func (s *journalSide) intern(name string) string {
	if one, known := s.names[name]; known {
		return one
	}
	s.names[name] = name
	return name
}

// number reads up to ten digits; anything else is a value no message has.
func number(digits string) uint32 {
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil {
		return 1<<32 - 1
	}
	return uint32(n)
}

// settle reads the journal and waits until nothing is owed, or the time is
// over: what is then not at rest is reported as open.
func (s *journalSide) settle(ctx context.Context, merchants []string, until time.Time, now func() time.Time) error {
	for {
		owed, err := s.readLinks(ctx)
		if err != nil {
			return err
		}
		if owed == 0 || !now().Before(until) {
			break
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
	for _, m := range merchants {
		if err := s.read(ctx, m); err != nil {
			return err
		}
	}
	for i := range s.records {
		for s.records[i].owes() && s.records[i].state != stateException && now().Before(until) {
			if err := pause(ctx); err != nil {
				return err
			}
			if err := s.readAgain(ctx, i); err != nil {
				return err
			}
		}
	}
	return nil
}

// readAgain brings one payment up to date.
func (s *journalSide) readAgain(ctx context.Context, i int) error {
	merchant, key, _ := strings.Cut(s.records[i].key, "\x00")
	if key == "" { // the charge of a correction has none
		return s.read(ctx, merchant)
	}
	var page struct {
		Data []listedAuthorization `json:"data"`
	}
	query := url.Values{"merchant": {merchant}, "idempotency_key": {key}}
	if err := s.client.get(ctx, "/v1/authorizations?"+query.Encode(), &page); err != nil {
		return err
	}
	for j := range page.Data {
		s.add(merchant, &page.Data[j])
	}
	return nil
}

func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(askAgain):
		return nil
	}
}
