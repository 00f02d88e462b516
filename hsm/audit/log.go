package audit

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// Signer signs checkpoints: the token's audit key. The signature is ASN.1 over
// a SHA-256 digest, as ecdsa.VerifyASN1 takes it.
type Signer interface {
	Sign(digest [32]byte) (signature []byte, err error)
}

// Options are what a Log needs of its process.
type Options struct {
	Now     func() time.Time
	Signer  Signer
	KeyName string           // of the signing key: audit/1
	Public  *ecdsa.PublicKey // the same key's, to check the head at the start
	// SegmentBytes is the length at which a file is closed and a new one begun
	// at the next checkpoint; 0 is 64 MiB.
	SegmentBytes int64
}

// Limits of the book.
const (
	// Every is the number of entries after which one is signed at the latest: a
	// signature costs a millisecond in SoftHSM, and what is not signed yet can
	// be rewritten by whoever owns the disk.
	Every = 256
	// maxWaiting bounds what waits for the disk. Beyond it operations are
	// refused: hsmd answers busy.
	maxWaiting         = 4096
	defaultSegment     = 64 << 20
	fileMode           = 0o600
	headSuffix         = ".head"
	operationOpen      = "audit.open"
	operationRecovered = "audit.recover"
)

// file is where lines go: a file, or what a test puts in its place.
type file interface {
	io.Writer
	Sync() error
	Close() error
}

// Log is the open book. Good for any number of goroutines: those that append
// at once share one write and one sync.
//
// Lock order: disk before mu.
type Log struct {
	o    Options
	path string

	disk    sync.Mutex // one flush at a time
	out     file
	size    int64
	started uint64 // sequence of the file's first entry; 0 when it has none

	mu       sync.Mutex
	last     Place
	pending  *flight
	unsigned int    // entries since the last checkpoint
	state    string // what every checkpoint carries
	closed   bool
	broken   error
}

// flight are the lines that one sync brings to disk.
type flight struct {
	lines   []byte
	entries int
	first   uint64
	head    []byte // the last checkpoint among them, for the head file
	done    bool
	err     error
}

// Append writes an event and returns when it is on disk. On an error what the
// event tells of must not be done.
func (l *Log) Append(e Event) (Place, error) {
	l.mu.Lock()
	place, f, err := l.add(e)
	l.mu.Unlock()
	if err != nil {
		return Place{}, err
	}
	return place, l.settle(f)
}

// add chains an event to the flight that waits. The caller holds mu.
func (l *Log) add(e Event) (Place, *flight, error) {
	if err := l.usable(); err != nil {
		return Place{}, nil, err
	}
	if l.pending.entries >= maxWaiting {
		return Place{}, nil, ErrBusy
	}
	entry, err := eventLine(e, l.last.Sequence+1, l.o.Now(), l.last.Hash)
	if err != nil {
		return Place{}, nil, err
	}
	if _, err := l.chain(&entry); err != nil {
		return Place{}, nil, err
	}
	place := l.last
	if l.unsigned >= Every {
		// A token that does not sign now is asked again with the next entry; the
		// verifier names the stretch that has no signature.
		_ = l.sign()
	}
	return place, l.pending, nil
}

func (l *Log) usable() error {
	if l.broken != nil {
		return l.broken
	}
	if l.closed {
		return ErrClosed
	}
	return nil
}

// chain seals an entry and puts it into the flight. The caller holds mu.
func (l *Log) chain(entry *line) ([]byte, error) {
	text, hash, err := entry.seal()
	if err != nil {
		return nil, err
	}
	if l.pending.entries == 0 {
		l.pending.first = entry.Sequence
	}
	l.pending.lines = append(l.pending.lines, text...)
	l.pending.entries++
	l.last = Place{entry.Sequence, hash}
	l.unsigned++
	return text, nil
}

// sign chains a checkpoint. The caller holds mu: the chain must not grow
// between the digest and the line.
func (l *Log) sign() error {
	entry := line{Sequence: l.last.Sequence + 1, At: l.o.Now().UTC().Format(timeForm), Checkpoint: l.o.KeyName, State: l.state, Previous: l.last.Hash.String()}
	digest, err := entry.toSign()
	if err != nil {
		return err
	}
	if entry.Signature, err = l.o.Signer.Sign(digest); err != nil {
		return fmt.Errorf("signing an audit checkpoint with %s: %w", l.o.KeyName, err)
	}
	text, err := l.chain(&entry)
	if err != nil {
		return err
	}
	l.unsigned = 0
	l.pending.head = text
	return nil
}

