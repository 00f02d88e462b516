package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"

	"go.yaml.in/yaml/v3"

	"authswitch/hsm/server"
)

// Config is the one file hsmd reads. Unknown keys are refused with their line;
// relative paths are relative to the file.
type Config struct {
	// Profile production refuses the file root and test keys.
	Profile string        `yaml:"profile"`
	DataDir string        `yaml:"data_dir"` // the pid, the audit log
	Root    RootConfig    `yaml:"root"`
	Run     []Listener    `yaml:"run"`   // for the switch
	Admin   []Listener    `yaml:"admin"` // for those who look after keys
	Host    []Listener    `yaml:"host"`  // for clients that speak payShield-style host commands
	Audit   AuditConfig   `yaml:"audit"`
	Limits  server.Config `yaml:"limits"`
	// Metrics is the address of /metrics and /live, loopback only; empty: none.
	Metrics string `yaml:"metrics"`
}

// RootConfig is the root of trust: a token, or a file.
type RootConfig struct {
	Kind   string `yaml:"kind"`   // pkcs11 (default) or file
	Module string `yaml:"module"` // path of the PKCS#11 library; SoftHSM's when empty
	Token  string `yaml:"token"`  // label
	// SoftHSMConf is SoftHSM's own configuration file, for a token that is
	// nobody else's; `init` writes it where it is missing.
	SoftHSMConf string `yaml:"softhsm_conf"`
	// The PIN comes from a file of mode 0600, or from a credential that systemd
	// hands over; never from a flag or a variable.
	PINFile        string `yaml:"pin_file"`
	PINCredential  string `yaml:"pin_credential"`
	OfficerPINFile string `yaml:"officer_pin_file"` // the security officer's; only `init` reads it
	File           string `yaml:"file"`             // of kind file
}

// Listener is a Unix socket with the users it lets in, or an address with
// mutual TLS 1.3 and the names it lets in.
type Listener struct {
	Unix    string     `yaml:"unix"`
	Users   []string   `yaml:"users"` // names or numbers; hsmd's own user when empty
	Address string     `yaml:"address"`
	TLS     *TLSConfig `yaml:"tls"`
	Names   []string   `yaml:"names"` // of client certificates
	// Plain is an address of `host` without TLS: on loopback, or outside the
	// production profile.
	Plain bool `yaml:"plain"`
}

// TLSConfig names the files of a listener.
type TLSConfig struct {
	CAFile   string `yaml:"ca_file"` // the authority of the clients
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
}

// AuditConfig is where the audit log is, and which key of the token signs it.
type AuditConfig struct {
	File string `yaml:"file"` // audit.jsonl in data_dir when empty
	Key  int    `yaml:"key"`  // 1 when empty
}

// The kinds of root, and what stands for an empty setting.
const (
	kindPKCS11    = "pkcs11"
	kindFile      = "file"
	softHSMModule = "/usr/lib/softhsm/libsofthsm2.so"
	profileDev    = "development"
)

// maxConfigBytes bounds the file.
const maxConfigBytes = 1 << 20

// readConfig reads, completes and validates a file; all faults at once.
func readConfig(path string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open configuration: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxConfigBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if len(b) > maxConfigBytes {
		return nil, fmt.Errorf("configuration %s is larger than %d bytes", path, maxConfigBytes)
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("find the configuration's directory: %w", err)
	}
	c, faults := parseConfig(b, dir)
	if len(faults) > 0 {
		return nil, fmt.Errorf("configuration %s:\n%w", path, errors.Join(faults...))
	}
	return c, nil
}

// unknownKey is the library's word for a key it does not know.
var unknownKey = regexp.MustCompile(`^(line \d+): field (.*) not found in type \S+$`)

func parseConfig(b []byte, dir string) (*Config, []error) {
	var c Config
	var faults []error
	decoder := yaml.NewDecoder(bytes.NewReader(b))
	decoder.KnownFields(true)
	err := decoder.Decode(&c)
	var mistyped *yaml.TypeError
	switch {
	case errors.As(err, &mistyped):
		for _, text := range mistyped.Errors {
			if m := unknownKey.FindStringSubmatch(text); m != nil {
				text = fmt.Sprintf("%s: unknown key %q", m[1], m[2])
			}
			faults = append(faults, errors.New(text))
		}
	case errors.Is(err, io.EOF):
		// An empty file: what is needed is named below.
	case err != nil:
		return nil, []error{err}
	}
	c.complete(dir)
	return &c, append(faults, c.validate()...)
}

