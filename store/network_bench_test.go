package store

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"authswitch/peer"
)

// BenchmarkThreeNodes is durable commits of three members over loopback TCP,
// each with 32 callers, on the real disk: with the product's mutual TLS and
// without, which is what it costs.
func BenchmarkThreeNodes(b *testing.B) {
	b.Run("tls", func(b *testing.B) {
		certificates := b.TempDir()
		if err := peer.Issue(certificates, rand.Reader, time.Now(), "n1", "n2", "n3"); err != nil {
			b.Fatal(err)
		}
		threeNodes(b, func(at, node string, book Book) (Network, error) {
			return secureNetwork(certificates, at, node, book)
		})
	})
	b.Run("plain", func(b *testing.B) {
		threeNodes(b, func(at, _ string, book Book) (Network, error) { return newPlainNetwork(at, book) })
	})
}

func threeNodes(b *testing.B, connect func(at, node string, book Book) (Network, error)) {
	b.Helper()
	stores := make([]*Store, 3)
	var members []Member
	for n := range stores {
		members = append(members, Member{trioName(n), freeAddress(b)})
	}
	var starting sync.WaitGroup
	for n := range stores {
		starting.Go(func() {
			cfg := testConfig(b.TempDir())
			cfg.Node, cfg.Address, cfg.Members = members[n].Node, members[n].Address, members
			cfg.HeartbeatTimeout, cfg.StartTimeout = 300*time.Millisecond, time.Minute
			cfg.MemtableBytes, cfg.BlockCacheBytes = 64<<20, 128<<20
			s, err := Start(b.Context(), cfg, Deps{Now: wallClock, FS: vfs.Default, Connect: func(book Book) (Network, error) {
				return connect(cfg.Address, string(cfg.Node), book)
			}})
			if err != nil {
				b.Error(err)
				return
			}
			stores[n] = s
		})
	}
	starting.Wait()
	defer func() {
		for _, s := range stores {
			if s != nil {
				_ = s.Stop(context.Background())
			}
		}
	}()
	if b.Failed() {
		return
	}
	b.ResetTimer()
	began, used := time.Now(), cpu(b)
	pay(b, stores, 32)
	b.StopTimer()
	b.ReportMetric(float64(2*b.N)/time.Since(began).Seconds(), "commits/s")
	b.ReportMetric((cpu(b)-used).Seconds()*1e6/float64(2*b.N), "cpu-µs/commit")
}

// pay opens and closes b.N payments, so many callers at each store.
func pay(b *testing.B, stores []*Store, callers int) {
	b.Helper()
	var next atomic.Int64
	var group sync.WaitGroup
	for caller := range len(stores) * callers {
		s := stores[caller%len(stores)]
		group.Go(func() {
			i := intent(0)
			key := make([]byte, 0, 64)
			for n := next.Add(1); int(n) <= b.N; n = next.Add(1) {
				now := wallClock()
				binary.BigEndian.PutUint64(i.ID[:], uint64(now/1e6)<<16)
				binary.BigEndian.PutUint64(i.ID[8:], uint64(n))
				i.Key = hex.AppendEncode(key[:0], i.ID[:])
				i.Reference = i.Key
				i.Session, i.ReceivedAt, i.SendBy, i.AnswerBy = 0, now, now+5e9, now+15e9
				if _, err := s.Open(i); err != nil {
					b.Error(err)
					return
				}
				o := approval(i)
				o.Session = 0
				if _, err := s.Close(o); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
}

func freeAddress(b *testing.B) string {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().String()
}

// secure is the product's network.
type secure struct{ mesh *peer.Mesh }

func secureNetwork(certificates, at, node string, book Book) (Network, error) {
	mesh, err := peer.Start(peer.Config{
		Listen: at, CAFile: filepath.Join(certificates, "ca.pem"),
		CertFile: filepath.Join(certificates, node+".pem"), KeyFile: filepath.Join(certificates, node+".key"),
	}, peer.Deps{
		Admit:  func(node string, s peer.Stream) bool { return book.Admit(node, string(s)) },
		NodeAt: book.NodeAt,
	}, StreamRaft, StreamCommands)
	return secure{mesh}, err
}

func (n secure) Accept(stream string) net.Listener { return n.mesh.Accept(peer.Stream(stream)) }

func (n secure) Dial(ctx context.Context, stream, address string) (net.Conn, error) {
	return n.mesh.Dial(ctx, peer.Stream(stream), address)
}

func (n secure) Peer(conn net.Conn) string { return peer.Name(conn) }
func (n secure) Close() error              { return n.mesh.Close() }

// plainNetwork is the same without TLS: a connection begins with a line, which
// stream it is and who dials.
type plainNetwork struct {
	ln      net.Listener
	own     string
	streams map[string]*fabricListener
}

func newPlainNetwork(at string, book Book) (Network, error) {
	ln, err := net.Listen("tcp", at)
	if err != nil {
		return nil, err
	}
	n := &plainNetwork{ln: ln, streams: map[string]*fabricListener{}}
	n.own, _ = book.NodeAt(at)
	for _, s := range []string{StreamRaft, StreamCommands} {
		n.streams[s] = &fabricListener{conns: make(chan net.Conn, 16), over: make(chan struct{}), address: at}
	}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			var stream, node string
			r := bufio.NewReaderSize(conn, 16)
			if _, err := fmt.Fscanf(onlyOne{r}, "%s %s\n", &stream, &node); err == nil && n.streams[stream] != nil {
				n.streams[stream].conns <- plainConn{conn, r, node}
			}
		}
	}()
	return n, nil
}

// onlyOne keeps Fscanf from reading ahead.
type onlyOne struct{ *bufio.Reader }

// plainConn is an accepted connection and what was read of it already.
type plainConn struct {
	net.Conn
	r    *bufio.Reader
	node string
}

func (c plainConn) Read(b []byte) (int, error) { return c.r.Read(b) }

func (n *plainNetwork) Accept(stream string) net.Listener { return n.streams[stream] }

func (n *plainNetwork) Dial(ctx context.Context, stream, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(conn, "%s %s\n", stream, n.own)
	return conn, err
}

func (n *plainNetwork) Peer(conn net.Conn) string { return conn.(plainConn).node }
func (n *plainNetwork) Close() error              { return n.ln.Close() }
