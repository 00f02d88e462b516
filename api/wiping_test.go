package api

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// The read buffer: what is offered to be read into is wiped before the wait,
// whatever buffer it is.
func TestWipedBeforeReading(t *testing.T) {
	c := &wipingConn{Conn: &onceConn{give: "xy"}}
	for range 2 {
		buffer := []byte(goodBody)
		if n, err := c.Read(buffer); n != 2 || err != nil || !bytes.Equal(buffer[2:], make([]byte, len(goodBody)-2)) {
			t.Errorf("read %d, %v: %q", n, err, buffer)
		}
	}
}

// noting is a connection that gives pieces of text, and notes what lies in the
// room it is offered and which deadlines it is given.
type noting struct {
	net.Conn
	pieces []string
	found  string
	said   []string
}

func (c *noting) Read(p []byte) (int, error) {
	c.found += strings.Trim(string(p), "\x00")
	n := copy(p, c.pieces[0])
	c.pieces = c.pieces[1:]
	return n, nil
}

func (c *noting) Write(p []byte) (int, error) { return len(p), nil }

func (c *noting) SetReadDeadline(t time.Time) error {
	c.said = append(c.said, fmt.Sprint("read ", t.Sub(time.Time{})))
	return nil
}

func (c *noting) SetWriteDeadline(t time.Time) error {
	c.said = append(c.said, fmt.Sprint("write ", t.Sub(time.Time{})))
	return nil
}

// A server's reader takes messages of every length that arrive in pieces of
// every length: no room that is offered holds anything of what was read before.
func TestWipedBehindAReader(t *testing.T) {
	for size := 1; size < 40; size++ {
		var pieces []string
		text := strings.Repeat("4111111111111111|", 40)
		for from := 0; from < len(text); from += size {
			pieces = append(pieces, text[from:min(from+size, len(text))])
		}
		under := &noting{pieces: pieces}
		reader := bufio.NewReaderSize(&wipingConn{Conn: under}, 64)
		for range 40 {
			if got, err := reader.ReadString('|'); err != nil || got != "4111111111111111|" {
				t.Fatalf("pieces of %d: %q, %v", size, got, err)
			}
		}
		if under.found != "" {
			t.Fatalf("pieces of %d: the room offered held %q", size, under.found)
		}
	}
}

func TestDeadlines(t *testing.T) {
	at := func(d time.Duration) time.Time { return time.Time{}.Add(d) }
	under := &noting{pieces: slices.Repeat([]string{"x"}, 20)}
	c := &wipingConn{Conn: under, reading: deadline{slack: time.Second}, writing: deadline{slack: time.Second}}
	read := func() { _, _ = c.Read(make([]byte, 8)) }
	steps := []struct {
		do   func()
		want string // what the connection is told
	}{
		{read, ""}, // none is wanted and none is set
		{func() { _ = c.SetReadDeadline(at(60 * time.Second)) }, ""},
		{read, "read 1m0s"},
		{func() { _ = c.SetReadDeadline(at(61 * time.Second)); read() }, ""}, // within the slack
		{func() { _ = c.SetReadDeadline(at(62 * time.Second)); read() }, "read 1m2s"},
		{func() { _ = c.SetReadDeadline(at(7 * time.Second)); read() }, "read 7s"}, // earlier ones are kept to the letter
		{func() { _ = c.SetReadDeadline(time.Time{}); read() }, "read 0s"},
		{read, ""},
		{func() { _ = c.SetWriteDeadline(at(5 * time.Second)); read() }, ""},
		{func() { _, _ = c.Write(nil) }, "write 5s"},
		{func() { _, _ = c.Write(nil) }, ""},
		{func() { _ = c.SetDeadline(at(9 * time.Second)); read() }, "read 9s"},
		{func() { _, _ = c.Write(nil) }, "write 9s"},
	}
	for i, s := range steps {
		under.said = nil
		s.do()
		if got := strings.Join(under.said, " "); got != s.want {
			t.Errorf("step %d: told %q, want %q", i, got, s.want)
		}
	}
	if got := deadlineSlack(5*time.Second, 80*time.Millisecond, time.Minute); got != 10*time.Millisecond {
		t.Errorf("slack %v", got)
	}
}
