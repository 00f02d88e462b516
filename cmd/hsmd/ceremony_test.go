package main

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"

	"authswitch/hsm/engine"
	"authswitch/hsm/key"
)

// tools is bin/authswitch, the one that users get; built here where nobody says
// which.
func tools(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("AUTHSWITCH_BIN"); path != "" {
		return path
	}
	path := filepath.Join(t.TempDir(), "authswitch")
	cmd := exec.Command("go", "build", "-o", path, "../authswitch")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

// seat is one officer at one terminal: a program on a pty of its own.
type seat struct {
	t    testing.TB
	cmd  *exec.Cmd
	tty  *os.File
	done chan struct{}

	mu     sync.Mutex
	screen bytes.Buffer
	read   int // what was expected already
}

func (h *hall) sit(args ...string) *seat {
	h.t.Helper()
	s := &seat{t: h.t, cmd: exec.Command(h.tools, append([]string{"hsm"}, args...)...), done: make(chan struct{})}
	s.cmd.Env = append(os.Environ(), "AUTHSWITCH_HSM_ADMIN="+h.socket)
	var err error
	if s.tty, err = pty.Start(s.cmd); err != nil {
		h.t.Fatal(err)
	}
	go func() {
		defer close(s.done)
		b := make([]byte, 4096)
		for {
			n, err := s.tty.Read(b)
			s.mu.Lock()
			s.screen.Write(b[:n])
			s.mu.Unlock()
			if err != nil { // EIO: the program has left the terminal
				return
			}
		}
	}()
	h.t.Cleanup(func() { _ = s.cmd.Process.Kill(); _ = s.tty.Close(); <-s.done })
	return s
}

func (s *seat) shown() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.screen.String()
}

// expect waits until the screen shows something new.
func (s *seat) expect(text string) *seat {
	s.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		s.mu.Lock()
		i := strings.Index(s.screen.String()[s.read:], text)
		if i >= 0 {
			s.read += i + len(text)
		}
		s.mu.Unlock()
		if i >= 0 {
			return s
		}
	}
	s.t.Fatalf("%v: never shows %q, but\n%s", s.cmd.Args, text, s.shown())
	return s
}

func (s *seat) types(line string) *seat {
	s.t.Helper()
	if _, err := s.tty.WriteString(line + "\n"); err != nil {
		s.t.Fatal(err)
	}
	return s
}

// leaves waits for the program's end and gives its last screen.
func (s *seat) leaves(code int) string {
	s.t.Helper()
	<-s.done
	_ = s.cmd.Wait() // the code is looked at
	if got := s.cmd.ProcessState.ExitCode(); got != code {
		s.t.Fatalf("%v: exit %d, want %d\n%s", s.cmd.Args, got, code, s.shown())
	}
	return s.shown()
}

// hall is where a ceremony is held: hsmd with SoftHSM, and the tools.
type hall struct {
	*place
	tools, socket string
}

const (
	alicePhrase = "alice counts the stars"
	bobPhrase   = "bob waters the garden"
)

func newHall(t *testing.T) *hall {
	p := newPlace(t, softConfig)
	p.init()
	p.start()
	admin := p.client("admin.sock")
	status, err := admin.Status(0)
	if err != nil || status.Manufacturer != "SoftHSM project" {
		t.Fatalf("the root of trust is %q, %v", status.Manufacturer, err)
	}
	h := &hall{place: p, tools: tools(t), socket: filepath.Join(p.dir, "admin.sock")}
	for name, phrase := range map[string]string{"alice": alicePhrase, "bob": bobPhrase} {
		screen := h.sit("officer", "add", name).expect("Enrolment code, not shown: ").types(h.code()).expect("New passphrase of " + name).types(phrase).expect("The same again").types(phrase).leaves(0)
		if !strings.Contains(screen, name+" is enrolled, fingerprint ") || strings.Contains(screen, phrase) {
			t.Errorf("screen of %s:\n%s", name, screen)
		}
	}
	return h
}

