package main_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/creack/pty"
)

// officers are alice and bob, enrolled in dev's module with a key file each.
type officers struct {
	d   *instance
	dir string
}

func enrol(t *testing.T, d *instance) *officers {
	t.Helper()
	o := &officers{d, t.TempDir()}
	for _, name := range []string{"alice", "bob"} {
		if out, stderr, code := run(t, "hsm", "officer", "add", name, "--key", o.key(name), "--socket", d.info.HSM.Admin,
			"--code-file", filepath.Join(d.info.HSM.DataDir, "enrolment.codes")); code != 0 {
			t.Fatalf("enrol %s: %s%s", name, out, stderr)
		}
	}
	return o
}

func (o *officers) key(name string) string { return filepath.Join(o.dir, name+".pem") }

var requestNumber = regexp.MustCompile(`officer approve (\d+)`)

// ask lets alice ask for something, and bob approve it into a file, at a
// terminal of his own; it gives what bob sees.
func (o *officers) ask(out string, words ...string) string {
	o.d.t.Helper()
	said, stderr, code := o.d.operate(append(words, "--officer", "alice", "--officer-key", o.key("alice"), "--socket", o.d.info.HSM.Admin)...)
	m := requestNumber.FindStringSubmatch(said)
	if code != 0 || m == nil {
		o.d.t.Fatalf("%v: %d %s%s", words, code, said, stderr)
	}
	program, err := binary()
	if err != nil {
		o.d.t.Fatal(err)
	}
	cmd := exec.Command(program, "hsm", "officer", "approve", m[1], "--officer", "bob", "--officer-key", o.key("bob"), "--socket", o.d.info.HSM.Admin, "--out", out)
	tty, err := pty.Start(cmd)
	if err != nil {
		o.d.t.Fatal(err)
	}
	defer tty.Close()
	if _, err := tty.WriteString("yes\n"); err != nil {
		o.d.t.Fatal(err)
	}
	screen, _ := io.ReadAll(tty) // EIO at its end
	if err := cmd.Wait(); err != nil {
		o.d.t.Fatalf("approve: %v\n%s", err, screen)
	}
	return string(screen)
}

// Once two officers are enrolled, nobody has a key made, taken in or given out
// alone, by a node or by its module; two have, and the journal knows their names.
func TestKeysByTwo(t *testing.T) {
	hsmd(t)
	d := startDev(t)
	// Without officers it is as it was.
	before := d.change("hsm", "keys", "generate", "--link", "cb-b", "--usage", "pin")
	o := enrol(t, d)
	for _, words := range [][]string{
		{"hsm", "keys", "generate", "--link", "cb-b", "--usage", "pin"},
		{"hsm", "keys", "export", before.ID},
	} {
		if out, stderr, code := d.operate(words...); code != 1 || !strings.Contains(stderr, "two officers") {
			t.Errorf("%v alone: %d %s%s", words, code, out, stderr)
		}
	}
	stored := filepath.Join(t.TempDir(), "block")
	if err := os.WriteFile(stored, []byte(d.activeKeys("cb-b")["pin"].Block), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := d.operate("hsm", "keys", "import", stored, "--form", "stored", "--link", "cb-b", "--header", "P0TBE"); code != 1 || !strings.Contains(stderr, "two officers") {
		t.Errorf("a block without a warrant: %d %s", code, stderr)
	}
	warrant := filepath.Join(t.TempDir(), "warrant.json")
	o.ask(warrant, "hsm", "keys", "generate", "--link", "cb-b", "--usage", "pin")
	text := string(mustRead(t, warrant))
	edited := filepath.Join(t.TempDir(), "edited.json")
	if err := os.WriteFile(edited, []byte(strings.Replace(text, `"bob"`, `"eve"`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ file, link, want string }{{edited, "cb-b", "signature does not hold"}, {warrant, "cb-a", "made for cb-b, not for cb-a"}} {
		if _, stderr, code := d.operate("hsm", "keys", "import", x.file, "--link", x.link); code != 1 || !strings.Contains(stderr, x.want) {
			t.Errorf("want %q: %d %s", x.want, code, stderr)
		}
	}
	made := d.change("hsm", "keys", "import", warrant, "--link", "cb-b")
	if made.State != "pending" || made.Usage != "pin" || !slices.Equal(made.Officers, []string{"alice", "bob"}) {
		t.Errorf("%+v", made)
	}
	// Out to the peer, and in again from another of its keys.
	sent := filepath.Join(t.TempDir(), "sent.tr31")
	if screen := o.ask(sent, "hsm", "keys", "export", made.ID); !strings.Contains(screen, "alice asks: key.export cb-b: P0T") {
		t.Errorf("bob sees\n%s", screen)
	}
	again := filepath.Join(t.TempDir(), "again.json")
	screen := o.ask(again, "hsm", "keys", "import", sent, "--link", "cb-b", "--header", made.Letters, "--kcv", made.KCV)
	if !strings.Contains(screen, "kcv "+made.KCV) {
		t.Errorf("bob sees\n%s", screen)
	}
	if _, stderr, code := d.operate("hsm", "keys", "import", again, "--link", "cb-b"); code != 1 || !strings.Contains(stderr, made.ID) {
		t.Errorf("the same key again: %d %s", code, stderr)
	}
	// Traffic does not notice any of it.
	if a := d.ask(http.MethodPost, "/v1/authorizations", "by-two", authorization("ORDER-1", 1000)); a.status != http.StatusCreated {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// change runs one of the commands that answer with a key.
func (d *instance) change(words ...string) keyLine {
	d.t.Helper()
	out, stderr, code := d.operate(append(words, "-o", "json")...)
	var k keyLine
	if err := json.Unmarshal([]byte(out), &k); err != nil || code != 0 {
		d.t.Fatalf("%v: %v %s%s", words, err, out, stderr)
	}
	return k
}
