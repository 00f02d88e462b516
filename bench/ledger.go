package bench

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// ErrLedger is a ledger that cannot be compared.
var ErrLedger = errors.New("ledger")

// ledgerLine is one message as a simulator saw and answered it.
type ledgerLine struct {
	MTI         string `json:"mti"`
	STAN        string `json:"stan"`
	RRN         string `json:"rrn"`
	Transmitted string `json:"transmitted"`
	Amount      int64  `json:"amount"`
	Decision    string `json:"decision"`
	Original    *struct {
		STAN        string `json:"stan"`
		Transmitted string `json:"transmitted"`
		Local       string `json:"local"` // DE 12, where DE 56 names it
	} `json:"original"`
}

// Decisions of a simulator that the comparison rests on.
const (
	decidedApproved        = "approved"
	decidedReversed        = "reversed"
	decidedUnknownOriginal = "unknown_original"
)

// asks reports whether the line is a request for money: an authorization or a
// financial request, not an advice, a reversal or a network message. A
// zero amount verifies an account; no authorization has one.
func (l *ledgerLine) asks() bool {
	return len(l.MTI) == 4 && (l.MTI[1] == '1' || l.MTI[1] == '2') && l.MTI[2] == '0' && l.Amount != 0 && l.Decision != "refunded"
}

// undoes reports whether the line is a reversal that was understood.
func (l *ledgerLine) undoes() bool {
	return l.Original != nil && len(l.MTI) == 4 && l.MTI[1] == '4' && (l.Decision == decidedReversed || l.Decision == decidedUnknownOriginal)
}

// repeats reports whether the sender marked the line as a repeat.
func (l *ledgerLine) repeats() bool { return len(l.MTI) == 4 && (l.MTI[3] == '1' || l.MTI[3] == '3') }

