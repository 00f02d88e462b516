package bench

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// The columns of a clearing file's lines that are compared (docs/clearing.md).
const (
	clearingMark      = 0 // H, D, T or E
	clearingKind      = 2
	clearingOperation = 3
	clearingAmount    = 11
	clearingDetails   = 23 // columns of a D line
)

// readFiles takes the clearing files of every link in, as a ledger of what
// travels in no message.
func (s *ledgerSide) readFiles() error {
	for _, l := range s.journal.links {
		if l.Files == "" {
			continue
		}
		files, err := filepath.Glob(filepath.Join(l.Files, l.Name+"-[0-9]*.csv"))
		if err != nil {
			return fmt.Errorf("%w: %w", ErrLedger, err)
		}
		slices.Sort(files)
		for _, file := range files {
			if err := s.readFile(file); err != nil {
				return fmt.Errorf("%w %s: %w", ErrLedger, file, err)
			}
		}
	}
	return nil
}

// readFile counts each line for its operation. A line twice, in one file or in
// two, shows as more taken than the operation is for.
func (s *ledgerSide) readFile(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	r := csv.NewReader(f)
	r.FieldsPerRecord, r.ReuseRecord = -1, true
	lines, whole := 0, false
	for n := 1; ; n++ {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		switch {
		case record[clearingMark] == "E" && len(record) == 2:
			whole = record[1] == strconv.Itoa(lines)
		case record[clearingMark] == "D" && len(record) == clearingDetails:
			lines++
			s.lines++
			s.fileLine(file, n, record)
		}
	}
	if !whole {
		s.found.differ("M6", "%s: its last line does not count its %d lines: the file is cut", file, lines)
	}
	return nil
}

func (s *ledgerSide) fileLine(file string, n int, record []string) {
	amount, err := strconv.ParseInt(record[clearingAmount], 10, 64)
	at, known := s.journal.movementOf[record[clearingKind]+record[clearingOperation]]
	switch {
	case err != nil:
		s.found.differ("M6", "%s:%d: %q is no amount", file, n, record[clearingAmount])
	case !known:
		s.found.differ("M1", "%s:%d: %s %s of %d, and the journal does not know it", file, n, record[clearingKind], record[clearingOperation], amount)
	default:
		m := &s.journal.movements[at]
		if m.means != movementFile {
			s.found.differ("M6", "%s:%d: %s %s travels as %s, and is in a file", file, n, m.kind, m.id, m.means)
		}
		m.taken += amount
	}
}
