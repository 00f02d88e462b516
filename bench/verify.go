package bench

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// VerifyOptions say what to compare.
type VerifyOptions struct {
	API     []string
	Key     string
	Ledgers []string      // none: those that GET /v1/links names
	Answers io.Reader     // nil: two sides are compared
	Settle  time.Duration // how long to wait until nothing is owed

	Now  func() time.Time
	Dial Dial
}

// Difference is one thing on which two sides do not agree. Invariant is its
// name in the list of what must hold.
type Difference struct {
	Invariant string `json:"invariant"`
	Text      string `json:"text"`
}

// mostNamed is how many differences and open payments are named; the rest is
// counted.
const mostNamed = 10_000

// Findings are what a comparison found.
type Findings struct {
	Differences []Difference   `json:"differences"`
	Count       int64          `json:"count"` // of differences, named or not
	Open        []string       `json:"open"`  // still owed: not a difference
	OpenCount   int64          `json:"open_count"`
	Payments    int64          `json:"payments"`
	States      map[string]int `json:"states"`
	LedgerLines int64          `json:"ledger_lines"`
	Answers     int64          `json:"answers"`
	Decided     int64          `json:"decided"`    // answers that were final decisions
	Unanswered  map[string]int `json:"unanswered"` // keys without a final answer, by the journal's state
	Uncompared  []string       `json:"uncompared"` // links without a ledger
}

func (f *Findings) differ(invariant, format string, args ...any) {
	f.Count++
	if len(f.Differences) < mostNamed {
		f.Differences = append(f.Differences, Difference{invariant, fmt.Sprintf(format, args...)})
	}
}

func (f *Findings) open(format string, args ...any) {
	f.OpenCount++
	if len(f.Open) < mostNamed {
		f.Open = append(f.Open, fmt.Sprintf(format, args...))
	}
}

// Verify compares what gateways were told, the journal, and the ledgers. It
// only reads. No load should run meanwhile: the sides are read one after the
// other. The key must be for every merchant that uses the links, or others'
// payments in the ledgers look like payments without a journal.
func Verify(ctx context.Context, o VerifyOptions) (*Findings, error) {
	targets, err := parseTargets(o.API)
	if err != nil {
		return nil, err
	}
	client := newClient(targets, o.Key, o.Dial)
	defer client.close()
	merchants, err := client.merchants(ctx)
	if err != nil {
		return nil, err
	}
	found := &Findings{States: map[string]int{}, Unanswered: map[string]int{}}
	journal := newJournalSide(client, found)
	if err := journal.settle(ctx, merchants, o.Now().Add(o.Settle), o.Now); err != nil {
		return nil, fmt.Errorf("reading the journal: %w", err)
	}
	ledgers := &ledgerSide{journal: journal, found: found, covered: map[uint16]bool{}, orphans: map[wire]orphan{}}
	if err := ledgers.readAll(o.Ledgers); err != nil {
		return nil, err
	}
	if err := ledgers.readFiles(); err != nil {
		return nil, err
	}
	ledgers.compare()
	if o.Answers != nil {
		answers := answersSide{journal: journal, found: found}
		if err := answers.read(o.Answers); err != nil {
			return nil, fmt.Errorf("answers: %w", err)
		}
	}
	return found, nil
}

func (s *ledgerSide) readAll(files []string) error {
	if len(files) == 0 {
		for _, l := range s.journal.links {
			if l.Ledger != "" {
				files = append(files, l.Ledger)
			}
		}
	}
	links, err := s.assign(files)
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := s.read(file, links[file]); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.journal.linkOf)) {
		if name != "" && !s.covered[s.journal.linkOf[name]] {
			s.found.Uncompared = append(s.found.Uncompared, name)
		}
	}
	s.found.LedgerLines = s.lines
	return nil
}

