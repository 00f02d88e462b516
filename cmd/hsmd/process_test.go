package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"authswitch/hsm"
)

// binary is bin/hsmd, the one that users get; built here where nobody says
// which.
func binary(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("HSMD_BIN"); path != "" {
		return path
	}
	path := filepath.Join(t.TempDir(), "hsmd")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

// place is a directory with a configuration.
type place struct {
	t      testing.TB
	exe    string
	dir    string
	config string
}

const softConfig = `
data_dir: data
root: {token: process-test, softhsm_conf: softhsm2.conf, pin_file: user.pin, officer_pin_file: officer.pin}
run: [{unix: run.sock}]
admin: [{unix: admin.sock}]
`

func newPlace(t testing.TB, config string) *place {
	t.Helper()
	dir, err := os.MkdirTemp("", "hsmd") // shorter than t.TempDir: a socket's path has 107 characters
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &place{t: t, exe: binary(t), dir: dir, config: filepath.Join(dir, "hsmd.yaml")}
	p.write("hsmd.yaml", config)
	return p
}

func (p *place) write(name, text string) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// run runs hsmd to its end and returns both outputs.
func (p *place) run(args ...string) (stdout, stderr string, code int) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var out, e strings.Builder
	cmd := exec.CommandContext(ctx, p.exe, args...)
	cmd.Stdout, cmd.Stderr = &out, &e
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	return out.String(), e.String(), cmd.ProcessState.ExitCode()
}

// init makes token and keys.
func (p *place) init(args ...string) string {
	p.t.Helper()
	out, stderr, code := p.run(append([]string{"init", "--config", p.config}, args...)...)
	if code != 0 {
		p.t.Fatalf("init: %d %s", code, stderr)
	}
	return out
}

// start runs `hsmd serve` until the test ends.
func (p *place) start() *exec.Cmd {
	p.t.Helper()
	cmd := exec.Command(p.exe, "serve", "--config", p.config)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

func (p *place) client(name string) *hsm.Client {
	p.t.Helper()
	c, err := hsm.New(hsm.Config{Endpoints: []hsm.EndpointConfig{{Unix: filepath.Join(p.dir, name)}}, Timeout: 10 * time.Second},
		hsm.Deps{Now: func() int64 { return time.Now().UnixNano() }})
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); c.Run(ctx) }()
	p.t.Cleanup(func() { stop(); <-done })
	p.awaitUp(c)
	return c
}

func (p *place) awaitUp(c *hsm.Client) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := c.AwaitUp(ctx); err != nil {
		p.t.Fatal(err)
	}
}

// The whole process with a real token: what it says of itself, a key made, the
// process killed, and the key still good in the next.
func TestServe(t *testing.T) {
	p := newPlace(t, softConfig)
	out := p.init()
	if !strings.Contains(out, "SoftHSM project") || !strings.Contains(out, "[1]") {
		t.Errorf("init says %q", out)
	}
	if again := p.init(); again != out {
		t.Errorf("init again says %q, not %q", again, out)
	}
	process := p.start()
	c := p.client("run.sock")
	s, err := c.Status(0)
	if err != nil || s.Manufacturer != "SoftHSM project" || s.Root != "pkcs11" || s.Label != "process-test" || s.Profile != "development" || s.TestKeys || len(s.Masters) != 1 {
		t.Fatalf("%+v %v", s, err)
	}
	k, err := c.Generate(hsm.Attributes{Usage: [2]byte{'M', '3'}, Algorithm: 'T', Mode: 'C', Exportability: 'N'}, 16, 0)
	if err != nil {
		t.Fatal(err)
	}
	mac := make([]byte, 8)
	if err := c.GenerateMAC(mac, k.Block, hsm.PadZeros, 8, []byte("message"), 0); err != nil {
		t.Fatal(err)
	}
	pid, err := os.ReadFile(filepath.Join(p.dir, "data", "pid"))
	if err != nil || string(pid) != fmt.Sprintln(process.Process.Pid) {
		t.Errorf("pid %q %v", pid, err)
	}
	if err := process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = process.Wait()
	next := p.start()
	p.awaitUp(c)
	deadline := time.Now().Add(10 * time.Second)
	for err = c.VerifyMAC(k.Block, nil, hsm.PadZeros, []byte("message"), mac, 0); errors.Is(err, hsm.ErrUnavailable) && time.Now().Before(deadline); {
		err = c.VerifyMAC(k.Block, nil, hsm.PadZeros, []byte("message"), mac, 0)
	}
	if err != nil {
		t.Errorf("after a kill: %v", err)
	}
	if err := next.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := next.Wait(); err != nil {
		t.Errorf("a clean stop: %v", err)
	}
	book, err := os.ReadFile(filepath.Join(p.dir, "data", "audit.jsonl"))
	if err != nil || !strings.Contains(string(book), `"operation":"key.generate","object":"M3TCN kcv `+fmt.Sprintf("%X", k.KCV)) {
		t.Errorf("the audit log: %s %v", book, err)
	}
}

