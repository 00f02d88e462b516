package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// admin serves /live, /ready and /metrics, what operators may do (operations),
// and profiles where they are asked for, on a port of its own, so that a flood at the gateways' door does not
// blind the operators.
type admin struct {
	server *http.Server
	mux    *http.ServeMux
	ln     net.Listener
}

// readiness says what is missing before the node can serve; empty is ready.
type readiness func() []string

// adminTimeout bounds reading and writing of one admin request.
const adminTimeout = 10 * time.Second

func newAdmin(listen func(network, address string) (net.Listener, error), c AdminConfig, gather prometheus.Gatherer, ready readiness) (*admin, error) {
	ln, err := listen("tcp", c.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen for admin on %s: %w", c.Listen, err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /live", func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte("live\n"))
	})
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		missing := ready()
		if len(missing) == 0 {
			w.Write([]byte("ready\n"))
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, "not ready: "+strings.Join(missing, "; "))
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(gather, promhttp.HandlerOpts{}))
	a := &admin{ln: ln, mux: mux, server: &http.Server{
		Handler: mux, ReadTimeout: adminTimeout, WriteTimeout: adminTimeout, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}}
	if c.Profiling {
		a.server.WriteTimeout = profileTimeout
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return a, nil
}

// profileTimeout is long enough for a profile of a minute.
const profileTimeout = 70 * time.Second

func (a *admin) serve() error { return a.server.Serve(a.ln) }

func (a *admin) stop(ctx context.Context) error { return a.server.Shutdown(ctx) }

// printJSON is how every tool prints with --json.
func printJSON(w interface{ Write([]byte) (int, error) }, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