// compare holds journal and ledgers against each other.
func (s *ledgerSide) compare() {
	s.found.Payments = int64(len(s.journal.records))
	for i := range s.journal.records {
		r := &s.journal.records[i]
		s.found.States[r.state]++
		if r.owes() {
			s.found.open("%s is %s%s", r.name(), r.state, r.restless())
		}
		s.compareRecord(r)
		s.compareMovements(r)
	}
	orphans := slices.SortedFunc(maps.Keys(s.orphans), func(a, b wire) int {
		return cmp.Or(cmp.Compare(s.orphans[a].file, s.orphans[b].file), cmp.Compare(s.orphans[a].line, s.orphans[b].line))
	})
	for _, name := range orphans {
		o := s.orphans[name]
		invariant, what := "I7", "arrived"
		switch {
		case o.marks&(markApproved|markReversed) == markApproved:
			invariant, what = "I2", "was approved and never reversed"
		case o.marks&markSeen == 0:
			s.found.differ(invariant, "%s:%d: %s names an original with STAN %06d at %010d, and the journal does not know one", o.file, o.line,
				o.mti, name.stan, name.transmitted)
			continue
		}
		s.found.differ(invariant, "%s:%d: %s with STAN %06d at %010d %s, and the journal does not know it", o.file, o.line, o.mti,
			name.stan, name.transmitted, what)
	}
}

// compareRecord holds one payment against its links' ledgers.
func (s *ledgerSide) compareRecord(r *record) {
	live, undone := 0, false
	for i := range r.attempts {
		t := &r.attempts[i]
		undone = undone || t.marks&(markReversed|markUnknownOriginal) != 0
		if t.marks&(markApproved|markReversed) != markApproved {
			continue
		}
		live++
		switch {
		case r.state == stateApproved && i == int(r.winner), r.owes(), r.state == stateWrittenOff:
		default:
			s.found.differ("I2", "the acquirer of link %s approved %s (STAN %06d, ledger line %d) and nobody reversed it; the journal says %s",
				s.journal.linkName(t.wire.link), r.name(), t.wire.stan, t.line, r.state)
		}
		if r.state == stateApproved && r.status == outcomeApproved && t.amount != r.amount {
			s.found.differ("I10", "%s is for %d, the ledger of %s (line %d) has %d", r.name(), r.amount, s.journal.linkName(t.wire.link), t.line, t.amount)
		}
	}
	if live > 1 && !r.owes() {
		s.found.differ("I5", "%s has %d live approvals", r.name(), live)
	}
	if len(r.attempts) == 0 {
		if r.state == stateApproved {
			s.found.differ("I3", "the journal says approved for %s without an attempt", r.name())
		}
		return
	}
	t := &r.attempts[r.winner]
	if !s.covered[t.wire.link] {
		return
	}
	link := s.journal.linkName(t.wire.link)
	switch r.state {
	case stateApproved:
		switch {
		case t.marks&markApproved == 0:
			s.found.differ("I3", "the journal says approved for %s; the ledger of %s has no approval (STAN %06d at %010d)", r.name(), link,
				t.wire.stan, t.wire.transmitted)
		case t.marks&markReversed != 0 && !r.ordered:
			s.found.differ("I3", "the journal says approved for %s; in the ledger of %s it is reversed, and no gateway asked for that", r.name(), link)
		}
	case stateReversed:
		if !undone {
			s.found.differ("I9", "the journal says %s is reversed; the ledger of %s has no reversal of STAN %06d at %010d", r.name(), link,
				t.wire.stan, t.wire.transmitted)
		}
	}
}

// answersSide is what the gateway was told.
type answersSide struct {
	journal *journalSide
	found   *Findings
}

func (s *answersSide) read(r io.Reader) error {
	var l answerLine
	return eachLine(r, func(n int, line []byte) error {
		l = answerLine{}
		if err := json.Unmarshal(line, &l); err != nil {
			return err
		}
		s.found.Answers++
		s.compare(n, &l)
		return nil
	})
}

