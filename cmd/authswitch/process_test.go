package main_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// These tests run the program that users get: real processes, real sockets,
// real disks. They look only at what a user or a script can see.

// binary is the program under test: what `make test` built, else built here.
var binary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("AUTHSWITCH_BIN"); path != "" {
		return path, nil
	}
	dir, err := os.MkdirTemp("", "authswitch-test-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "authswitch")
	build := exec.Command("go", "build", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return path, nil
})

// instance is a running `authswitch dev`.
type instance struct {
	t    *testing.T
	cmd  *exec.Cmd
	logs *lockedBuffer
	dir  string
	disk *loopDisk // nil: dir is anywhere
	info struct {
		API, Admin, Key, Merchant string
		AdminKey                  string `json:"admin_key"`
		DataDir                   string `json:"data_dir"`
		Nodes                     []struct {
			ID, API, Admin string
			PID            int
			DataDir        string `json:"data_dir"`
		}
		Links []struct{ Name, Scheme, Dialect, Address, Ledger string }
		HSM   struct {
			Admin   string
			DataDir string `json:"data_dir"`
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// ports hands each instance of this process a hundred ports of its own.
var ports struct {
	sync.Mutex
	next int
}

func portBase() int {
	ports.Lock()
	defer ports.Unlock()
	if ports.next == 0 {
		ports.next = 12000 + os.Getpid()%70*100
	}
	ports.next += 100
	return ports.next
}

// startDev runs dev until the test ends and waits until it says ready.
func startDev(t *testing.T, args ...string) *instance { t.Helper(); return startDevOn(t, nil, args...) }

// startDevOn keeps its data on a disk; nil: in a directory of the test's.
func startDevOn(t *testing.T, disk *loopDisk, args ...string) *instance {
	t.Helper()
	return startProgramOn(t, "", disk, args...)
}

// startProgramOn runs another program than the one under test; empty: that one.
func startProgramOn(t *testing.T, program string, disk *loopDisk, args ...string) *instance {
	t.Helper()
	if program == "" {
		var err error
		if program, err = binary(); err != nil {
			t.Fatal(err)
		}
	}
	d := &instance{t: t, logs: &lockedBuffer{}, disk: disk}
	if disk != nil {
		d.dir = filepath.Join(disk.mount, "data")
	} else {
		d.dir = t.TempDir()
	}
	d.cmd = exec.Command(program, append([]string{"dev", "--json", "--port-base", strconv.Itoa(portBase()), "--keep", d.dir}, args...)...)
	t.Cleanup(func() {
		d.stop()
		if t.Failed() {
			t.Logf("the last of the logs:\n%s", tail(d.logs.String(), 8000))
		}
	})
	d.run()
	return d
}

// run starts what cmd says and waits until it is ready.
func (d *instance) run() {
	t := d.t
	t.Helper()
	d.cmd.Stderr = d.logs
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatalf("dev said nothing: %v\n%s", err, tail(d.logs.String(), 4000))
	}
	said := d.info
	said.Nodes, said.Links = nil, nil
	if err := json.Unmarshal(line, &said); err != nil {
		t.Fatalf("dev said %q: %v", line, err)
	}
	if d.info.API == "" { // started again it says the same, and others may be reading
		d.info = said
	}
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

// stop ends dev as an operator would, and returns how it ended.
func (d *instance) stop() error {
	if d.cmd.Process == nil || d.cmd.ProcessState != nil {
		return nil
	}
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(40*time.Second, func() { _ = d.cmd.Process.Kill() })
	defer timer.Stop()
	return d.cmd.Wait()
}

// pid is the running node's process id.
func (d *instance) pid() int {
	b, err := os.ReadFile(filepath.Join(d.info.Nodes[0].DataDir, "pid"))
	if err != nil {
		d.t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		d.t.Fatal(err)
	}
	return pid
}

// answer is an HTTP answer, read whole.
type answer struct {
	status int
	body   string
	fields map[string]any
}

// ask sends one request; a nil body is a GET.
func (d *instance) ask(method, path, key, body string, headers ...string) answer {
	d.t.Helper()
	a, err := d.tryAsk(method, path, key, body, headers...)
	if err != nil {
		d.t.Fatal(err)
	}
	return a
}

func (d *instance) tryAsk(method, path, key, body string, headers ...string) (answer, error) {
	return d.askOf(&http.Client{Timeout: 40 * time.Second}, d.info.API, method, path, key, body, headers...)
}

// askAt authorizes at one node.
func (d *instance) askAt(client *http.Client, node int, key, body string) (answer, error) {
	return d.askOf(client, d.info.Nodes[node].API, http.MethodPost, "/v1/authorizations", key, body)
}

func (d *instance) askOf(client *http.Client, api, method, path, key, body string, headers ...string) (answer, error) {
	request, err := http.NewRequest(method, api+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	request.Header.Set("Authorization", "Bearer "+d.info.Key)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		request.Header.Set(name, value)
	}
	if method == http.MethodPost || method == http.MethodPut || method == http.MethodPatch {
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Idempotency-Key", key)
	}
	response, err := client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{status: response.StatusCode, body: string(b)}
	_ = json.Unmarshal(b, &a.fields)
	return a, nil
}

// Published test numbers of the schemes.
const (
	visaCard       = "4111111111111111"
	cbCard         = "4970100000000154"
	mastercardCard = "5555555555554444"
	amexCard       = "378282246310005"
)

// body is an authorization's request.
func (d *instance) body(card string, amount int) string {
	return fmt.Sprintf(`{"merchant":%q,"reference":"ORDER-42","amount":{"value":%d,"currency":"EUR"},"channel":"ecommerce","card":{"number":%q,"expiry":"3012","cvv":"937"}}`,
		d.info.Merchant, amount, card)
}

func (d *instance) authorize(key, card string, amount int) answer {
	d.t.Helper()
	return d.ask(http.MethodPost, "/v1/authorizations", key, d.body(card, amount))
}

// field is a text field of the answer, by path.
func (a answer) field(path ...string) string {
	var v any = a.fields
	for _, p := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return ""
		}
		v = m[p]
	}
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

// eventually waits for something that the system does by itself.
func eventually(t *testing.T, within time.Duration, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", within, what)
		}
		time.Sleep(50 * time.Millisecond) // polling another process: there is nothing to wait on
	}
}

// run runs a tool of the program and returns its output and exit code.
func run(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}