// Test keys come in by init, marked for ever; production refuses them, and the
// file root.
func TestTestKeys(t *testing.T) {
	p := newPlace(t, softConfig)
	p.write("keys", "# a link's key\ncb-a K0TBN 0123456789ABCDEFFEDCBA9876543210\nboth K1ABN 00112233445566778899AABBCCDDEEFF\n")
	var k testKey
	lines := strings.Split(strings.TrimSpace(p.init("--test-keys", filepath.Join(p.dir, "keys"))), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines", len(lines))
	}
	if err := json.Unmarshal([]byte(lines[0]), &k); err != nil || k.Name != "cb-a" || k.Attributes != "K0TBN" || k.KCV != "08D7B4" {
		t.Errorf("%+v %v", k, err)
	}
	p.start()
	c := p.client("run.sock")
	if s, err := c.Status(0); err != nil || !s.TestKeys {
		t.Errorf("%+v %v", s, err)
	}
	if got, err := c.KCV([]byte(k.Block), 0); err != nil || fmt.Sprintf("%X", got.KCV) != "08D7B4" || got.Attributes.String() != "K0TBN" {
		t.Errorf("%+v %v", got, err)
	}
	p.write("hsmd.yaml", "profile: production\n"+strings.ReplaceAll(softConfig, ".sock", "2.sock"))
	if _, stderr, code := p.run("serve", "--config", p.config); code != 1 || !strings.Contains(stderr, "test keys were let in") {
		t.Errorf("production with test keys: %d %s", code, stderr)
	}
	if _, stderr, code := p.run("init", "--config", p.config, "--test-keys", filepath.Join(p.dir, "keys")); code != 2 || !strings.Contains(stderr, "production") {
		t.Errorf("test keys in production: %d %s", code, stderr)
	}
	p.write("hsmd.yaml", "profile: production\ndata_dir: d\nroot: {kind: file, file: root}\nrun: [{unix: r.sock}]\n")
	if _, stderr, code := p.run("serve", "--config", p.config); code != 1 || !strings.Contains(stderr, "production needs a token") {
		t.Errorf("production with a file: %d %s", code, stderr)
	}
}

