package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"

	"authswitch/hsm/audit"
	"authswitch/hsm/desk"
	"authswitch/hsm/server"
	"authswitch/hsm/token"
)

func serveCommand() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use: "serve", Short: "Run the security module", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), path) },
	}
	c.Flags().StringVar(&path, "config", "hsmd.yaml", "the configuration file")
	return c
}

// checkpointEvery is how often what is new in the audit log is signed.
const checkpointEvery = 5 * time.Second

// serve runs the module until it is told to stop or a part cannot go on.
func serve(ctx context.Context, path string) error {
	c, err := readConfig(path)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("process", "hsmd")
	if err := harden(log); err != nil {
		return err
	}
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	r, err := openRoot(&c.Root)
	if err != nil {
		return err
	}
	defer r.Close()
	book, err := openBook(c, r)
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	err = serveWith(ctx, c, r, book, registry, log)
	if closed := book.Close(); err == nil && closed != nil {
		err = fmt.Errorf("close the audit log: %w", closed)
	}
	return err
}

// serveWith builds the desk and the server around an open root and book, and
// runs them.
func serveWith(ctx context.Context, c *Config, r token.Keeper, book *audit.Log, registry *prometheus.Registry, log *slog.Logger) error {
	public, err := r.PublicKey(c.Audit.Key)
	if err != nil {
		return fmt.Errorf("the key that signs the list of officers: %w", err)
	}
	var late keeper
	d, err := openDesk(c, r, book, public, &late)
	if err != nil {
		return err
	}
	if late.server, err = newServer(c, r, book, public, d, registry, log); err != nil {
		return err
	}
	return run(ctx, c, late.server, book, d, registry, log)
}

// signer signs checkpoints of the audit log in the token.
type signer struct {
	root   token.Root
	number int
}

func (s signer) Sign(digest [32]byte) ([]byte, error) { return s.root.Sign(s.number, digest[:]) }

func openBook(c *Config, r token.Root) (*audit.Log, error) {
	public, err := r.PublicKey(c.Audit.Key)
	if err != nil {
		return nil, fmt.Errorf("the key that signs the audit log: %w; run `hsmd init`", err)
	}
	return audit.Open(c.Audit.File, audit.Options{
		Now: time.Now, Signer: signer{r, c.Audit.Key}, KeyName: "audit/" + strconv.Itoa(c.Audit.Key), Public: public,
	})
}

func newServer(c *Config, r token.Keeper, book *audit.Log, public *ecdsa.PublicKey, officers *desk.Desk, registry *prometheus.Registry, log *slog.Logger) (*server.Server, error) {
	d, err := r.Describe()
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("the audit key's public half: %w", err)
	}
	if d.Kind == kindFile {
		log.Warn("#### THE ROOT OF TRUST IS A FILE: whoever copies it has every key. For development only. ####", "file", d.Label)
	}
	if d.TestKeys {
		log.Warn("#### TEST KEYS were let in under this root of trust: never take a real card or a real key here. ####")
	}
	return server.New(c.Limits, server.Deps{
		Root: r, Keeper: r, Book: book, Now: time.Now, Random: rand.Reader, Log: log, Registerer: registry, Admin: deskOperations(officers),
		Dual: officers.Dual, AuditKey: der,
		About: server.About{
			Version: version, Profile: c.Profile, Kind: d.Kind, Manufacturer: d.Manufacturer, Model: d.Model,
			Serial: d.Serial, Label: d.Label, Library: d.Library, TestKeys: d.TestKeys,
		},
	})
}

