package ceremonycmd

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// terminal is where a person sits.
type terminal struct {
	in  *os.File
	out io.Writer
}

// maxTyped bounds a line: a component of 256 bits with spaces, or a passphrase.
const maxTyped = 1024

// check refuses what is not a terminal: a pipe has a history, a file, another
// process at its other end.
func (t *terminal) check() error {
	if !term.IsTerminal(int(t.in.Fd())) {
		return errTerminal
	}
	return nil
}

// secret asks for a line that is not shown. It is the caller's to wipe.
//
// The echo is off before the question is asked: term.ReadPassword turns it off
// after, and what a quick hand types in between stands on the screen.
func (t *terminal) secret(ctx context.Context, prompt string) ([]byte, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	before, err := term.MakeRaw(int(t.in.Fd()))
	if err != nil {
		return nil, fmt.Errorf("turn the terminal's echo off: %w", err)
	}
	defer func() {
		_ = term.Restore(int(t.in.Fd()), before) // the terminal may be gone; then so is its echo
		fmt.Fprintln(t.out)
	}()
	fmt.Fprint(t.out, prompt)
	return t.wait(ctx, t.readHidden)
}

// What a terminal in raw mode sends for the keys that have a meaning here.
const (
	interrupt = 0x03
	endOfFile = 0x04
	backspace = 0x08
	killLine  = 0x15
	erase     = 0x7F
)

// readHidden reads up to the end of a line, and lets it be corrected.
func (t *terminal) readHidden() ([]byte, error) {
	out := make([]byte, 0, maxTyped)
	one := make([]byte, 1)
	for {
		if _, err := t.in.Read(one); err != nil {
			clear(out)
			return nil, err
		}
		switch c := one[0]; {
		case c == '\r' || c == '\n':
			return out, nil
		case c == interrupt || c == endOfFile:
			clear(out)
			return nil, errInterrupted
		case c == killLine:
			clear(out)
			out = out[:0]
		case c == erase || c == backspace:
			if len(out) > 0 {
				out[len(out)-1] = 0
				out = out[:len(out)-1]
			}
		case len(out) < maxTyped:
			out = append(out, c)
		}
	}
}

// line asks for a line that is shown.
func (t *terminal) line(ctx context.Context, prompt string) (string, error) {
	if err := t.check(); err != nil {
		return "", err
	}
	fmt.Fprint(t.out, prompt)
	b, err := t.wait(ctx, func() ([]byte, error) {
		// Byte by byte: what is behind the line is the next question's.
		var out []byte
		one := make([]byte, 1)
		for len(out) < maxTyped {
			if _, err := t.in.Read(one); err != nil {
				return nil, err
			}
			if one[0] == '\n' {
				break
			}
			out = append(out, one[0])
		}
		return out, nil
	})
	return string(bytes.TrimSpace(b)), err
}

// wait reads until there is a line or an interrupt. The read that an interrupt
// leaves behind ends with the process.
func (t *terminal) wait(ctx context.Context, read func() ([]byte, error)) ([]byte, error) {
	type typed struct {
		line []byte
		err  error
	}
	done := make(chan typed, 1)
	go func() {
		line, err := read()
		done <- typed{line, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return nil, fmt.Errorf("read from the terminal: %w", r.err)
		}
		return r.line, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// confirm asks for the word yes.
func (t *terminal) confirm(ctx context.Context, question string) error {
	answer, err := t.line(ctx, question+" Type yes: ")
	if err != nil {
		return err
	}
	if answer != "yes" {
		return errNotSaid
	}
	return nil
}

// unhex reads hexadecimal digits as people write them: in groups, in either
// case. What it was read from is wiped by the caller.
func unhex(typed []byte) ([]byte, error) {
	digits := make([]byte, 0, len(typed))
	defer func() { clear(digits[:cap(digits)]) }()
	for _, c := range typed {
		if c != ' ' && c != '-' && c != '\t' && c != '\r' {
			digits = append(digits, c)
		}
	}
	out := make([]byte, hex.DecodedLen(len(digits)))
	if _, err := hex.Decode(out, digits); err != nil {
		clear(out)
		// Not the library's error: it shows the digit.
		return nil, fmt.Errorf("not hexadecimal digits, or an odd number of them (%d)", len(digits))
	}
	return out, nil
}