// What can be wrong at the start: a clear sentence with the cure, and exit 1.
func TestStartRefused(t *testing.T) {
	p := newPlace(t, softConfig)
	p.init()
	soft := strings.ReplaceAll(softConfig, "user.pin", "wrong.pin")
	p.write("wrong.pin", "not-the-pin\n")
	for _, c := range []struct{ config, says string }{
		{soft, "put the right one into root.pin_file"},
		{strings.Replace(softConfig, "user.pin", "absent.pin", 1), "absent.pin"},
		{strings.Replace(softConfig, "process-test", "another", 1), "run `hsmd init`"},
		{strings.Replace(softConfig, "{token", "{module: /absent.so, token", 1), "make setup"},
		{strings.Replace(softConfig, "softhsm2.conf", "absent.conf", 1), "directories.tokendir"},
		{strings.Replace(softConfig, "pin_file: user.pin", "pin_credential: pin", 1), "LoadCredential"},
		{softConfig + "audit: {key: 7}\n", "run `hsmd init`"},
		{softConfig + "nonsense: 1\n", `unknown key "nonsense"`},
		{"data_dir: d\nroot: {kind: file, file: absent}\nrun: [{unix: r.sock}]\n", "hsmd init"},
		{"data_dir: d\nroot: {kind: other}\n", "neither pkcs11 nor file"},
	} {
		p.write("hsmd.yaml", c.config)
		_, stderr, code := p.run("serve", "--config", p.config)
		if code != 1 || !strings.Contains(stderr, c.says) || strings.Contains(stderr, "not-the-pin") {
			t.Errorf("want %q: %d %s", c.says, code, stderr)
		}
	}
	p.write("hsmd.yaml", softConfig)
	if err := os.Chmod(filepath.Join(p.dir, "user.pin"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := p.run("serve", "--config", p.config); code != 1 || !strings.Contains(stderr, "chmod 600") {
		t.Errorf("a PIN that others can read: %d %s", code, stderr)
	}
}

// Exit status and lines of the self-test.
func TestSelftest(t *testing.T) {
	p := newPlace(t, softConfig)
	vectors, err := filepath.Abs("../../hsm/testdata/payment-crypto.json")
	if err != nil {
		t.Fatal(err)
	}
	out, _, code := p.run("selftest", "--vectors", vectors)
	if code != 0 || strings.Count(out, "pass ") < 60 || strings.Contains(out, "fail ") {
		t.Errorf("%d %s", code, out)
	}
	p.write("none.json", `{"about":"x","unknown_family":[{}]}`)
	p.write("bad.json", `{"kcv_tdes":[{"key":"0123456789ABCDEFFEDCBA9876543210","kcv":"000000"}]}`)
	if out, _, code := p.run("selftest", "--vectors", filepath.Join(p.dir, "none.json")); code != 1 || out != "skip unknown_family\n" {
		t.Errorf("nothing checked: %d %q", code, out)
	}
	if out, _, code := p.run("selftest", "--vectors", filepath.Join(p.dir, "bad.json")); code != 1 || !strings.HasPrefix(out, "fail kcv_tdes ") {
		t.Errorf("a wrong answer: %d %q", code, out)
	}
	if _, _, code := p.run("selftest"); code == 0 {
		t.Error("no vectors and no complaint")
	}
	if _, _, code := p.run("selftest", "--nonsense"); code != 2 {
		t.Errorf("a flag that is none: %d", code)
	}
}

// Nobody of the same user looks into the process, and it leaves no core.
func TestHardened(t *testing.T) {
	p := newPlace(t, softConfig)
	p.init()
	process := p.start()
	p.client("run.sock")
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", process.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	core, lock := false, false
	for line := range strings.Lines(string(limits)) {
		if f := strings.Fields(line); strings.HasPrefix(line, "Max core file size") && f[4] == "0" && f[5] == "0" {
			core = true
		}
		lock = lock || strings.HasPrefix(line, "Max locked memory") && strings.Fields(line)[3] == "unlimited"
	}
	if !core {
		t.Errorf("core files are not forbidden:\n%s", limits)
	}
	// The kernel gives the files of a process that is not dumpable to root.
	info, err := os.Stat(fmt.Sprintf("/proc/%d/mem", process.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if uid := info.Sys().(*syscall.Stat_t).Uid; uid != 0 {
		t.Errorf("its memory belongs to user %d", uid)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", process.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if lock && strings.Contains(string(status), "VmLck:\t       0 kB") {
		t.Error("memory is not locked although there is no limit on it")
	}
}