// run opens the doors, and closes them at the end.
func run(ctx context.Context, c *Config, s *server.Server, book *audit.Log, officers *desk.Desk, registry *prometheus.Registry, log *slog.Logger) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var doors sync.WaitGroup
	defer doors.Wait()
	defer s.Close()
	for role, list := range map[server.Role][]Listener{server.Run: c.Run, server.Admin: c.Admin, server.Host: c.Host} {
		for i := range list {
			l, identify, err := list[i].listen()
			if err != nil {
				return err
			}
			doors.Go(func() {
				if err := s.Serve(l, role, identify); !errors.Is(err, net.ErrClosed) {
					cancel(err)
				}
			})
		}
	}
	if c.Metrics != "" {
		stop, err := serveMetrics(c.Metrics, registry, cancel)
		if err != nil {
			return err
		}
		defer stop()
	}
	if err := writePID(c.DataDir); err != nil {
		return err
	}
	log.Info("serving", "run", len(c.Run), "admin", len(c.Admin), "host", len(c.Host), "profile", c.Profile, "version", version)
	t := time.NewTicker(checkpointEvery)
	defer t.Stop()
	clock := time.NewTicker(deskEvery)
	defer clock.Stop()
	for {
		select {
		case <-ctx.Done():
			if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
				return err
			}
			log.Info("stopping")
			return nil
		case <-clock.C:
			officers.Tick()
		case <-t.C:
			if _, err := book.Checkpoint(); err != nil {
				log.Error("the audit log is not signed", "error", err)
			}
		}
	}
}

// listen opens a listener. A Unix socket that a killed process left behind goes
// away; which users come in is asked of the kernel, not left to a mode.
func (l *Listener) listen() (net.Listener, server.Identify, error) {
	if l.Plain {
		ln, err := net.Listen("tcp", l.Address)
		if err != nil {
			return nil, nil, fmt.Errorf("listen on %s: %w", l.Address, err)
		}
		return ln, func(socket net.Conn) (string, error) { return "host " + socket.RemoteAddr().String(), nil }, nil
	}
	if l.Unix == "" {
		secure, err := server.TLSConfig(l.TLS.CAFile, l.TLS.CertFile, l.TLS.KeyFile)
		if err != nil {
			return nil, nil, err
		}
		ln, err := net.Listen("tcp", l.Address)
		if err != nil {
			return nil, nil, fmt.Errorf("listen on %s: %w", l.Address, err)
		}
		return tls.NewListener(ln, secure), server.TLSPeers(l.Names), nil
	}
	users, err := l.users()
	if err != nil {
		return nil, nil, err
	}
	if err := removeSocket(l.Unix); err != nil {
		return nil, nil, err
	}
	ln, err := net.Listen("unix", l.Unix)
	if err != nil {
		return nil, nil, fmt.Errorf("listen on %s: %w", l.Unix, err)
	}
	mode := os.FileMode(0o600)
	if len(l.Users) > 0 {
		mode = 0o666
	}
	if err := os.Chmod(l.Unix, mode); err != nil {
		_ = ln.Close() // it listens for nobody
		return nil, nil, fmt.Errorf("listen on %s: %w", l.Unix, err)
	}
	return ln, server.UnixPeers(users), nil
}

// removeSocket takes a socket away that nobody listens on, and refuses to take
// anything else.
func removeSocket(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("listen on %s: %w", path, err)
	}
	if info.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("listen on %s: something that is no socket is there", path)
	}
	if socket, err := net.DialTimeout("unix", path, time.Second); err == nil {
		socket.Close()
		return fmt.Errorf("listen on %s: another process listens there", path)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("listen on %s: %w", path, err)
	}
	return nil
}

// serveMetrics serves /metrics and /live.
func serveMetrics(address string, registry *prometheus.Registry, cancel context.CancelCauseFunc) (stop func(), err error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for metrics on %s: %w", address, err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /live", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("live\n")) })
	h := &http.Server{Handler: mux, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10}
	var running sync.WaitGroup
	running.Go(func() {
		if err := h.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			cancel(fmt.Errorf("metrics: %w", err))
		}
	})
	return func() {
		_ = h.Close()
		running.Wait()
	}, nil
}

// writePID writes this process's id into dir/pid, whole or not at all.
func writePID(dir string) error {
	file := filepath.Join(dir, "pid")
	if err := os.WriteFile(file+".new", []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		return fmt.Errorf("write pid file: %w", err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		return fmt.Errorf("write pid file: %w", err)
	}
	return nil
}
