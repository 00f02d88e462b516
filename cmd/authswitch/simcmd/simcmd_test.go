package simcmd

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// scenario writes a scenario file and returns its path.
func scenario(t *testing.T, dialect, more string) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "scenario.yaml")
	text := "name: acquirer-a\ndialect: " + dialect + "\nlisten: 127.0.0.1:0\nledger: " + filepath.Join(dir, "ledger.jsonl") + "\n" + more
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func execute(ctx context.Context, out io.Writer, args ...string) error {
	c := Command()
	c.SetArgs(args)
	c.SetOut(out)
	c.SetErr(io.Discard)
	c.SilenceUsage = true
	return c.ExecuteContext(ctx)
}

// It prints one line, takes connections, answers, and ends cleanly when told.
func TestRun(t *testing.T) {
	for _, dialect := range []string{"ascii87", ownDialect(t)} {
		ctx, stop := context.WithCancel(t.Context())
		r, w := io.Pipe()
		done := make(chan error, 1)
		path := scenario(t, dialect, "codec: fast\n")
		go func() {
			done <- execute(ctx, w, "run", path)
			w.Close()
		}()
		lines := bufio.NewScanner(r)
		if !lines.Scan() {
			t.Fatalf("no line: %v", <-done)
		}
		address, ok := strings.CutPrefix(lines.Text(), "simulator acquirer-a listening on ")
		if !ok {
			t.Fatalf("line %q", lines.Text())
		}
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		// 0800 with DE 7, 11 and 70 = 301.
		echo := "0800" + "\x82\x20\x00\x00\x00\x00\x00\x00" + "\x04\x00\x00\x00\x00\x00\x00\x00" + "0314101500" + "000001" + "301"
		if _, err := c.Write(append([]byte{0, byte(len(echo))}, echo...)); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 2+4)
		if _, err := io.ReadFull(c, answer); err != nil || string(answer[2:]) != "0810" {
			t.Errorf("answer %q, %v", answer, err)
		}
		stop()
		if err := <-done; err != nil {
			t.Errorf("it ended with %v", err)
		}
		if lines.Scan() {
			t.Errorf("another line: %q", lines.Text())
		}
	}
}

// ownDialect is a file outside the program that extends one inside.
func ownDialect(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ours.yaml")
	text := "name: ours\nextends: ascii87\nstatus: test\nabout: a test's own\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRefusals(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for name, row := range map[string]struct {
		args []string
		want string
	}{
		"no file":         {[]string{"run"}, "accepts 1 arg"},
		"absent file":     {[]string{"run", filepath.Join(t.TempDir(), "absent.yaml")}, "no such file"},
		"unknown key":     {[]string{"run", scenario(t, "ascii87", "colour: red\n")}, "line 5: field colour not found"},
		"unknown dialect": {[]string{"run", scenario(t, "esperanto", "")}, "esperanto"},
		"ledger":          {[]string{"run", scenario(t, "ascii87", "")}, "opening the ledger"},
		"address":         {[]string{"run", scenario(t, "ascii87", "")}, "address already in use"},
	} {
		t.Run(name, func(t *testing.T) {
			switch name {
			case "ledger":
				rewrite(t, row.args[1], "ledger.jsonl", "absent/ledger.jsonl")
			case "address":
				rewrite(t, row.args[1], "127.0.0.1:0", busy.Addr().String())
			}
			if err := execute(t.Context(), io.Discard, row.args...); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("%v, want %q", err, row.want)
			}
		})
	}
}

func rewrite(t *testing.T, path, old, text string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, []byte(strings.ReplaceAll(string(raw), old, text)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
