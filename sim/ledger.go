package sim

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

// errLedger ends a simulator: without its ledger it is no witness.
var errLedger = errors.New("the ledger cannot be written")

// ledger is a file of JSON lines. Lines are appended in the order of the
// decisions; whoever waits first writes and syncs for all (group commit), so a
// sync is shared by every message that arrived during the one before.
type ledger struct {
	file *os.File
	sync bool

	mu       sync.Mutex
	turn     sync.Cond
	pending  []byte
	spare    []byte
	appended uint64 // lines ever
	durable  uint64 // lines on disk
	writing  bool
	began    time.Time // of the newest write
	lines    uint64    // in it
	err      error
}

// The pace of syncs: a sync costs the processor 100 µs and more however little
// it carries, and each simulator of a machine has its own. So one that comes
// right behind one that carried much waits for others; a line behind a single one,
// or later than that, waits for nobody.
const (
	syncPerLine = 200 * time.Microsecond
	syncSlowest = 5 * time.Millisecond
)

func (l *ledger) pace() time.Duration {
	return min(time.Duration(max(min(l.lines, 100), 1)-1)*syncPerLine, syncSlowest)
}

// openLedger opens or creates a ledger, cuts off a line that a crash left
// unfinished, and gives each line to replay.
func openLedger(path string, sync bool, replay func(line []byte) error) (*ledger, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the ledger: %w", err)
	}
	end, err := replayLines(f, replay)
	if err == nil {
		err = f.Truncate(end)
	}
	if err == nil {
		_, err = f.Seek(end, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reading the ledger %s: %w", path, err), f.Close())
	}
	l := &ledger{file: f, sync: sync}
	l.turn.L = &l.mu
	return l, nil
}

// append adds a line, without its newline, and returns its number. It does not
// wait.
func (l *ledger) append(line []byte) uint64 {
	l.mu.Lock()
	l.pending = append(l.pending, line...)
	l.pending = append(l.pending, '\n')
	l.appended++
	n := l.appended
	l.mu.Unlock()
	return n
}

// wait returns when line n is on disk.
func (l *ledger) wait(n uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.durable < n && l.err == nil {
		if l.writing {
			l.turn.Wait()
			continue
		}
		l.writing = true
		if wait := l.pace() - time.Since(l.began); l.sync && wait > 0 {
			l.mu.Unlock()
			time.Sleep(wait) // others append meanwhile
			l.mu.Lock()
		}
		l.began = time.Now()
		batch, last := l.pending, l.appended
		l.lines = last - l.durable
		l.pending = l.spare[:0]
		l.mu.Unlock()
		err := l.write(batch)
		l.mu.Lock()
		l.spare, l.writing = batch, false
		if err != nil {
			l.err = fmt.Errorf("%w: %w", errLedger, err)
		} else {
			l.durable = last
		}
		l.turn.Broadcast()
	}
	return l.err
}

func (l *ledger) write(batch []byte) error {
	if _, err := l.file.Write(batch); err != nil {
		return err
	}
	if !l.sync {
		return nil
	}
	return syscall.Fdatasync(int(l.file.Fd()))
}

// close writes what is pending and closes the file.
func (l *ledger) close() error {
	l.mu.Lock()
	last := l.appended
	l.mu.Unlock()
	return errors.Join(l.wait(last), l.file.Close())
}

// line is one decision, for the ledger. All byte fields are as on the wire but
// for padding.
type line struct {
	at                           time.Time
	mti                          [4]byte
	stan, rrn, transmitted       []byte
	acquirer, terminal, currency []byte
	local                        []byte // DE 12, only where the original is named by it
	amount                       int64
	card                         []byte // in clear; masked as it is written
	decision                     decision
	code                         string
	batch                        []byte // DE 60, only of a batch upload and its totals
	original                     *named
}

// named is how a reversal or capture names its original.
type named struct {
	mti                         [4]byte
	stan, transmitted, acquirer []byte
	local                       []byte // as in line
}

// appendTo writes the line of design's ledger format, by hand: at load this is
// the whole cost of the ledger beside the sync.
func (l *line) appendTo(b []byte) []byte {
	b = append(b, `{"at":"`...)
	b = l.at.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z")
	b = appendText(b, `","mti":"`, l.mti[:])
	b = appendText(b, `","stan":"`, l.stan)
	b = appendText(b, `","rrn":"`, l.rrn)
	b = appendText(b, `","transmitted":"`, l.transmitted)
	if len(l.local) > 0 {
		b = appendText(b, `","local":"`, l.local)
	}
	b = appendText(b, `","acquirer":"`, l.acquirer)
	b = appendText(b, `","terminal":"`, l.terminal)
	b = append(b, `","amount":`...)
	b = appendNumber(b, uint64(l.amount), 1)
	b = appendText(b, `,"currency":"`, l.currency)
	b = append(b, `","card":"`...)
	b = appendMasked(b, l.card)
	b = append(b, `","decision":"`...)
	b = append(b, decisionNames[l.decision]...)
	b = append(b, `","response_code":"`...)
	b = append(b, l.code...)
	if len(l.batch) > 0 {
		b = appendText(b, `","batch":"`, l.batch)
	}
	if o := l.original; o != nil {
		b = appendText(b, `","original":{"mti":"`, o.mti[:])
		b = appendText(b, `","stan":"`, o.stan)
		b = appendText(b, `","transmitted":"`, o.transmitted)
		if len(o.local) > 0 {
			b = appendText(b, `","local":"`, o.local)
		}
		b = appendText(b, `","acquirer":"`, o.acquirer)
		return append(b, `"}}`...)
	}
	return append(b, `"}`...)
}

// appendText writes a key, which ends in an opening quote, and a value from
// the wire, which may hold anything.
func appendText(b []byte, key string, value []byte) []byte {
	b = append(b, key...)
	for _, c := range value {
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < 0x20 || c >= 0x7F:
			b = append(b, `\u00`...)
			b = append(b, lowerHex[c>>4], lowerHex[c&15])
		default:
			b = append(b, c)
		}
	}
	return b
}

const lowerHex = "0123456789abcdef"

// appendMasked shows the first six and the last four digits of a card number,
// and of a short one only its length.
func appendMasked(b, card []byte) []byte {
	for i, c := range card {
		if c < '0' || c > '9' || len(card) < 13 || i >= 6 && i < len(card)-4 {
			c = '*'
		}
		b = append(b, c)
	}
	return b
}
