package hsm_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"authswitch/card"
	"authswitch/hsm"
	"authswitch/hsm/audit"
	"authswitch/hsm/key"
	"authswitch/hsm/server"
	"authswitch/hsm/token"
	"authswitch/hsm/tr31"
)

// book is an audit log in memory.
type book struct {
	mu     sync.Mutex
	events []audit.Event
	fail   error
}

func (b *book) Append(e audit.Event) (audit.Place, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		return audit.Place{}, b.fail
	}
	b.events = append(b.events, e)
	return audit.Place{Sequence: uint64(len(b.events))}, nil
}

func (b *book) Checkpoint() (audit.Place, error) { return audit.Place{}, nil }

func (b *book) breaks(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail = err
}

// last is the last event, in words.
func (b *book) last() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.events) == 0 {
		return ""
	}
	e := b.events[len(b.events)-1]
	return fmt.Sprintf("%v %s %s: %s %s", e.Actors, e.Operation, e.Outcome, e.Object, e.Reason)
}

// module is an hsmd in this process: a server behind real sockets.
type module struct {
	t      testing.TB
	dir    string
	root   token.Keeper
	book   *book
	audit  server.Book
	server *server.Server
	cfg    server.Config
	now    func() time.Time

	registry prometheus.Registerer
}

// fileRoot is a root of trust with one master key.
func fileRoot(t testing.TB) token.Keeper {
	t.Helper()
	path := filepath.Join(t.TempDir(), "root")
	if err := token.CreateFile(path); err != nil {
		t.Fatal(err)
	}
	r, err := token.OpenFile(path)
	if err == nil {
		err = r.CreateMaster(1)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func newModule(t testing.TB, root token.Keeper, change ...func(m *module)) *module {
	t.Helper()
	dir, err := os.MkdirTemp("", "hsm") // shorter than t.TempDir: a socket's path has 107 characters
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	m := &module{t: t, dir: dir, root: root, book: &book{}, now: time.Now}
	m.audit = m.book
	for _, f := range change {
		f(m)
	}
	m.start()
	t.Cleanup(func() { m.server.Close() })
	return m
}

// start runs a server at the module's sockets, as a new process would.
func (m *module) start() {
	m.t.Helper()
	var err error
	m.server, err = server.New(m.cfg, server.Deps{
		Root: m.root, Keeper: m.root, Book: m.audit, Now: m.now, Random: rand.Reader,
		Registerer: m.registry,
		About:      server.About{Version: "test", Profile: "development", Kind: "file"},
	})
	if err != nil {
		m.t.Fatal(err)
	}
	for role, path := range map[server.Role]string{server.Run: m.run(), server.Admin: m.admin(), server.Host: m.host()} {
		_ = os.Remove(path)
		l, err := net.Listen("unix", path)
		if err != nil {
			m.t.Fatal(err)
		}
		s := m.server
		go func() {
			if err := s.Serve(l, role, server.UnixPeers([]uint32{uint32(os.Geteuid())})); !errors.Is(err, net.ErrClosed) {
				m.t.Error(err)
			}
		}()
	}
}

func (m *module) run() string   { return filepath.Join(m.dir, "run") }
func (m *module) admin() string { return filepath.Join(m.dir, "admin") }
func (m *module) host() string  { return filepath.Join(m.dir, "host") }

// client is one that is up.
func (m *module) client(path string, change ...func(c *hsm.Config)) *hsm.Client {
	m.t.Helper()
	cfg := hsm.Config{Endpoints: []hsm.EndpointConfig{{Unix: path}}, Timeout: 10 * time.Second}
	for _, f := range change {
		f(&cfg)
	}
	return connect(m.t, cfg)
}

func connect(t testing.TB, cfg hsm.Config) *hsm.Client {
	t.Helper()
	c, err := hsm.New(cfg, hsm.Deps{Now: func() int64 { return time.Now().UnixNano() }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); c.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	up, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := c.AwaitUp(up); err != nil {
		t.Fatal(err)
	}
	return c
}

// block seals a clear key under lmk/<n>, which only a test can.
func (m *module) block(n int, attributes, clearHex string) []byte {
	m.t.Helper()
	p, err := tr31.NewFromCMAC(tr31.D, 32, func(dst, input []byte) error { return m.root.CMAC(n, dst, input) })
	if err != nil {
		m.t.Fatal(err)
	}
	h := tr31.Header{
		Usage: tr31.Usage(attributes[0])<<8 | tr31.Usage(attributes[1]), Algorithm: key.Algorithm(attributes[2]),
		Mode: tr31.Mode(attributes[3]), Exportability: tr31.Exportability(attributes[4]),
	}
	b, err := p.Seal(h, unhex(m.t, clearHex), rand.Reader)
	if err != nil {
		m.t.Fatal(err)
	}
	return b
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func pan(t testing.TB, digits string) *card.PAN {
	t.Helper()
	p, err := card.ParsePAN([]byte(digits))
	if err != nil {
		t.Fatal(err)
	}
	return &p
}

// Keys with odd parity and nothing weak.
const (
	double1 = "0123456789ABCDEFFEDCBA9876543210"
	double2 = "89ABCDEF0123456776543210FEDCBA98"
	aes128  = "00112233445566778899AABBCCDDEEFF"
	aes256  = "FEDCBA9876543210F1F1F1F1F1F1F1F1FEDCBA9876543210F1F1F1F1F1F1F1F1"
)