// code is the next enrolment code that `hsmd init` wrote and nobody used.
func (h *hall) code() string {
	h.t.Helper()
	b, err := os.ReadFile(filepath.Join(h.dir, "data", codesFile))
	if err != nil {
		h.t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return line
}

// prove types an officer's passphrase.
func (s *seat) prove(name string) *seat {
	phrase := map[string]string{"alice": alicePhrase, "bob": bobPhrase}[name]
	return s.expect("Passphrase of " + name + ": ").types(phrase)
}

// paper is a component as an officer holds it.
type paper struct{ digits, kcv string }

func newPaper(t *testing.T) (paper, []byte) {
	t.Helper()
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return paper{strings.ToUpper(hex.EncodeToString(b)), kcvOf(t, b)}, b
}

func kcvOf(t *testing.T, b []byte) string {
	t.Helper()
	k, err := key.New(key.AES, b)
	if err != nil {
		t.Fatal(err)
	}
	v, err := engine.KCV(&k)
	if err != nil {
		t.Fatal(err)
	}
	return v.String()
}

func (h *hall) begin(command string) string {
	h.t.Helper()
	return h.sit("ceremony", command, "--label", "zone key", "--officer", "alice").prove("alice").leaves(0)
}

// brings lets an officer type a component, and gives the screen.
func (h *hall) brings(name string, p paper, code int) string {
	h.t.Helper()
	s := h.sit("ceremony", "component", "--officer", name).expect("not shown: ").types(p.digits).expect("key check value: ").types(p.kcv)
	return s.prove(name).leaves(code)
}

func (h *hall) audit() string {
	h.t.Helper()
	b, err := os.ReadFile(filepath.Join(h.dir, "data", "audit.jsonl"))
	if err != nil {
		h.t.Fatal(err)
	}
	return string(b)
}

// Two officers at two terminals make a key that neither knows.
func TestCeremonyAtTwoTerminals(t *testing.T) {
	h := newHall(t)
	one, a := newPaper(t)
	two, b := newPaper(t)
	for i := range a {
		b[i] ^= a[i]
	}
	whole := kcvOf(t, b)
	h.begin("start")
	// Both sit down before either types.
	alice := h.sit("ceremony", "component", "--officer", "alice").expect("64 hexadecimal digits, not shown: ")
	bob := h.sit("ceremony", "component", "--officer", "bob").expect("not shown: ")
	// One writes in groups and small letters.
	alice.types(strings.ToLower(one.digits[:32] + " " + one.digits[32:])).expect("key check value: ").types(one.kcv).prove("alice")
	screens := alice.leaves(0)
	bob.types(two.digits).expect("key check value: ").types(two.kcv).prove("bob")
	screens += bob.leaves(0)
	for _, secret := range []string{one.digits, two.digits, one.digits[:16], two.digits[:16], alicePhrase, bobPhrase} {
		if strings.Contains(strings.ToUpper(screens), strings.ToUpper(secret)) {
			t.Error("a component or a passphrase was shown")
		}
	}
	if !strings.Contains(screens, "KCV of the whole key: "+whole) {
		t.Errorf("the combined KCV %s is not shown:\n%s", whole, screens)
	}
	alice = h.sit("ceremony", "finish", "--officer", "alice").expect("Key check value of the whole key: " + whole)
	if screen := alice.expect("Type yes: ").types("yes").prove("alice").leaves(0); strings.Contains(screen, "key block: ") {
		t.Error("a key after one confirmation")
	}
	out := filepath.Join(h.dir, "zone.tr31")
	bob = h.sit("ceremony", "finish", "--officer", "bob", "--out", out).expect("Type yes: ").types("yes").prove("bob")
	screen := bob.leaves(0)
	block, err := os.ReadFile(out)
	if err != nil || !strings.Contains(screen, "key block: "+strings.TrimSpace(string(block))) {
		t.Fatalf("%v\n%s", err, screen)
	}
	made, err := h.client("run.sock").KCV(bytes.TrimSpace(block), 0)
	if err != nil || !strings.EqualFold(hex.EncodeToString(made.KCV), whole) || made.Attributes.String() != "K1ABN" {
		t.Errorf("the module opens it as %+v, %v; want KCV %s", made, err, whole)
	}
	h.papers()
}

// papers verifies what is filed: transcript and audit log.
func (h *hall) papers() {
	h.t.Helper()
	file, public := filepath.Join(h.dir, "transcript.json"), filepath.Join(h.dir, "data", "audit-1.pem")
	h.tool(0, "hsm", "ceremony", "transcript", "--out", file)
	said := h.tool(0, "hsm", "ceremony", "transcript", "--verify", file, "--public-key", public)
	place := regexp.MustCompile(`audit log entry (\d+:[0-9a-f]{64})`).FindStringSubmatch(said)
	if place == nil {
		h.t.Fatalf("verify says %q", said)
	}
	log := filepath.Join(h.dir, "data", "audit.jsonl")
	h.tool(0, "audit", "verify", "--file", log, "--public-key", public, "--known", place[1])
	text, err := os.ReadFile(file)
	if err != nil {
		h.t.Fatal(err)
	}
	h.write("edited.json", strings.Replace(string(text), `"officer": "bob"`, `"officer": "eve"`, 1))
	h.tool(1, "hsm", "ceremony", "transcript", "--verify", filepath.Join(h.dir, "edited.json"), "--public-key", public)
	h.write("edited.jsonl", strings.Replace(h.audit(), `"bob"`, `"eve"`, 1))
	h.tool(1, "audit", "verify", "--file", filepath.Join(h.dir, "edited.jsonl"), "--public-key", public)
}

// tool runs a tool without a terminal.
func (h *hall) tool(code int, args ...string) string {
	h.t.Helper()
	cmd := exec.Command(h.tools, args...)
	cmd.Env = append(os.Environ(), "AUTHSWITCH_HSM_ADMIN="+h.socket)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != code {
		h.t.Fatalf("%v: %v, want exit %d\n%s", args, err, code, out)
	}
	return string(out)
}

// What is refused is wiped and written down, at real terminals.
func TestCeremonyRefusedAtTerminals(t *testing.T) {
	h := newHall(t)
	one, _ := newPaper(t)
	two, _ := newPaper(t)
	refused := func(name, screen, why string) {
		t.Helper()
		if !strings.Contains(screen, why) {
			t.Errorf("%s: the screen does not say %q:\n%s", name, why, screen)
		}
		if !strings.Contains(h.audit(), why+"; all components wiped") {
			t.Errorf("%s: the audit log does not say %q", name, why)
		}
		if out := h.tool(0, "hsm", "ceremony", "status"); !strings.Contains(out, "aborted") {
			t.Errorf("%s: %s", name, out)
		}
	}
	h.begin("start")
	h.brings("alice", one, 0)
	refused("the same twice", h.brings("alice", two, 1), "the same officer twice")

	h.begin("start")
	h.brings("alice", one, 0)
	refused("wrong KCV", h.brings("bob", paper{two.digits, one.kcv}, 1), "the key check value does not fit")

	h.begin("start")
	h.brings("alice", one, 0)
	alone := h.sit("ceremony", "finish", "--officer", "alice").expect("Only 1 of 2 components are there").expect("Type yes: ").types("yes")
	refused("one alone", alone.prove("alice").leaves(1), "one officer alone makes no key: the other components are missing")

	// No terminal, no secret: not by a pipe, not by a flag.
	h.begin("start")
	if out := h.tool(1, "hsm", "ceremony", "component", "--officer", "alice"); !strings.Contains(out, "standard input is none") {
		t.Errorf("without a terminal: %s", out)
	}
	h.tool(2, "hsm", "ceremony", "component", "--officer", "alice", "--component", one.digits)
	h.tool(2, "hsm", "ceremony", "component", one.digits)
	// A wrong passphrase is no officer.
	mallory := h.sit("ceremony", "component", "--officer", "bob").expect("not shown: ").types(two.digits).expect("key check value: ").types(two.kcv)
	if screen := mallory.expect("Passphrase of bob: ").types("not bob's passphrase").leaves(1); !strings.Contains(screen, "this is not the officer") {
		t.Errorf("wrong passphrase:\n%s", screen)
	}
	h.tool(1, "hsm", "officer", "add", "carol", "--key", filepath.Join(h.dir, "carol.pem"), "--officer", "alice")
	// A third officer, with a key file, under dual control.
	h.sit("officer", "add", "carol", "--key", filepath.Join(h.dir, "carol.pem"), "--officer", "alice").prove("alice").expect("waits for a second officer").leaves(0)
	h.sit("officer", "approve", "1", "--officer", "alice").expect("Type yes: ").types("yes").prove("alice").expect("the same officer twice").leaves(1)
	h.sit("officer", "add", "carol", "--key", filepath.Join(h.dir, "carol.pem"), "--officer", "alice").prove("alice").expect("waits for a second officer").leaves(0)
	h.sit("officer", "approve", "2", "--officer", "bob").expect("alice asks: officer.enrol carol").expect("Type yes: ").types("yes").prove("bob").expect("done").leaves(0)
	if out := h.tool(0, "hsm", "officer", "list", "--json"); !strings.Contains(out, `"name": "carol"`) {
		t.Errorf("officers: %s", out)
	}
	// Carol needs no terminal to prove who she is: a machine may hold her key.
	if out := h.tool(0, "hsm", "ceremony", "abort", "--officer", "carol", "--officer-key", filepath.Join(h.dir, "carol.pem")); !strings.Contains(out, "aborted") {
		t.Errorf("abort: %s", out)
	}
}

func TestRehearsal(t *testing.T) {
	h := newHall(t)
	screen := h.begin("rehearse")
	pages := regexp.MustCompile(`practice component \d: ([0-9A-F ]+)  KCV ([0-9A-F]+)`).FindAllStringSubmatch(screen, -1)
	if len(pages) != 2 {
		t.Fatalf("screen:\n%s", screen)
	}
	for i, name := range []string{"alice", "bob"} {
		h.brings(name, paper{pages[i][1], pages[i][2]}, 0)
	}
	for _, name := range []string{"alice", "bob"} {
		screen = h.sit("ceremony", "finish", "--officer", name).expect("Type yes: ").types("yes").prove(name).leaves(0)
	}
	if !strings.Contains(screen, "this was a rehearsal: the key was thrown away") || strings.Contains(screen, "key block: ") {
		t.Errorf("screen:\n%s", screen)
	}
	if !strings.Contains(h.audit(), fmt.Sprintf("%q:\"rehearsal ", "object")) {
		t.Error("the audit log does not say that it was a rehearsal")
	}
}
