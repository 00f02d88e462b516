package audit

import (
	"bytes"
	"crypto/ecdsa"
	"fmt"
	"slices"
)

// FaultKind is what somebody did to a book.
type FaultKind string

// The kinds.
const (
	Deleted    FaultKind = "deleted"
	Edited     FaultKind = "edited"
	Reordered  FaultKind = "reordered"
	Repeated   FaultKind = "repeated"
	Truncated  FaultKind = "truncated"
	Forged     FaultKind = "forged"     // a checkpoint or head whose signature is not the key's
	Unsigned   FaultKind = "unsigned"   // a stretch without the checkpoints that must be there
	Unreadable FaultKind = "unreadable" // a line that is no entry
)

// Fault is one thing found wrong, with the entry and the line it is about.
type Fault struct {
	Kind     FaultKind
	Sequence uint64 // 0 when the line has none
	Line     int    // 0 when there is no line
	Detail   string
}

// String is one line for a person.
func (f Fault) String() string {
	where := ""
	if f.Line > 0 {
		where = fmt.Sprintf(" (line %d)", f.Line)
	}
	if f.Sequence == 0 {
		return fmt.Sprintf("%s%s: %s", f.Kind, where, f.Detail)
	}
	return fmt.Sprintf("entry %d %s%s: %s", f.Sequence, f.Kind, where, f.Detail)
}

// VerifyOptions are what a book is held against.
type VerifyOptions struct {
	Public  *ecdsa.PublicKey // nil: signatures are not checked, and the report says so
	After   *Place           // the last entry of the file before this one
	Partial bool             // the first entry may be a later one than 1
	Known   []Place          // places noted elsewhere: the head file, a transcript, another system's log
}

// Report is what a book holds.
type Report struct {
	Entries     int
	First       uint64
	Last        Place
	Checkpoints int
	Signed      uint64 // the last entry under a checkpoint
	Unsigned    int    // entries after it
	Checked     bool   // signatures were checked
	State       string // of the last checkpoint
}

// Verify reads the lines of one file. Faults come in the order of the book.
func Verify(content []byte, o VerifyOptions) (Report, []Fault) {
	whole, torn := split(content)
	report, faults := verify(whole, o)
	if len(torn) > 0 {
		faults = append(faults, Fault{
			Kind: Truncated, Sequence: report.Last.Sequence + 1, Line: bytes.Count(whole, []byte{'\n'}) + 1,
			Detail: fmt.Sprintf("the last line is unfinished after %d bytes: a crash while writing, or cut by hand; hsmd cuts such a line off at its next start and says so", len(torn)),
		})
	}
	return report, faults
}

func parseHead(text []byte, public *ecdsa.PublicKey) (*record, *Fault) {
	r, err := read(bytes.TrimSuffix(text, []byte("\n")), 0)
	if err != nil || r.Checkpoint == "" {
		return nil, &Fault{Kind: Unreadable, Detail: "the head file is not a checkpoint"}
	}
	if !r.whole || public != nil && !ecdsa.VerifyASN1(public, r.toSign[:], r.Signature) {
		return nil, &Fault{Kind: Forged, Sequence: r.Sequence, Detail: "the head file's signature is not the audit key's"}
	}
	return &r, nil
}

// book is what verify works on.
type book struct {
	o       VerifyOptions
	records []record
	at      map[uint64]int // sequence → index of its first record
	faults  []Fault
}

func (b *book) fault(kind FaultKind, r *record, format string, args ...any) {
	b.faults = append(b.faults, Fault{kind, r.Sequence, r.number, fmt.Sprintf(format, args...)})
}

func verify(whole []byte, o VerifyOptions) (Report, []Fault) {
	b := &book{o: o, at: map[uint64]int{}}
	b.read(whole)
	b.order()
	b.chain()
	report := b.signatures()
	b.ends(&report)
	slices.SortStableFunc(b.faults, func(x, y Fault) int { return x.Line - y.Line })
	return report, b.faults
}

// read takes the lines apart and notes where each entry stands.
func (b *book) read(whole []byte) {
	number := 0
	for text := range bytes.Lines(whole) {
		number++
		r, err := read(bytes.TrimSuffix(text, []byte("\n")), number)
		if err != nil {
			b.faults = append(b.faults, Fault{Unreadable, 0, number, err.Error()})
			continue
		}
		b.records = append(b.records, r)
	}
	for i := range b.records {
		r := &b.records[i]
		if !r.whole && i > 0 && r.Sequence != b.records[i-1].Sequence+1 {
			b.fault(Edited, r, "its hash is not its own, nor is its number")
			r.Sequence, r.whole = b.records[i-1].Sequence+1, true // judged by where it stands; reported already
		}
		if _, twice := b.at[r.Sequence]; twice {
			b.fault(Repeated, r, "stands in the book twice")
			continue
		}
		b.at[r.Sequence] = i
	}
}

