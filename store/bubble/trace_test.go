package bubble_test

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"os"
	"sync"
	"time"
)

// trace is a hash over everything that happened in a world: each parcel on the
// network, each write and sync of a disk, each line of the nodes' logs and of the
// world's notes, with its moment. Two runs with one hash are the same run.
type trace struct {
	mu     sync.Mutex
	hash   hash.Hash
	head   []byte
	began  time.Time
	events uint64
	text   *bufio.Writer // for who looks for where two runs part
	file   *os.File
}

// newTrace also writes every event to a file, where one is named.
func newTrace(path string) *trace {
	t := &trace{hash: sha256.New(), began: time.Now()}
	if path == "" {
		return t
	}
	var err error
	if t.file, err = os.Create(path); err != nil {
		panic(err)
	}
	t.text = bufio.NewWriterSize(t.file, 1<<20)
	return t
}

// add takes one event: what, where, and the bytes that it carries.
func (t *trace) add(what byte, from, to string, data []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events++
	b := append(t.head[:0], what)
	for _, s := range []string{from, to} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	b = binary.AppendVarint(b, int64(time.Since(t.began)))
	b = binary.AppendUvarint(b, uint64(len(data)))
	t.head = b
	t.hash.Write(b)
	t.hash.Write(data)
	if t.text != nil {
		fmt.Fprintf(t.text, "%10.6f  %c %s %s %q\n", time.Since(t.began).Seconds(), what, from, to, data)
	}
}

// sum ends the trace: what came, and how much of it.
func (t *trace) sum() (string, uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.text != nil {
		_ = t.text.Flush()
		_ = t.file.Close()
	}
	return hex.EncodeToString(t.hash.Sum(nil)[:16]), t.events
}
