package main_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"authswitch/cmd/authswitch/hsmcmd"
)

// hsmd is the security module's binary, which dev looks for in HSMD_BIN; built
// where `make test` did not.
func hsmd(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("HSMD_BIN"); path != "" {
		return path
	}
	path := filepath.Join(t.TempDir(), "hsmd")
	if out, err := exec.Command("go", "build", "-o", path, "../hsmd").CombinedOutput(); err != nil {
		t.Fatalf("build hsmd: %v\n%s", err, out)
	}
	t.Setenv("HSMD_BIN", path)
	return path
}

// moduleStatus is what `authswitch hsm status` says of dev's module.
func moduleStatus(t *testing.T, d *instance) (m hsmcmd.Module, code int) {
	t.Helper()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "hsm", "status", "--json", "--config", filepath.Join(d.dir, "n1.yaml"))
	out, err := cmd.Output()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	var all []hsmcmd.Module
	if err := json.Unmarshal(out, &all); err != nil || len(all) != 1 {
		t.Fatalf("hsm status says %q: %v", out, err)
	}
	return all[0], cmd.ProcessState.ExitCode()
}

// dev's module is hsmd on SoftHSM, and a killed one is back within two seconds.
func TestDevModule(t *testing.T) {
	hsmd(t)
	d := startDev(t)
	m, code := moduleStatus(t, d)
	if code != 0 || !m.Up || m.Manufacturer != "SoftHSM project" || m.Token != "authswitch-dev" || !m.TestKeys || len(m.Masters) != 1 {
		t.Fatalf("%d %+v", code, m)
	}
	old := modulePID(t, d)
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	for {
		again, code := moduleStatus(t, d)
		if code == 0 && again.StartedAt != "" && modulePID(t, d) != old {
			break
		}
		if time.Since(killed) > 20*time.Second {
			t.Fatalf("not back: %+v", again)
		}
	}
	t.Logf("back after %s", time.Since(killed))
	if _, err := os.Stat(filepath.Join(d.dir, "hsm", "audit.jsonl")); err != nil {
		t.Error(err)
	}
	if blocks := string(mustRead(t, filepath.Join(d.dir, "hsm", "test-keys.jsonl"))); strings.Count(blocks, `"block":"D`) != 2*len(d.info.Links)+2 { // two a link, the terminals' PIN key and base key
		t.Errorf("test keys: %s", blocks)
	}
	if a := d.ask(http.MethodPost, "/v1/authorizations", "after-the-kill", authorization("ORDER-1", 1000)); a.status != http.StatusCreated {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// modulePID is the running hsmd's process id.
func modulePID(t *testing.T, d *instance) int {
	t.Helper()
	pid, err := strconv.Atoi(strings.TrimSpace(string(mustRead(t, filepath.Join(d.dir, "hsm", "pid")))))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func authorization(reference string, value int) string {
	return fmt.Sprintf(`{"merchant":"parcels","reference":%q,"amount":{"value":%d,"currency":"EUR"},"channel":"ecommerce","card":{"number":"4111111111111111","expiry":"3012","cvv":"123"}}`, reference, value)
}

// A node that starts without its security module is live and not ready, and
// says why; when the module comes it is ready.
func TestStartsWithoutModule(t *testing.T) {
	real := hsmd(t)
	dir := t.TempDir()
	wrapper, begin := filepath.Join(dir, "hsmd"), filepath.Join(dir, "begin")
	script := fmt.Sprintf("#!/bin/sh\nif [ \"$1\" = serve ]; then while [ ! -e %s ]; do sleep 0.05; done; fi\nexec %s \"$@\"\n", begin, real)
	if err := os.WriteFile(wrapper, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HSMD_BIN", wrapper)
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	base := portBase()
	dev := exec.Command(program, "dev", "--json", "--port-base", strconv.Itoa(base), "--keep", filepath.Join(dir, "data"))
	logs := &lockedBuffer{}
	dev.Stderr = logs
	out, err := dev.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := dev.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = dev.Process.Signal(syscall.SIGTERM)
		_ = dev.Wait()
	})
	get := func(path string) (int, string) {
		response, err := http.Get("http://" + "127.0.0.1:" + strconv.Itoa(base+1) + path)
		if err != nil {
			return 0, err.Error()
		}
		defer response.Body.Close()
		b, _ := io.ReadAll(response.Body)
		return response.StatusCode, string(b)
	}
	waiting := time.Now()
	for {
		status, body := get("/ready")
		// Links come up one after the other; in the end only the module is missing.
		if status == http.StatusServiceUnavailable && strings.HasPrefix(body, "not ready: security module") && !strings.Contains(body, " trace numbers") {
			break
		}
		if status == http.StatusOK || time.Since(waiting) > 15*time.Second {
			t.Fatalf("%d %s\n%s", status, body, tail(logs.String(), 4000))
		}
		time.Sleep(20 * time.Millisecond) // polling another process
	}
	if status, _ := get("/live"); status != http.StatusOK {
		t.Errorf("not live: %d", status)
	}
	if err := os.WriteFile(begin, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 1)
	if _, err := io.ReadFull(out, line); err != nil {
		t.Fatalf("never ready: %v\n%s", err, tail(logs.String(), 4000))
	}
	if status, body := get("/ready"); status != http.StatusOK {
		t.Errorf("%d %s", status, body)
	}
}