// order finds entries that are missing or stand in another place.
func (b *book) order() {
	next := uint64(1)
	switch {
	case b.o.After != nil:
		next = b.o.After.Sequence + 1
	case b.o.Partial && len(b.records) > 0:
		next = b.records[0].Sequence
	}
	for i := range b.records {
		r := &b.records[i]
		if b.at[r.Sequence] != i {
			continue // repeated: said
		}
		if r.Sequence < next {
			b.fault(Reordered, r, "stands where entry %d belongs", next)
			continue
		}
		b.missing(next, r.Sequence, r.number)
		next = r.Sequence + 1
	}
}

// missing reports entries that are nowhere, as one fault a stretch.
func (b *book) missing(from, to uint64, line int) {
	for s := from; s < to; s++ {
		if _, moved := b.at[s]; moved {
			continue // will be met later, out of its order
		}
		end := s
		for end+1 < to {
			if _, there := b.at[end+1]; there {
				break
			}
			end++
		}
		detail := "is missing"
		if end > s {
			detail = fmt.Sprintf("and all up to %d are missing", end)
		}
		b.faults = append(b.faults, Fault{Deleted, s, line, detail})
		s = end
	}
}

// chain holds each entry to its own hash, and to the one the next names.
func (b *book) chain() {
	for i := range b.records {
		r := &b.records[i]
		if b.at[r.Sequence] != i {
			continue
		}
		if !r.whole {
			b.fault(Edited, r, "its hash is not its own")
		}
		switch before, there := b.at[r.Sequence-1]; {
		case there && b.records[before].hash != r.previous:
			b.fault(Edited, &b.records[before], "its hash was made to fit, but is not the one that entry %d names", r.Sequence)
		case there:
		case b.o.After != nil && r.Sequence == b.o.After.Sequence+1 && b.o.After.Hash != r.previous,
			r.Sequence == 1 && r.previous != Digest{}:
			b.fault(Edited, r, "does not follow what came before this file")
		}
	}
}

// signatures checks the checkpoints, and that there are enough of them.
func (b *book) signatures() Report {
	report := Report{Entries: len(b.records), Checked: b.o.Public != nil}
	if len(b.records) > 0 {
		report.First = b.records[0].Sequence
	}
	unsigned := 0
	for i := range b.records {
		r := &b.records[i]
		if r.Sequence > report.Last.Sequence {
			report.Last = r.place()
		}
		if r.Checkpoint == "" {
			// One more than Every: the checkpoint itself comes after its entries.
			if unsigned++; unsigned == 2*Every {
				b.fault(Unsigned, r, "%d entries without a checkpoint: the token did not sign, or checkpoints were taken out", unsigned)
			}
			continue
		}
		if b.o.Public != nil && !ecdsa.VerifyASN1(b.o.Public, r.toSign[:], r.Signature) {
			b.fault(Forged, r, "the checkpoint's signature is not the audit key's: what stands between it and the checkpoint before (entry %d) may have been rewritten", report.Signed)
			continue
		}
		unsigned = 0
		report.Checkpoints++
		report.Signed = r.Sequence
		report.State = r.State
	}
	report.Unsigned = unsigned
	return report
}

// ends holds the book against what is known of it elsewhere.
func (b *book) ends(report *Report) {
	for _, p := range b.o.Known {
		i, there := b.at[p.Sequence]
		if there && b.records[i].hash != p.Hash {
			b.fault(Edited, &b.records[i], "is another entry than the one that was signed or noted under this number")
		}
		if there || p.Sequence <= report.Last.Sequence || b.o.After != nil && p.Sequence <= b.o.After.Sequence {
			continue
		}
		if report.Entries == 0 && b.o.Partial {
			continue // a new file after a closed one: its owner looks for that
		}
		b.faults = append(b.faults, Fault{
			Truncated, report.Last.Sequence + 1, report.Entries + 1,
			fmt.Sprintf("the book ends before it, but entry %d was signed or noted", p.Sequence),
		})
	}
}
