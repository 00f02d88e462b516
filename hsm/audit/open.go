package audit

import (
	"bytes"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Open continues a book, or begins it. A book that is not as it was written is
// refused with the entry that is wrong: a module that went on would bury it.
//
// A last line that a crash left unfinished is cut off, and an entry says so
// with what it was: nothing had been done for it, because an effect waits for
// its line to be on disk.
func Open(path string, o Options) (*Log, error) {
	if o.SegmentBytes == 0 {
		o.SegmentBytes = defaultSegment
	}
	head, err := readHead(path+headSuffix, o.Public)
	if err != nil {
		return nil, err
	}
	content, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	whole, torn := split(content)
	l := &Log{o: o, path: path, pending: &flight{}, size: int64(len(whole))}
	if err := l.resume(whole, head, o); err != nil {
		return nil, err
	}
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, fileMode)
	if err != nil {
		return nil, fmt.Errorf("open the audit log: %w", err)
	}
	l.out = out
	if err := l.begin(out, torn); err != nil {
		return nil, errors.Join(err, out.Close())
	}
	return l, nil
}

// resume checks what is there and finds where the chain goes on.
func (l *Log) resume(whole []byte, head *record, o Options) error {
	v := VerifyOptions{Public: o.Public, Partial: true}
	if head != nil {
		v.Known = []Place{head.place()}
	}
	report, faults := verify(whole, v)
	if report.Entries == 0 && head != nil && !closedAt(l.path, head.Sequence) {
		faults = append(faults, Fault{Truncated, head.Sequence, 0, "was signed, but its file is empty or gone"})
	}
	if len(faults) > 0 {
		return fmt.Errorf("%w: %s: %s (`authswitch audit verify --file` lists all; keep the file and its %s aside as evidence, then start anew)",
			ErrTampered, l.path, faults[0], headSuffix)
	}
	switch {
	case report.Entries > 0:
		l.last, l.started = report.Last, report.First
	case head != nil: // the file was closed at this checkpoint, and the next begun
		l.last = head.place()
	}
	l.state = report.State
	if head != nil && head.Sequence >= report.Signed {
		l.state = head.State
	}
	l.unsigned = report.Unsigned
	return nil
}

// closedAt says whether a file was closed with this entry.
func closedAt(path string, last uint64) bool {
	extension := filepath.Ext(path)
	found, err := filepath.Glob(fmt.Sprintf("%s-*-%012d%s", strings.TrimSuffix(path, extension), last, extension))
	return err == nil && len(found) > 0
}

// begin cuts a torn line off and writes that the book is open.
func (l *Log) begin(out *os.File, torn []byte) error {
	event := Event{Operation: operationOpen, Outcome: Allowed}
	if len(torn) > 0 {
		if err := out.Truncate(l.size); err != nil {
			return fmt.Errorf("cutting an unfinished line off the audit log: %w", err)
		}
		event = Event{
			Operation: operationRecovered, Object: strings.ToValidUTF8(string(torn), "?"), Outcome: Allowed,
			Reason: fmt.Sprintf("an unfinished line of %d bytes was cut off: nothing had been done for it", len(torn)),
		}
	}
	if err := syncFolder(l.path); err != nil {
		return err
	}
	_, err := l.Append(event)
	return err
}

// split separates the whole lines of a file from what a crash left after them:
// a line without its end, or the zeros of a block that was never written.
func split(content []byte) (whole, torn []byte) {
	end := bytes.LastIndexByte(content, '\n') + 1
	return content[:end], content[end:]
}

// ReadHead reads the head file beside a book: where the last checkpoint that
// was signed stands. It is nil where none was yet.
func ReadHead(path string, public *ecdsa.PublicKey) (*Place, error) {
	head, err := readHead(path, public)
	if err != nil || head == nil {
		return nil, err
	}
	place := head.place()
	return &place, nil
}

func readHead(path string, public *ecdsa.PublicKey) (*record, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the audit log's head: %w", err)
	}
	head, fault := parseHead(text, public)
	if fault != nil {
		return nil, fmt.Errorf("%w: %s: %s", ErrTampered, path, fault)
	}
	return head, nil
}

// segment is the name of a closed file.
func segment(path string, first, last uint64) string {
	extension := filepath.Ext(path)
	return fmt.Sprintf("%s-%012d-%012d%s", strings.TrimSuffix(path, extension), first, last, extension)
}

// replace writes a file so that it is the old or the new one whatever happens.
func replace(path string, content []byte) error {
	temporary := path + ".new"
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fileMode)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return syncFolder(path)
}

func syncFolder(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("sync the folder of %s: %w", path, err)
	}
	return errors.Join(d.Sync(), d.Close())
}
