package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"authswitch/hsm"
)

// asked reads the number of a request off a screen.
var asked = regexp.MustCompile(`authswitch hsm officer approve (\d+)`)

// asks lets alice ask, and gives the request's number.
func (h *hall) asks(args ...string) string {
	h.t.Helper()
	screen := h.sit(append(args, "--officer", "alice")...).prove("alice").leaves(0)
	m := asked.FindStringSubmatch(screen)
	if m == nil {
		h.t.Fatalf("%v: no request on the screen:\n%s", args, screen)
	}
	return m[1]
}

// approves lets an officer give the second word, and gives the screen.
func (h *hall) approves(name, request string, code int, args ...string) string {
	h.t.Helper()
	s := h.sit(append([]string{"officer", "approve", request, "--officer", name}, args...)...)
	return s.expect("Type yes: ").types("yes").prove(name).leaves(code)
}

// Two officers at two terminals make, take in, give out and destroy keys, in
// SoftHSM; alone nobody does, on whatever way.
func TestKeysByTwoAtTerminals(t *testing.T) {
	h := newHall(t)
	admin, run := h.client("admin.sock"), h.client("run.sock")
	pin := hsm.Attributes{Usage: [2]byte{'P', '0'}, Algorithm: 'T', Mode: 'B', Exportability: 'E'}
	for name, alone := range map[string]func() error{
		"generate": func() error { _, err := admin.Generate(pin, 16, 0); return err },
		"import":   func() error { _, err := admin.Import(nil, nil, hsm.ImportRequest{}, 0); return err },
		"export":   func() error { _, err := admin.Export(nil, nil, hsm.Block, 0); return err },
		"new lmk":  func() error { _, err := admin.NewMaster(0); return err },
		"destroy":  func() error { return admin.RetireMaster(1, 0) },
		"table":    func() error { _, err := admin.BindTable(nil, nil, 0); return err },
	} {
		if err := alone(); !errors.Is(err, hsm.ErrForbidden) || !strings.Contains(err.Error(), "two officers") {
			t.Errorf("%s alone: %v", name, err)
		}
	}
	if !strings.Contains(h.audit(), `"operation":"lmk.create","reason":"two officers do this`) {
		t.Error("one alone is not in the audit log")
	}
	// A local master key: alice twice is refused and written down, bob makes it.
	h.tool(2, "hsm", "rotate", "lmk", "--new")
	screen := h.approves("alice", h.asks("rotate", "lmk", "--new"), 1)
	if !strings.Contains(screen, "the same officer twice") || !strings.Contains(h.audit(), "the same officer twice") {
		t.Errorf("screen:\n%s", screen)
	}
	screen = h.approves("bob", h.asks("rotate", "lmk", "--new"), 0)
	if !strings.Contains(screen, "alice asks: lmk.create lmk/2.") || !strings.Contains(screen, "lmk/2 seals") {
		t.Errorf("screen:\n%s", screen)
	}
	if s, err := run.Status(0); err != nil || len(s.Masters) != 2 {
		t.Errorf("%+v, %v", s, err)
	}
	if !strings.Contains(h.audit(), `"actors":["alice","bob"],"operation":"lmk.create","object":"lmk/2"`) {
		t.Error("the two are not in the audit log")
	}
	// A key, with its warrant.
	out := filepath.Join(h.dir, "warrant.json")
	request := h.asks("keys", "generate", "--link", "cb-a", "--usage", "pin", "--header", "P0TBE", "--bytes", "16")
	screen = h.approves("bob", request, 0, "--out", out)
	if !strings.Contains(screen, "alice asks: key.generate cb-a: P0TBE, 128 bits.") {
		t.Errorf("screen:\n%s", screen)
	}
	var file struct {
		Warrant struct {
			Label, Attributes, KCV, Block string
			Officers                      []string
		}
	}
	text, err := os.ReadFile(out)
	if err != nil || json.Unmarshal(text, &file) != nil {
		t.Fatalf("%s, %v", text, err)
	}
	w := file.Warrant
	k, err := run.KCV([]byte(w.Block), 0)
	if err != nil || k.Attributes != pin || k.Master != 2 || !strings.EqualFold(w.KCV, hex.EncodeToString(k.KCV)) || w.Label != "cb-a" || strings.Join(w.Officers, " ") != "alice bob" {
		t.Errorf("warrant %+v, key %+v, %v", w, k, err)
	}
	// The first local master key goes, by two.
	if screen = h.approves("bob", h.asks("rotate", "lmk", "--destroy", "1"), 0); !strings.Contains(screen, "lmk/2 seals") {
		t.Errorf("screen:\n%s", screen)
	}
	if s, err := run.Status(0); err != nil || len(s.Masters) != 1 || s.Masters[0] != 2 {
		t.Errorf("%+v, %v", s, err)
	}
	// The switch's own keys are made without anybody, as ever.
	if _, err := run.Generate(pin, 16, 0); err != nil {
		t.Errorf("the switch: %v", err)
	}
}

// Who reaches the admin socket first is no officer by that.
func TestFirstComerIsNoOfficer(t *testing.T) {
	p := newPlace(t, softConfig)
	out := p.init()
	if !strings.Contains(out, "enrolment codes of the first officers") || strings.Contains(out, "code: ") {
		t.Errorf("init says %q", out)
	}
	codes := filepath.Join(p.dir, "data", codesFile)
	info, err := os.Stat(codes)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	p.start()
	p.client("admin.sock")
	h := &hall{place: p, tools: tools(t), socket: filepath.Join(p.dir, "admin.sock")}
	first := h.code()
	p.write("none", "AAAAAAAAAAAAAAAAAAAAAAAAAA\n")
	add := func(code int, name, file string) string {
		return h.tool(code, "hsm", "officer", "add", name, "--key", filepath.Join(p.dir, name+".pem"), "--code-file", file)
	}
	if said := add(1, "mallory", filepath.Join(p.dir, "none")); !strings.Contains(said, "none of the enrolment codes") {
		t.Errorf("a wrong code: %s", said)
	}
	add(0, "alice", codes)
	p.write("used", first+"\n")
	if said := add(1, "mallory", filepath.Join(p.dir, "used")); !strings.Contains(said, "none of the enrolment codes") {
		t.Errorf("a used code: %s", said)
	}
	add(0, "bob", codes)
	if said := h.tool(0, "hsm", "officer", "list"); strings.Contains(said, "mallory") || !strings.Contains(said, "bob") {
		t.Errorf("officers: %s", said)
	}
	if left := h.code(); left != "" {
		t.Errorf("a code is left: %q", left)
	}
	if again := p.init(); strings.Contains(again, "enrolment codes") {
		t.Errorf("init draws codes although there are two officers: %q", again)
	}
}
