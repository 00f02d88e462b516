package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"authswitch/hsm"
)

// softHSMModule is where Debian puts it.
const softHSMModule = "/usr/lib/softhsm/libsofthsm2.so"

// devModule is dev's security module: hsmd, with a SoftHSM token in dev's own
// data directory.
type devModule struct {
	child   child
	dir     string // its configuration, token, audit log and test keys
	run     string // socket for the switch
	admin   string // socket for those who look after keys
	pidDir  string
	sockets string // a directory to remove at the end; empty: they are in dir
}

// longestSocket leaves room below the kernel's 107 characters.
const longestSocket = 100

// newDevModule writes hsmd's configuration and makes token and keys. Without
// bin/hsmd there is none: nil.
func newDevModule(ctx context.Context, dir string, links []string, log *slog.Logger) (*devModule, error) {
	exe := findHSMD()
	if exe == "" {
		log.Warn("#### NO SECURITY MODULE: bin/hsmd is not there (`make build` builds it). No PIN, no MAC; the vault's root is a key file. ####")
		return nil, nil //nolint:nilnil // there is none, and that was said
	}
	m := &devModule{dir: filepath.Join(dir, "hsm")}
	m.pidDir = m.dir
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the security module's directory: %w", err)
	}
	sockets := m.dir
	if len(filepath.Join(sockets, "admin.sock")) > longestSocket {
		var err error
		if sockets, err = os.MkdirTemp("", "authswitch-hsm-"); err != nil {
			return nil, fmt.Errorf("make a directory for sockets: %w", err)
		}
		m.sockets = sockets
	}
	m.run, m.admin = filepath.Join(sockets, "run.sock"), filepath.Join(sockets, "admin.sock")
	config := filepath.Join(m.dir, "hsmd.yaml")
	if err := writeYAML(config, m.config(log)); err != nil {
		return nil, err
	}
	if err := m.testKeys(ctx, exe, config, links); err != nil {
		return nil, err
	}
	m.child = child{name: "hsmd", exe: exe, args: []string{"serve", "--config", config}, logs: os.Stderr}
	return m, nil
}

// findHSMD looks beside this program, where `make build` puts it.
func findHSMD() string {
	if path := os.Getenv("HSMD_BIN"); path != "" {
		return path
	}
	self, err := os.Executable()
	if err != nil {
		return ""
	}
	path := filepath.Join(filepath.Dir(self), "hsmd")
	if info, err := os.Stat(path); err != nil || info.IsDir() {
		return ""
	}
	return path
}

func (m *devModule) config(log *slog.Logger) map[string]any {
	root := map[string]any{ // #nosec G101 -- where the PINs are, not what they are
		"kind": "pkcs11", "module": softHSMModule, "token": "authswitch-dev", "softhsm_conf": filepath.Join(m.dir, "softhsm2.conf"),
		"pin_file": filepath.Join(m.dir, "user.pin"), "officer_pin_file": filepath.Join(m.dir, "officer.pin"),
	}
	if _, err := os.Stat(softHSMModule); err != nil {
		log.Warn("#### SoftHSM IS NOT INSTALLED (`make setup` installs it): the root of trust is a file. ####")
		root = map[string]any{"kind": "file", "file": filepath.Join(m.dir, "root.keys")}
	}
	return map[string]any{
		"profile": profileDevelopment, "data_dir": m.dir, "root": root,
		"run": []any{map[string]any{"unix": m.run}}, "admin": []any{map[string]any{"unix": m.admin}},
	}
}

// testKeyKinds are the key-encrypting keys that each link shares with its
// simulator: for raw cryptograms, and for key blocks.
func testKeyKinds() []struct {
	suffix, attributes string
	bytes              int
} {
	return []struct {
		suffix, attributes string
		bytes              int
	}{{"k0", "K0TBN", 24}, {"k1", "K1ABN", 32}}
}

// testKeyFile is where a simulator finds its end of a link's key, in
// hexadecimal; mode 0600.
func (m *devModule) testKeyFile(link, suffix string) string {
	return filepath.Join(m.dir, link+"."+suffix)
}

// testKeyBlocks is where the switch's end is: lines of JSON with name
// (LINK.SUFFIX), attributes, kcv and block.
func (m *devModule) testKeyBlocks() string { return filepath.Join(m.dir, "test-keys.jsonl") }

// testKeys makes token and master key, and a pair of test keys per link, whose
// other end the link's simulator reads. A kept directory has them already.
func (m *devModule) testKeys(ctx context.Context, exe, config string, links []string) error {
	var text strings.Builder
	for _, link := range links {
		for _, k := range testKeyKinds() {
			digits, err := keepSecret(m.testKeyFile(link, k.suffix), func() (string, error) { return drawKey(k.bytes) })
			if err != nil {
				return err
			}
			fmt.Fprintf(&text, "%s.%s %s %s\n", link, k.suffix, k.attributes, digits)
		}
	}
	for _, k := range []struct{ file, suffix, attributes string }{{m.terminalsKey(), "p0", "P0TBN"}, {m.terminalsBase(), "b0", "B0AXN"}} {
		digits, err := keepSecret(k.file, func() (string, error) { return drawKey(terminalsKeyBytes) })
		if err != nil {
			return err
		}
		fmt.Fprintf(&text, "%s.%s %s %s\n", devTerminals, k.suffix, k.attributes, digits)
	}
	if _, err := os.Stat(m.testKeyBlocks()); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look for test keys: %w", err)
	}
	file := filepath.Join(m.dir, "test-keys")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		return fmt.Errorf("write test keys: %w", err)
	}
	defer os.Remove(file)
	cmd := exec.CommandContext(ctx, exe, "init", "--config", config, "--test-keys", file)
	cmd.Stderr = os.Stderr
	blocks, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("hsmd init: %w", err)
	}
	if err := os.WriteFile(m.testKeyBlocks()+".new", blocks, 0o600); err != nil {
		return fmt.Errorf("write test keys: %w", err)
	}
	if err := os.Rename(m.testKeyBlocks()+".new", m.testKeyBlocks()); err != nil {
		return fmt.Errorf("write test keys: %w", err)
	}
	return nil
}

// drawKey is a key of so many bytes, in hexadecimal.
func drawKey(n int) (string, error) {
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		return "", fmt.Errorf("draw a test key: %w", err)
	}
	return hex.EncodeToString(b), nil
}

// section is what a node's configuration says of it.
func (m *devModule) section() *hsm.Config {
	if m == nil {
		return nil
	}
	return &hsm.Config{Endpoints: []hsm.EndpointConfig{{Unix: m.run}}}
}

// info is what dev --json says of it.
func (m *devModule) info() *devHSM {
	if m == nil {
		return nil
	}
	return &devHSM{PID: readPID(m.pidDir), Run: m.run, Admin: m.admin, DataDir: m.dir}
}

// devHSM is the security module in the line of dev --json.
type devHSM struct {
	PID     int    `json:"pid"`
	Run     string `json:"run"`
	Admin   string `json:"admin"`
	DataDir string `json:"data_dir"`
}

// remove takes sockets away that are not in the data directory.
func (m *devModule) remove() {
	if m != nil && m.sockets != "" {
		_ = os.RemoveAll(m.sockets)
	}
}