// complete fills defaults and makes paths absolute.
func (c *Config) complete(dir string) {
	usual := func(s *string, value string) {
		if *s == "" {
			*s = value
		}
	}
	usual(&c.Profile, profileDev)
	usual(&c.Root.Kind, kindPKCS11)
	usual(&c.Root.Module, softHSMModule)
	paths := []*string{&c.DataDir, &c.Root.Module, &c.Root.SoftHSMConf, &c.Root.PINFile, &c.Root.OfficerPINFile, &c.Root.File, &c.Audit.File}
	for _, list := range [][]Listener{c.Run, c.Admin, c.Host} {
		for i := range list {
			paths = append(paths, &list[i].Unix)
			if t := list[i].TLS; t != nil {
				paths = append(paths, &t.CAFile, &t.CertFile, &t.KeyFile)
			}
		}
	}
	for _, p := range paths {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
	usual(&c.Audit.File, filepath.Join(c.DataDir, "audit.jsonl"))
	if c.Audit.Key == 0 {
		c.Audit.Key = 1
	}
	c.Limits = c.Limits.WithDefaults()
}

// validate reports all faults.
func (c *Config) validate() []error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if c.Profile != profileDev && c.Profile != server.Production {
		fault("profile: %q is neither development nor production", c.Profile)
	}
	if c.DataDir == "" {
		fault("data_dir: needed")
	}
	switch c.Root.Kind {
	case kindPKCS11:
		if c.Root.Token == "" {
			fault("root.token: needed: the label of the token")
		}
		if (c.Root.PINFile == "") == (c.Root.PINCredential == "") {
			fault("root.pin_file: either this or pin_credential is needed, and not both")
		}
	case kindFile:
		if c.Root.File == "" {
			fault("root.file: needed")
		}
		if c.Profile == server.Production {
			fault("root.kind: %w", server.ErrFileRoot)
		}
	default:
		fault("root.kind: %q is neither pkcs11 nor file", c.Root.Kind)
	}
	if len(c.Run) == 0 {
		fault("run: at least one listener is needed")
	}
	for name, list := range map[string][]Listener{"run": c.Run, "admin": c.Admin, "host": c.Host} {
		for i := range list {
			if list[i].Plain {
				if name != "host" || list[i].Unix != "" || list[i].TLS != nil {
					fault("%s[%d].plain: only for an address of host without tls", name, i)
				}
				if c.Profile == server.Production && !isLoopback(list[i].Address) {
					fault("%s[%d].plain: in production only on loopback: host commands carry encrypted PINs, and account numbers in clear", name, i)
				}
				continue
			}
			for _, err := range list[i].faults() {
				fault("%s[%d].%w", name, i, err)
			}
		}
	}
	if c.Metrics != "" && !isLoopback(c.Metrics) {
		fault("metrics: %q is not a loopback address with a port", c.Metrics)
	}
	return faults
}

func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// maxSocketPath is the kernel's, less the zero at the end: unix(7).
const maxSocketPath = 107

func (l *Listener) faults() []error {
	if (l.Unix == "") == (l.Address == "") {
		return []error{errors.New("unix: either this or address is needed, and not both")}
	}
	if l.Unix != "" {
		var faults []error
		if len(l.Unix) > maxSocketPath {
			faults = append(faults, fmt.Errorf("unix: %d characters; a socket's path has at most %d", len(l.Unix), maxSocketPath))
		}
		if l.TLS != nil || len(l.Names) > 0 {
			faults = append(faults, errors.New("tls: a Unix socket has none; its peers are known by their user"))
		}
		if _, err := l.users(); err != nil {
			faults = append(faults, err)
		}
		return faults
	}
	var faults []error
	if _, _, err := net.SplitHostPort(l.Address); err != nil {
		faults = append(faults, fmt.Errorf("address: %w", err))
	}
	if l.TLS == nil || l.TLS.CAFile == "" || l.TLS.CertFile == "" || l.TLS.KeyFile == "" {
		faults = append(faults, errors.New("tls: ca_file, cert_file and key_file are needed; there is no plain connection to a security module"))
	}
	if len(l.Names) == 0 {
		faults = append(faults, errors.New("names: needed: whose certificates are let in"))
	}
	if len(l.Users) > 0 {
		faults = append(faults, errors.New("users: only a Unix socket knows them"))
	}
	return faults
}

// users are the numbers of those let in.
func (l *Listener) users() ([]uint32, error) {
	if len(l.Users) == 0 {
		return []uint32{uint32(os.Geteuid())}, nil
	}
	var out []uint32
	for _, name := range l.Users {
		text := name
		if _, err := strconv.ParseUint(name, 10, 32); err != nil {
			u, err := user.Lookup(name)
			if err != nil {
				return nil, fmt.Errorf("users: %q is no user of this machine", name)
			}
			text = u.Uid
		}
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("users: %q has no number", name)
		}
		out = append(out, uint32(n))
	}
	return out, nil
}