func (s *answersSide) compare(n int, l *answerLine) {
	at, known := s.journal.byKey[l.Merchant+"\x00"+l.Key]
	if l.Outcome == outcomeUnanswered {
		state := "absent"
		if known {
			state = s.journal.records[at].state
		}
		s.found.Unanswered[state]++
		return
	}
	a := answer{status: l.Status, final: l.Final}
	if !a.decided() {
		return
	}
	s.found.Decided++
	if !known {
		s.found.differ("I3", "answers:%d: key %s was told %s, and the journal does not know it", n, l.Key, l.Outcome)
		return
	}
	r := &s.journal.records[at]
	digest := answerDigest(l)
	if r.answered != 0 && r.answered != digest {
		s.found.differ("I1", "answers:%d: %s was answered in two ways; this one is %d %s", n, r.name(), l.Status, l.Outcome)
	}
	r.answered = digest
	s.compareOutcome(n, l, r)
}

// answerDigest stands for status and body of an answer; never 0.
func answerDigest(l *answerLine) uint64 {
	sum, err := hex.DecodeString(l.Body)
	if err != nil || len(sum) < 8 {
		sum = make([]byte, 8)
	}
	return binary.BigEndian.Uint64(sum) ^ uint64(l.Status)<<1 | 1
}

// compareOutcome holds what was told against what is journalled. An approval
// that is reversed now was reversed by order: an outcome is decided once, and
// nothing but an order undoes an approval.
func (s *answersSide) compareOutcome(n int, l *answerLine, r *record) {
	told := l.Outcome
	agree := true
	switch {
	case l.Status == http.StatusGatewayTimeout, l.Status == http.StatusConflict: // timed out, or cancelled before its answer
		agree = r.state == stateReversing || r.state == stateReversed || r.state == stateException || r.state == stateWrittenOff
	case told == outcomeApproved || told == outcomePartially:
		agree = r.status == told && r.state != stateOpen
	case told == outcomeDeclined:
		agree = r.status == told && r.state != stateApproved
	}
	switch {
	case !agree:
		s.found.differ("I3", "answers:%d: %s was told %s; the journal says %s, %s", n, r.name(), told, r.status, r.state)
	case l.ID != "" && l.ID != r.id:
		s.found.differ("I1", "answers:%d: %s was answered with id %s", n, r.name(), l.ID)
	case l.Amount != r.amount && told != outcomePartially:
		s.found.differ("I1", "answers:%d: %s was asked for %d, the journal has %d", n, r.name(), l.Amount, r.amount)
	}
}

// Print writes the findings for a person; the last line is the verdict.
func (f *Findings) Print(w io.Writer) error {
	var b strings.Builder
	for _, d := range f.Differences {
		fmt.Fprintf(&b, "difference %s: %s\n", d.Invariant, d.Text)
	}
	for _, o := range f.Open {
		fmt.Fprintf(&b, "open: %s\n", o)
	}
	for _, name := range f.Uncompared {
		fmt.Fprintf(&b, "not compared: link %s has no ledger\n", name)
	}
	fmt.Fprintf(&b, "%d payments (%s), %d ledger lines, %d answers of which %d decided", f.Payments, counts(f.States), f.LedgerLines, f.Answers, f.Decided)
	if len(f.Unanswered) > 0 {
		fmt.Fprintf(&b, "; never answered, by journal: %s", counts(f.Unanswered))
	}
	switch {
	case f.Count > 0:
		fmt.Fprintf(&b, "\nFAILED: %d differences, %d open; the first: %s: %s\n", f.Count, f.OpenCount, f.Differences[0].Invariant, f.Differences[0].Text)
	default:
		fmt.Fprintf(&b, "\nall sides agree; %d open\n", f.OpenCount)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func counts(by map[string]int) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(by)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, by[name]))
	}
	return strings.Join(parts, ", ")
}