// eachLine reads JSON lines. A last line without its end is one that was being
// written when its writer died; it was never answered and is passed over.
func eachLine(r io.Reader, each func(number int, line []byte) error) error {
	const longest = 1 << 20
	lines := bufio.NewReaderSize(r, longest)
	for n := 1; ; n++ {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if len(line) <= 1 {
			continue
		}
		if err := each(n, line); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
}

// ledgerSide is the acquirers' account. Its marks are put on the journal's
// attempts; only what the journal does not know is kept here.
type ledgerSide struct {
	journal *journalSide
	found   *Findings
	covered map[uint16]bool // links that have a ledger
	orphans map[wire]orphan
	lines   int64
}

type orphan struct {
	file   string
	line   int
	mti    string
	amount int64
	marks  marks
}

// assign finds each file's link: by the address the switch itself names, by
// the file's name, or, for a copy under another name, by what is in it.
func (s *ledgerSide) assign(files []string) (map[string]uint16, error) {
	out := map[string]uint16{}
	taken := map[uint16]bool{}
	for _, file := range files {
		for _, l := range s.journal.links {
			if n := s.journal.link(l.Name); !taken[n] && (l.Ledger == file || filepath.Base(file) == l.Name+".jsonl") {
				out[file], taken[n] = n, true
				break
			}
		}
	}
	for _, file := range files {
		if _, known := out[file]; known {
			continue
		}
		best, err := s.recognise(file, taken)
		if err != nil {
			return nil, err
		}
		out[file], taken[best] = best, true
	}
	return out, nil
}

// recognise picks the link whose attempts the file's first lines match best.
func (s *ledgerSide) recognise(file string, taken map[uint16]bool) (uint16, error) {
	const sample = 5000
	votes := map[uint16]int{}
	seen := 0
	err := readLedger(file, func(_ int, l *ledgerLine) error {
		if !l.asks() || seen == sample {
			return nil
		}
		seen++
		for _, n := range s.journal.linkOf {
			at, known := s.journal.byWire[wire{n, number(l.STAN), number(l.Transmitted)}]
			if known && s.journal.records[at.record].attempts[at.attempt].rrn == toRRN(l.RRN) {
				votes[n]++
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	best, most := uint16(0), -1
	for n := range uint16(len(s.journal.linkOf)) {
		if !taken[n] && votes[n] > most {
			best, most = n, votes[n]
		}
	}
	if most < 0 {
		return 0, fmt.Errorf("%w %s: there are more ledgers than links", ErrLedger, file)
	}
	return best, nil
}

func readLedger(file string, each func(number int, l *ledgerLine) error) error {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrLedger, err)
	}
	defer func() { _ = f.Close() }()
	var l ledgerLine
	err = eachLine(f, func(n int, line []byte) error {
		l = ledgerLine{}
		if err := json.Unmarshal(line, &l); err != nil {
			return err
		}
		return each(n, &l)
	})
	if err != nil {
		return fmt.Errorf("%w %s: %w", ErrLedger, file, err)
	}
	return nil
}

// read marks the journal's attempts with what a ledger says.
func (s *ledgerSide) read(file string, link uint16) error {
	s.covered[link] = true
	return readLedger(file, func(n int, l *ledgerLine) error {
		s.lines++
		switch {
		case s.movement(file, n, link, l):
		case l.asks():
			s.request(file, n, link, l)
		case l.undoes():
			s.reversal(file, n, link, l)
		}
		return nil
	})
}

func (s *ledgerSide) request(file string, n int, link uint16, l *ledgerLine) {
	name := wire{link, number(l.STAN), number(l.Transmitted)}
	at, known := s.journal.byWire[name]
	if !known {
		o := s.orphans[name]
		o.file, o.line, o.mti, o.amount = file, n, l.MTI, l.Amount
		o.marks |= markSeen
		if l.Decision == decidedApproved {
			o.marks |= markApproved
		}
		s.orphans[name] = o
		return
	}
	r := &s.journal.records[at.record]
	t := &r.attempts[at.attempt]
	if t.marks&markSeen != 0 && !l.repeats() {
		s.found.differ("I14", "%s:%d: STAN %s at %s came twice (first on line %d), %s", file, n, l.STAN, l.Transmitted, t.line, r.name())
	}
	if l.RRN != "" && t.rrn != toRRN(l.RRN) {
		s.found.differ("I14", "%s:%d: RRN %s, the journal has %s for STAN %s at %s, %s", file, n, l.RRN, t.rrn[:], l.STAN, l.Transmitted, r.name())
	}
	t.marks |= markSeen
	t.line = uint32(n)
	if l.Decision == decidedApproved {
		t.marks |= markApproved
		t.amount = l.Amount
	}
}

func (s *ledgerSide) reversal(file string, n int, link uint16, l *ledgerLine) {
	mark := markReversed
	if l.Decision == decidedUnknownOriginal {
		mark = markUnknownOriginal
	}
	name := wire{link, number(l.Original.STAN), number(l.Original.Transmitted)}
	if at, known := s.journal.byWire[name]; known {
		t := &s.journal.records[at.record].attempts[at.attempt]
		t.marks |= mark
		if mark == markReversed {
			t.undone += l.Amount
		}
		return
	}
	// DE 56 of 1993 and 2003 names its original by the local time instead of
	// DE 7, and a host that never saw the original may show zeros, or that time,
	// which may be a second off. The RRN, which is the payment's, finds it there.
	// That hides nothing: an approval that such a reversal should have undone is
	// still live, and named.
	unnamed := l.Original.Transmitted == "" || name.transmitted == 0 || strings.HasSuffix(l.Original.Local, l.Original.Transmitted)
	if at, known := s.journal.byRRN[rrnKey{link, toRRN(l.RRN)}]; known && unnamed {
		r := &s.journal.records[at]
		for i := range r.attempts {
			if t := &r.attempts[i]; t.wire.link == link && t.wire.stan == name.stan {
				t.marks |= mark
				return
			}
		}
	}
	o := s.orphans[name]
	if o.file == "" {
		o.file, o.line, o.mti = file, n, l.MTI
	}
	o.marks |= mark
	s.orphans[name] = o
}
