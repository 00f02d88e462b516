package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"authswitch/payment"
	"authswitch/peer"
	"authswitch/store"
)

// streamControl carries the operators' commands: HTTP between members, and from
// the command line, which proves itself with the node's own certificate.
const streamControl peer.Stream = "authswitch-control/1"

// controlServer answers them. What only the leader can do, it asks the leader
// for.
type controlServer struct {
	mesh   *peer.Mesh
	store  *store.Store
	log    *slog.Logger
	server *http.Server
}

// Limits of the control stream. Joining waits for a member to catch up, and a
// backup is as long as the state.
const (
	controlTimeout = 30 * time.Minute
	controlHeaders = 16 << 10
	controlBody    = 64 << 10
)

func newControlServer(mesh *peer.Mesh, s *store.Store, log *slog.Logger) *controlServer {
	c := &controlServer{mesh: mesh, store: s, log: log}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", c.status)
	mux.HandleFunc("GET /snapshot", c.snapshot)
	mux.HandleFunc("POST /join", c.change(func(ctx context.Context, m memberRequest) error { return s.Join(ctx, m.Node, m.Address, !m.NoVote) }))
	mux.HandleFunc("POST /remove", c.change(c.remove))
	mux.HandleFunc("POST /transfer", c.change(func(_ context.Context, m memberRequest) error { return s.Transfer(m.Node) }))
	mux.HandleFunc("POST /release", c.change(func(_ context.Context, m memberRequest) error { return s.Release(m.Lane) }))
	c.server = &http.Server{
		Handler: mux, ReadHeaderTimeout: 10 * time.Second, WriteTimeout: controlTimeout, IdleTimeout: time.Minute, MaxHeaderBytes: controlHeaders,
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			plain, _ := conn.(plainConn)
			return context.WithValue(ctx, peerName{}, peer.Name(plain.Conn))
		},
	}
	return c
}

type peerName struct{}

// plainConn hides from net/http that this is TLS: it hangs up on protocols of
// ALPN that it does not know.
type plainConn struct{ net.Conn }

type plainListener struct{ net.Listener }

// Accept implements net.Listener.
func (l plainListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return plainConn{conn}, nil
}

func (c *controlServer) serve() error {
	err := c.server.Serve(plainListener{c.mesh.Accept(streamControl)})
	if errors.Is(err, http.ErrServerClosed) {
		return net.ErrClosed
	}
	return err
}

func (c *controlServer) stop() { _ = c.server.Close() }

// memberRequest is the body of every change.
type memberRequest struct {
	Node    payment.NodeID   `json:"id,omitempty"`
	Address string           `json:"address,omitempty"`
	NoVote  bool             `json:"no_vote,omitempty"`
	Gone    bool             `json:"gone,omitempty"` // it may be removed already
	Lane    payment.LinkName `json:"lane,omitempty"`
}

// remove refuses a name that nobody has: a slip of the pen must not pass for a
// node that is gone. A rebuild that is begun again asks for what may be done.
func (c *controlServer) remove(ctx context.Context, m memberRequest) error {
	if c.store.Leads() && !m.Gone && !c.store.Knows(m.Node) {
		return fmt.Errorf("%w: member %s", payment.ErrNotFound, m.Node)
	}
	return c.store.Remove(ctx, m.Node)
}

func (c *controlServer) status(w http.ResponseWriter, _ *http.Request) {
	status, err := c.store.Status()
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(status) // the asker left
}

// snapshot streams a backup. A failure in the middle breaks the connection: the
// file has no end then, and does not pass for whole.
func (c *controlServer) snapshot(w http.ResponseWriter, r *http.Request) {
	if !c.allowed(w, r, "") {
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	head, err := c.store.Backup(r.Context(), w)
	if err != nil {
		c.log.Error("no backup", "error", err)
		panic(http.ErrAbortHandler)
	}
	c.log.Info("a backup was taken", "applied", head.Applied)
}

// allowed lets members do everything, and a stranger with a certificate of the
// cluster's authority ask to be let in under its own name.
func (c *controlServer) allowed(w http.ResponseWriter, r *http.Request, joins payment.NodeID) bool {
	name, _ := r.Context().Value(peerName{}).(string)
	if status, err := c.store.Status(); err == nil {
		for _, m := range status.Members {
			if string(m.Node) == name {
				return true
			}
		}
	}
	if joins != "" && string(joins) == name {
		return true
	}
	http.Error(w, fmt.Sprintf("%s is no member", name), http.StatusForbidden)
	return false
}

// change does something that needs the leader, here or there.
func (c *controlServer) change(do func(context.Context, memberRequest) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, controlBody))
		var m memberRequest
		if err == nil {
			err = json.Unmarshal(body, &m)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		var joins payment.NodeID
		if r.URL.Path == "/join" || r.URL.Path == "/remove" { // to be replaced is to be removed and to join
			joins = m.Node
		}
		if !c.allowed(w, r, joins) {
			return
		}
		err = do(r.Context(), m)
		if errors.Is(err, store.ErrNotLeader) {
			err = c.askLeader(r.Context(), r.URL.Path, m)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		c.status(w, r)
	}
}

// askLeader repeats a request at the leader, as one member to another.
func (c *controlServer) askLeader(ctx context.Context, path string, m memberRequest) error {
	deadline := time.Now().Add(askLeaderFor)
	for {
		status, err := c.store.Status()
		if err == nil && status.LeaderAddress != "" && status.Leader != status.Node {
			return controlClient(c.mesh, status.LeaderAddress).do(ctx, http.MethodPost, path, m, nil)
		}
		if time.Now().After(deadline) {
			return errors.New("there is no leader to ask")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// askLeaderFor is longer than an election.
const askLeaderFor = 5 * time.Second
