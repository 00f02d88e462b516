package sim

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"authswitch/iso8583"
)

// wire is a file of the payment messages that went over a simulator's wire, both
// ways, masked, for a person to read. It is no witness: the ledger is. Under load
// it keeps some of each second, and it never grows past two files of its size.
//
// What is written is the dialect's own description: it has no way to show a card
// number, and shows nothing of what is sensitive. Network management messages,
// which carry keys, are left out.
type wire struct {
	dialect *iso8583.Dialect
	path    string

	mu     sync.Mutex
	file   *os.File
	size   int64
	second int64 // the one that is counted
	count  int   // messages received in it
	err    error // the first that could not be written: the rest is left out
}

// Limits of a wire file.
const (
	wirePerSecond = 50       // messages received that are kept with their answers; describing one costs some 30 µs
	wireBytes     = 16 << 20 // then the file becomes FILE.1, in the place of the one before
)

// WireLine is one message in a wire file, as JSON.
type WireLine struct {
	At   string `json:"at"`
	Way  string `json:"way"` // received, or sent
	MTI  string `json:"mti"`
	STAN string `json:"stan"`
	RRN  string `json:"rrn"`
	Text string `json:"text"` // described and masked
}

// openWire opens a wire file to add to; none where no path is given.
func openWire(path string, dialect *iso8583.Dialect) (*wire, error) {
	if path == "" {
		return nil, nil //nolint:nilnil // a simulator without one
	}
	w := &wire{dialect: dialect, path: path}
	return w, w.open()
}

func (w *wire) open() error {
	f, err := os.OpenFile(w.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("opening the wire file: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return fmt.Errorf("opening the wire file: %w", err)
	}
	w.file, w.size = f, info.Size()
	return nil
}

// received keeps a message that came, and says whether it did: the answer to one
// that is kept is, too.
func (w *wire) received(at time.Time, m *message, frame []byte) bool {
	if w == nil || m.class() == '8' {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if second := at.Unix(); second != w.second {
		w.second, w.count = second, 0
	}
	if w.count++; w.count > wirePerSecond {
		return false
	}
	w.write(at, "received", m, frame)
	return w.err == nil
}

// sent keeps an answer as it was packed, whatever becomes of it on its way.
func (w *wire) sent(at time.Time, m *message, frame []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.write(at, "sent", m, frame)
}

func (w *wire) write(at time.Time, way string, m *message, frame []byte) {
	if w.err != nil {
		return
	}
	var text strings.Builder
	_ = w.dialect.Describe(&text, frame) // what cannot be read says so in the text
	line := WireLine{At: at.UTC().Format(time.RFC3339Nano), Way: way, MTI: string(m.mti[:]), STAN: string(m.values[11]), RRN: string(trimRight(m.values[37])), Text: text.String()}
	b, err := json.Marshal(&line)
	if err == nil {
		var n int
		n, err = w.file.Write(append(b, '\n'))
		w.size += int64(n)
	}
	if err == nil && w.size >= wireBytes {
		err = w.turnOver()
	}
	w.err = err
}

// turnOver begins a new file beside the old one.
func (w *wire) turnOver() error {
	if err := w.file.Close(); err != nil {
		return fmt.Errorf("closing the wire file: %w", err)
	}
	if err := os.Rename(w.path, w.path+".1"); err != nil {
		return fmt.Errorf("turning the wire file over: %w", err)
	}
	return w.open()
}

func (w *wire) close() error {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = os.ErrClosed
		return w.file.Close()
	}
	return w.err
}
