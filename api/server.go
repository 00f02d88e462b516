// Package api is the gateways' HTTP door: it reads requests within limits,
// checks key, merchant and every field, hands the payment to switching, and
// writes the answer.
//
// It decides nothing about a payment and stores nothing. Card data is read in
// the request's own body, never becomes a Go string, and is wiped before the
// request's memory is used again; no answer and no log line holds any. Reads
// go through query, never to the store. Called by: cmd.
package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"authswitch/merchant"
	"authswitch/payment"
	"authswitch/query"
)

// Authorizer takes an authorization to its decided outcome. It mints a.ID. out
// may alias a; both are the caller's again when it returns. Its error is a
// *payment.Refusal where there is no decision.
type Authorizer interface {
	Authorize(a *payment.Authorization, out *payment.Payment) error
}

// Reverser cancels a payment for its gateway; durable when it returns.
type Reverser interface {
	Reverse(c *payment.Cancellation) (payment.Cancelled, error)
}

// Gateways knows API keys; nil is no gateway.
type Gateways interface {
	Authenticate(key []byte) *merchant.Gateway
}

// Reader reads payments.
type Reader interface {
	Payment(id payment.ID) (payment.Payment, error)
	Item(id payment.ID) (query.Item, error)
	History(id payment.ID) ([]payment.Entry, error)
	Operation(id payment.ID) (payment.Operation, error)
	StoredCard(token payment.ID) (payment.StoredCard, error)
}

// Finder finds a merchant's payments.
type Finder interface {
	ByKey(m payment.MerchantID, key []byte) (query.Page, error)
	ByReference(m payment.MerchantID, reference []byte) (query.Page, error)
	List(m payment.MerchantID, before payment.ID, limit int) (query.Page, error)
}

// Deps is what the door takes from its surroundings.
type Deps struct {
	Now          func() payment.Instant
	Authorizer   Authorizer
	Reverser     Reverser
	Operator     Operator
	Corrector    Corrector
	PaymentLinks LinkKeeper
	Cards        CardKeeper
	Gateways     Gateways
	// Administrators and Merchants may be nil together: then the API has no merchants.
	Administrators Administrators
	Merchants      Merchants
	Reader         Reader
	Finder         Finder
	Batches        Batches
	BatchReader    BatchReader
	People         People
	Links          func() []Link // for GET /v1/links
	Others         Others        // nil: this node is alone
	// Starved is how long what could run in this process waits for a processor;
	// nil: nobody knows.
	Starved func() time.Duration
	// QueueAge is how long the oldest has waited of what a request of this
	// priority would wait for; nil: nobody knows.
	QueueAge   func(payment.Priority) time.Duration
	Log        *slog.Logger
	Registerer prometheus.Registerer // nil: metrics are kept and not shown
}

// Server is the door. Serve may be called once per listener.
type Server struct {
	cfg       Config
	deps      Deps
	http      *fasthttp.Server
	tls       *tls.Config // nil: plain
	metrics   *metrics
	requests  sync.Pool
	inWork    atomic.Int64
	admission *admission
	closing   atomic.Bool // connections end after their answers
}

// New builds a server that listens nowhere yet.
func New(cfg Config, deps Deps) (*Server, error) {
	if faults := cfg.Validate(); len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	s := &Server{cfg: cfg.WithDefaults(), deps: deps}
	if s.cfg.CertificateFile != "" {
		certificate, err := tls.LoadX509KeyPair(s.cfg.CertificateFile, s.cfg.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("reading the API's certificate: %w", err)
		}
		s.tls = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}}
	}
	s.admission = newAdmission(&s.cfg)
	var err error
	if s.metrics, err = newMetrics(deps.Registerer, s.InWork); err != nil {
		return nil, fmt.Errorf("registering the API's metrics: %w", err)
	}
	s.requests.New = func() any { return &request{server: s} }
	s.http = &fasthttp.Server{
		Handler:                      s.handle,
		ErrorHandler:                 s.refuseUnread,
		Logger:                       quiet{},
		Concurrency:                  s.cfg.Connections,
		MaxConnsPerIP:                s.cfg.ConnectionsPerAddress,
		ReadBufferSize:               s.cfg.HeaderBytes,
		MaxRequestBodySize:           s.cfg.BodyBytes,
		ReadTimeout:                  s.cfg.ReadTimeout,
		WriteTimeout:                 s.cfg.WriteTimeout,
		IdleTimeout:                  s.cfg.IdleTimeout,
		NoDefaultServerHeader:        true,
		NoDefaultContentType:         true,
		DisablePreParseMultipartForm: true, // its temporary files would hold the body
		SecureErrorLogMessage:        true,
		CloseOnShutdown:              true,
		HeaderReceived:               s.received,
	}
	return s, nil
}

// Serve accepts connections until Shutdown; it returns nil then.
func (s *Server) Serve(ln net.Listener) error {
	wiped := wipingListener{Listener: ln, slack: deadlineSlack(s.cfg.ReadTimeout, s.cfg.WriteTimeout, s.cfg.IdleTimeout)}
	if s.tls != nil {
		wiped.Listener = tls.NewListener(ln, s.tls)
	}
	if err := s.http.Serve(wiped); err != nil {
		return fmt.Errorf("serving the API on %s: %w", ln.Addr(), err)
	}
	return nil
}

// Shutdown stops accepting, lets requests in work end, closes idle
// connections, and returns when none is left or the context ends.
func (s *Server) Shutdown(ctx context.Context) error {
	if err := s.http.ShutdownWithContext(ctx); err != nil {
		return fmt.Errorf("draining the API: %w", err)
	}
	return nil
}

// CloseAfterAnswers makes every answer say that its connection ends, so that
// clients that keep connections come back elsewhere; what arrives is served.
func (s *Server) CloseAfterAnswers(on bool) { s.closing.Store(on) }

// InWork is how many requests are being answered.
func (s *Server) InWork() int { return int(s.inWork.Load()) }

// Connections is how many connections are open.
func (s *Server) Connections() int { return int(s.http.GetOpenConnectionsCount()) }

// quiet drops fasthttp's own log lines: they quote what peers send.
type quiet struct{}

func (quiet) Printf(string, ...any) {}
