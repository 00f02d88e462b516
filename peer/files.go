package peer

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync"
	"time"
)

// files are the certificate, its key and the authority, read again when one of
// them changes. What does not parse is refused at start, and later leaves what
// was read before in use: a half-copied file must not cut the node off.
type files struct {
	cfg Config

	mu     sync.Mutex
	looked time.Time
	stamp  [3]time.Time
	pair   *tls.Certificate
	pool   *x509.CertPool
}

// lookEvery is how often the files are looked at, when they are needed.
const lookEvery = time.Second

func openFiles(cfg Config) (*files, error) {
	f := &files{cfg: cfg}
	stamp, err := f.stamps()
	if err != nil {
		return nil, err
	}
	if err := f.read(); err != nil {
		return nil, err
	}
	f.stamp, f.looked = stamp, time.Now()
	return f, nil
}

func (f *files) current() (*tls.Certificate, *x509.CertPool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.looked) > lookEvery {
		f.looked = time.Now()
		if stamp, err := f.stamps(); err == nil && stamp != f.stamp && f.read() == nil {
			f.stamp = stamp
		}
	}
	return f.pair, f.pool, nil
}

func (f *files) stamps() (stamp [3]time.Time, err error) {
	for n, path := range [...]string{f.cfg.CAFile, f.cfg.CertFile, f.cfg.KeyFile} {
		info, err := os.Stat(path)
		if err != nil {
			return stamp, fmt.Errorf("cluster certificates: %w", err)
		}
		stamp[n] = info.ModTime()
	}
	return stamp, nil
}

func (f *files) read() error {
	pem, err := os.ReadFile(f.cfg.CAFile)
	if err != nil {
		return fmt.Errorf("cluster certificates: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return fmt.Errorf("cluster certificates: %s holds none", f.cfg.CAFile)
	}
	pair, err := tls.LoadX509KeyPair(f.cfg.CertFile, f.cfg.KeyFile)
	if err != nil {
		return fmt.Errorf("cluster certificates: %w", err)
	}
	f.pair, f.pool = &pair, pool
	return nil
}
