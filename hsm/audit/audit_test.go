package audit

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// signer is a token of a test.
type signer struct {
	key  *ecdsa.PrivateKey
	fail error
}

func newSigner(t testing.TB) *signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{key: k}
}

func (s *signer) Sign(digest [32]byte) ([]byte, error) {
	if s.fail != nil {
		return nil, s.fail
	}
	return ecdsa.SignASN1(rand.Reader, s.key, digest[:])
}

func options(s *signer) Options {
	at := time.Date(2026, 11, 26, 9, 0, 0, 0, time.UTC)
	return Options{Now: func() time.Time { return at }, Signer: s, KeyName: "audit/1", Public: &s.key.PublicKey}
}

func event(n int) Event {
	return Event{Actors: []string{"alice", "bob"}, Operation: "key.import", Object: fmt.Sprintf("zone %d", n), Reason: `ticket "42"`, Outcome: Allowed}
}

// write makes a book: open, n events with a checkpoint in the middle, close.
func write(t testing.TB, path string, o Options, n int) []byte {
	t.Helper()
	l, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if _, err := l.Append(event(i)); err != nil {
			t.Fatal(err)
		}
		if i == n/2 {
			if _, err := l.Checkpoint(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return contents(t, path)
}

func contents(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBookIsWhole(t *testing.T) {
	s := newSigner(t)
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	write(t, path, options(s), 5)
	book := write(t, path, options(s), 5) // goes on where the first stopped
	report, faults := Verify(book, VerifyOptions{Public: &s.key.PublicKey})
	if len(faults) != 0 {
		t.Fatalf("faults in a whole book: %v", faults)
	}
	// open, 5 events, 2 checkpoints; twice.
	if report.Entries != 16 || report.First != 1 || report.Last.Sequence != 16 || report.Checkpoints != 4 || report.Unsigned != 0 || report.Signed != 16 {
		t.Errorf("report %+v", report)
	}
	head, err := ReadHead(path+".head", &s.key.PublicKey)
	if err != nil || *head != report.Last {
		t.Errorf("head %v, %v; want %v", head, err, report.Last)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// reseal makes an entry's hash fit what it says now.
func reseal(t *testing.T, text []byte, change func(*line)) []byte {
	t.Helper()
	var l line
	if err := json.Unmarshal(text, &l); err != nil {
		t.Fatal(err)
	}
	l.Hash = ""
	change(&l)
	out, _, err := l.seal()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestTamperingIsNamed(t *testing.T) {
	s := newSigner(t)
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	whole := write(t, path, options(s), 6)
	head, err := ReadHead(path+".head", &s.key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	// 1 open, 2–5 events, 6 checkpoint, 7–8 events, 9 checkpoint
	for _, test := range []struct {
		name   string
		change func(lines [][]byte) [][]byte
		want   string
	}{
		{"deleted", func(l [][]byte) [][]byte { return append(l[:3:3], l[4:]...) }, "entry 4 deleted (line 4): is missing"},
		{"two deleted", func(l [][]byte) [][]byte { return append(l[:2:2], l[4:]...) }, "entry 3 deleted (line 3): and all up to 4 are missing"},
		{"first deleted", func(l [][]byte) [][]byte { return l[1:] }, "entry 1 deleted (line 1): is missing"},
		{"edited", func(l [][]byte) [][]byte { l[3] = bytes.Replace(l[3], []byte("zone 2"), []byte("zone 9"), 1); return l }, "entry 4 edited (line 4): its hash is not its own"},
		{"edited, number", func(l [][]byte) [][]byte {
			l[3] = bytes.Replace(l[3], []byte(`"sequence":4`), []byte(`"sequence":8`), 1)
			return l
		}, "entry 8 edited (line 4): its hash is not its own, nor is its number"},
		{"edited, hash made to fit", func(l [][]byte) [][]byte {
			l[3] = reseal(t, l[3], func(e *line) { e.Reason = "other" })
			return l
		}, "entry 4 edited (line 4): its hash was made to fit, but is not the one that entry 5 names"},
		{"swapped", func(l [][]byte) [][]byte { l[2], l[3] = l[3], l[2]; return l }, "entry 3 reordered (line 4): stands where entry 5 belongs"},
		{"twice", func(l [][]byte) [][]byte { return append(l[:4:4], l[3:]...) }, "entry 4 repeated (line 5): stands in the book twice"},
		{"cut off", func(l [][]byte) [][]byte { return l[:7] }, "entry 8 truncated (line 8): the book ends before it, but entry 9 was signed or noted"},
		{"all gone", func([][]byte) [][]byte { return nil }, "entry 1 truncated (line 1): the book ends before it, but entry 9 was signed or noted"},
		{"half a line", func(l [][]byte) [][]byte { l[8] = l[8][:30]; return l }, "entry 9 truncated (line 9): the book ends before it"},
		{"no entry", func(l [][]byte) [][]byte { l[4] = []byte("{}\n"); return l }, "unreadable (line 5)"},
		{"checkpoint of another key", func(l [][]byte) [][]byte {
			l[5] = reseal(t, l[5], func(e *line) { e.Signature, _ = newSigner(t).Sign([32]byte{}) })
			return l
		}, "entry 6 forged (line 6): the checkpoint's signature is not the audit key's"},
		{"rewritten to the end", func(l [][]byte) [][]byte {
			l = append(l[:3:3], l[4:]...)
			for i := 3; i < len(l); i++ {
				var before line
				if err := json.Unmarshal(l[i-1], &before); err != nil {
					t.Fatal(err)
				}
				l[i] = reseal(t, l[i], func(e *line) { e.Sequence, e.Previous = uint64(i+1), before.Hash })
			}
			return l
		}, "entry 5 forged (line 5): the checkpoint's signature is not the audit key's: what stands between it and the checkpoint before (entry 0) may have been rewritten"},
	} {
		t.Run(test.name, func(t *testing.T) {
			lines := bytes.SplitAfter(bytes.TrimSuffix(whole, []byte("\n")), []byte("\n"))
			lines[len(lines)-1] = append(bytes.Clone(lines[len(lines)-1]), '\n')
			changed := bytes.Join(test.change(lines), nil)
			_, faults := Verify(changed, VerifyOptions{Public: &s.key.PublicKey, Known: []Place{*head}})
			found := false
			for _, f := range faults {
				found = found || strings.HasPrefix(f.String(), test.want)
			}
			if !found {
				t.Errorf("faults %q, want one that starts %q", faults, test.want)
			}
			// The module itself must not go on with such a book either, unless all
			// that happened is what a crash does too: an unfinished last line. Even
			// that not where the head knows the line.
			other := filepath.Join(t.TempDir(), "audit.jsonl")
			save(t, other, changed)
			save(t, other+".head", contents(t, path+".head"))
			if _, err := Open(other, options(s)); !errors.Is(err, ErrTampered) && test.name != "first deleted" {
				t.Errorf("opened a book that was tampered with: %v", err)
			}
		})
	}
}

func save(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// No byte of a book can be changed unseen.
func TestEveryByteIsUnderTheChain(t *testing.T) {
	s := newSigner(t)
	whole := write(t, filepath.Join(t.TempDir(), "audit.jsonl"), options(s), 2)
	for i := range whole {
		changed := bytes.Clone(whole)
		changed[i] ^= 0x02
		if _, faults := Verify(changed, VerifyOptions{Public: &s.key.PublicKey}); len(faults) == 0 {
			t.Fatalf("byte %d (%q) can be changed", i, whole[max(0, i-10):i+1])
		}
	}
}

func TestTornLineIsCutAndWritten(t *testing.T) {
	s := newSigner(t)
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	l, err := Open(path, options(s))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(event(1)); err != nil {
		t.Fatal(err)
	}
	whole := contents(t, path)
	torn := []byte(`{"sequence":3,"at":"2026-11-26T0`)
	save(t, path, append(bytes.Clone(whole), torn...))
	if _, faults := Verify(contents(t, path), VerifyOptions{}); len(faults) != 1 || faults[0].Kind != Truncated || faults[0].Sequence != 3 {
		t.Errorf("faults %v", faults)
	}
	again, err := Open(path, options(s))
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	book := contents(t, path)
	if report, faults := Verify(book, VerifyOptions{Public: &s.key.PublicKey}); len(faults) != 0 || report.Entries != 4 {
		t.Errorf("report %+v, faults %v", report, faults)
	}
	if !bytes.Contains(book, []byte(`"operation":"audit.recover"`)) || !bytes.Contains(book, []byte(`an unfinished line of 32 bytes was cut off`)) || !bytes.Contains(book, []byte(`\"sequence\":3`)) {
		t.Errorf("nothing says what was cut off:\n%s", book)
	}
}

// brokenDisk fails to sync.
type brokenDisk struct{ file }

var errDisk = errors.New("no space left")

func (brokenDisk) Sync() error { return errDisk }

func TestNothingIsAllowedWithoutTheDisk(t *testing.T) {
	s := newSigner(t)
	l, err := Open(filepath.Join(t.TempDir(), "audit.jsonl"), options(s))
	if err != nil {
		t.Fatal(err)
	}
	l.out = brokenDisk{l.out}
	if _, err := l.Append(event(1)); !errors.Is(err, ErrFailed) || !errors.Is(err, errDisk) {
		t.Errorf("append: %v", err)
	}
	// Not even after the disk came back: what is on it is unknown until it is read again.
	if _, err := l.Append(event(2)); !errors.Is(err, ErrFailed) {
		t.Errorf("append after a failure: %v", err)
	}
	if _, err := l.Checkpoint(); !errors.Is(err, ErrFailed) {
		t.Errorf("checkpoint after a failure: %v", err)
	}
}

func TestEventsAreHeldToTheirForm(t *testing.T) {
	s := newSigner(t)
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	l, err := Open(path, options(s))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []Event{{}, {Operation: "x"}, {Operation: "x", Outcome: "maybe"}, {Outcome: Allowed}, {Operation: "x", Outcome: Allowed, Actors: make([]string, 5)}} {
		if _, err := l.Append(e); !errors.Is(err, ErrEvent) {
			t.Errorf("%+v: %v", e, err)
		}
	}
	long := strings.Repeat("é\x00\n", 500)
	if _, err := l.Append(Event{Actors: []string{long, long, long, long}, Operation: long, Object: long, Reason: long, Outcome: Refused}); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(event(1)); !errors.Is(err, ErrClosed) {
		t.Errorf("append after close: %v", err)
	}
	if _, faults := Verify(contents(t, path), VerifyOptions{Public: &s.key.PublicKey}); len(faults) != 0 {
		t.Errorf("faults %v", faults)
	}
}

func TestManyAtOnceShareASync(t *testing.T) {
	s := newSigner(t)
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	l, err := Open(path, options(s))
	if err != nil {
		t.Fatal(err)
	}
	counted := &countingDisk{file: l.out}
	l.out = counted
	var group sync.WaitGroup
	places := make([]Place, 600)
	for i := range places {
		group.Go(func() { places[i], _ = l.Append(event(i)) })
	}
	group.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	book := contents(t, path)
	report, faults := Verify(book, VerifyOptions{Public: &s.key.PublicKey, Known: places})
	if len(faults) != 0 {
		t.Fatalf("faults %v", faults)
	}
	if report.Checkpoints < 600/Every {
		t.Errorf("%d checkpoints over %d entries", report.Checkpoints, report.Entries)
	}
	if counted.syncs >= 600 {
		t.Errorf("%d syncs for 600 entries", counted.syncs)
	}
}

type countingDisk struct {
	file
	syncs int
}

func (d *countingDisk) Sync() error { d.syncs++; return d.file.Sync() }

func TestTokenThatDoesNotSign(t *testing.T) {
	s := newSigner(t)
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	l, err := Open(path, options(s))
	if err != nil {
		t.Fatal(err)
	}
	s.fail = errors.New("token removed")
	for i := range 2*Every + 10 {
		if _, err := l.Append(event(i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Checkpoint(); !errors.Is(err, s.fail) {
		t.Errorf("checkpoint: %v", err)
	}
	_, faults := Verify(contents(t, path), VerifyOptions{Public: &s.key.PublicKey})
	if len(faults) != 1 || faults[0].Kind != Unsigned {
		t.Errorf("faults %v", faults)
	}
	s.fail = nil
	if _, err := l.Append(event(0)); err != nil {
		t.Fatal(err)
	}
	if report, _ := Verify(contents(t, path), VerifyOptions{Public: &s.key.PublicKey}); report.Unsigned != 0 {
		t.Errorf("the token is back and %d entries are not signed", report.Unsigned)
	}
}

func TestFilesFollowEachOther(t *testing.T) {
	s := newSigner(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.jsonl")
	o := options(s)
	o.SegmentBytes = 2000
	for range 3 { // opened anew between: the first time with an empty file
		l, err := Open(path, o)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 10 {
			if _, err := l.Append(event(i)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := l.Checkpoint(); err != nil {
			t.Fatal(err)
		}
		if contents := contents(t, path); len(contents) != 0 {
			t.Fatalf("%d bytes and no new file", len(contents))
		}
		l.out.Close() // a crash
	}
	closed, err := filepath.Glob(filepath.Join(dir, "audit-*.jsonl"))
	if err != nil || len(closed) != 3 {
		t.Fatalf("files %v, %v", closed, err)
	}
	v := VerifyOptions{Public: &s.key.PublicKey}
	for _, f := range closed {
		report, faults := Verify(contents(t, f), v)
		if len(faults) != 0 || report.Entries != 12 {
			t.Fatalf("%s: %+v, %v", f, report, faults)
		}
		v.After = &report.Last
	}
	// A later file alone does not say where it comes from, and one too many shows.
	if _, faults := Verify(contents(t, closed[1]), VerifyOptions{}); len(faults) != 1 || faults[0].Kind != Deleted {
		t.Errorf("faults %v", faults)
	}
	if _, faults := Verify(contents(t, closed[1]), VerifyOptions{Partial: true}); len(faults) != 0 {
		t.Errorf("faults %v", faults)
	}
	if _, faults := Verify(contents(t, closed[0]), VerifyOptions{After: v.After}); len(faults) == 0 {
		t.Error("an earlier file after a later one passes")
	}
	// Without its last closed file an empty one is not taken for a new one.
	os.Remove(closed[2])
	if _, err := Open(path, o); !errors.Is(err, ErrTampered) {
		t.Errorf("open: %v", err)
	}
}

func FuzzVerify(f *testing.F) {
	s := newSigner(f)
	f.Add(write(f, filepath.Join(f.TempDir(), "audit.jsonl"), options(s), 3))
	f.Add([]byte(`{"sequence":1,"hash":"","previous":""}` + "\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		report, faults := Verify(content, VerifyOptions{Public: &s.key.PublicKey, Known: []Place{{Sequence: 2}}, After: &Place{Sequence: 3}})
		if report.Checkpoints > 0 && len(faults) == 0 {
			t.Error("a book of the fuzzer has a good signature")
		}
	})
}