// Checkpoint signs the book as it stands, if anything is not signed yet. The
// owner calls it every few seconds and after what people will want proven at
// once.
func (l *Log) Checkpoint() (Place, error) {
	l.mu.Lock()
	if err := l.usable(); err != nil {
		l.mu.Unlock()
		return Place{}, err
	}
	if l.unsigned > 0 {
		if err := l.sign(); err != nil {
			l.mu.Unlock()
			return Place{}, err
		}
	}
	place, f := l.last, l.pending
	l.mu.Unlock()
	if err := l.settle(f); err != nil {
		return Place{}, err
	}
	return place, l.rotate()
}

// Note signs a checkpoint that carries a state, and so do all after it. It is
// for what must not be put back to an earlier one: a file that is older than
// the state in the head of the book was.
func (l *Log) Note(state string) (Place, error) {
	l.mu.Lock()
	err := l.usable()
	if err == nil && len(state) > maxText {
		err = fmt.Errorf("%w: a state of %d bytes", ErrEvent, len(state))
	}
	if err == nil {
		before := l.state
		l.state = state
		if err = l.sign(); err != nil {
			l.state = before
		}
	}
	place, f := l.last, l.pending
	l.mu.Unlock()
	if err != nil {
		return Place{}, err
	}
	return place, l.settle(f)
}

// State is what was noted last; empty when nothing ever was.
func (l *Log) State() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

// Head is the last entry.
func (l *Log) Head() Place {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// settle returns when a flight is on disk. Whoever comes first takes all that
// wait along.
func (l *Log) settle(f *flight) error {
	l.disk.Lock()
	defer l.disk.Unlock()
	if f.done {
		return f.err
	}
	l.mu.Lock()
	broken := l.broken
	if broken == nil {
		l.pending = &flight{}
	}
	l.mu.Unlock()
	if broken != nil {
		return broken
	}
	f.done = true
	if f.entries == 0 {
		return nil
	}
	if f.err = l.write(f); f.err != nil {
		f.err = fmt.Errorf("%w: %w", ErrFailed, f.err)
		l.mu.Lock()
		l.broken = f.err
		l.mu.Unlock()
	}
	return f.err
}

// write brings a flight to disk. The caller holds disk.
func (l *Log) write(f *flight) error {
	n, err := l.out.Write(f.lines)
	l.size += int64(n)
	if err != nil {
		return fmt.Errorf("write %s: %w", l.path, err)
	}
	if err := l.out.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", l.path, err)
	}
	if l.started == 0 {
		l.started = f.first
	}
	if f.head == nil {
		return nil
	}
	// After the book, never before: a head that the book does not reach would be
	// an alarm for nothing.
	return replace(l.path+headSuffix, f.head)
}

// rotate closes a file that is long enough and begins the next. The last entry
// of the closed one is the checkpoint that the head file holds, so the new one
// is known to follow it.
func (l *Log) rotate() error {
	l.disk.Lock()
	defer l.disk.Unlock()
	l.mu.Lock()
	ready := l.size >= l.o.SegmentBytes && l.unsigned == 0 && l.pending.entries == 0 && l.broken == nil && !l.closed
	last := l.last.Sequence
	l.mu.Unlock()
	if !ready {
		return nil
	}
	if err := os.Rename(l.path, segment(l.path, l.started, last)); err != nil {
		return fmt.Errorf("closing a file of the audit log: %w", err)
	}
	next, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, fileMode)
	if err == nil {
		err = syncFolder(l.path)
	}
	if err != nil {
		l.mu.Lock()
		l.broken = fmt.Errorf("%w: %w", ErrFailed, err)
		l.mu.Unlock()
		return err
	}
	err = l.out.Close()
	l.out, l.size, l.started = next, 0, 0
	return err
}

// Close signs what is not signed, and closes the file.
func (l *Log) Close() error {
	_, err := l.Checkpoint()
	l.mu.Lock()
	again := l.closed
	l.closed = true
	l.mu.Unlock()
	if again {
		return nil
	}
	l.disk.Lock()
	defer l.disk.Unlock()
	return errors.Join(err, l.out.Close())
}
