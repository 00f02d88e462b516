package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// request is the authorization's body, as encoding/json reads it.
type request struct {
	Merchant  string `json:"merchant"`
	Reference string `json:"reference"`
	Amount    amount `json:"amount"`
	Channel   string `json:"channel"`
	Card      struct {
		Number string `json:"number"`
		Expiry string `json:"expiry"`
		CVV    string `json:"cvv"`
	} `json:"card"`
	Brand   string `json:"brand"`
	Capture string `json:"capture"`
}

type amount struct {
	Value    int64  `json:"value"`
	Currency string `json:"currency"`
}

type response struct {
	ID           string  `json:"id"`
	Status       string  `json:"status"`
	Amount       amount  `json:"amount"`
	ResponseCode string  `json:"response_code"`
	Reason       string  `json:"reason"`
	Retry        string  `json:"retry"`
	ApprovalCode *string `json:"approval_code"`
	RRN          string  `json:"rrn"`
	STAN         string  `json:"stan"`
	Scheme       string  `json:"scheme"`
	Link         string  `json:"link"`
	Card         struct {
		BIN   string `json:"bin"`
		Last4 string `json:"last4"`
	} `json:"card"`
	CVVResult    string `json:"cvv_result"`
	ProcessingMS int    `json:"processing_ms"`
	Final        bool   `json:"final"`
}

// door is an HTTP door in the usual way: it reads the body, checks the little
// that cannot be left out, and answers approved. Nothing is stored and nothing
// is sent on, so what it costs is the door alone.
func door(listen string) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/whoami", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"gateway":"peer","merchants":["peer"]}`)
	})
	mux.HandleFunc("POST /v1/authorizations", authorize)
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(map[string]any{"api": "http://" + listener.Addr().String(), "pid": os.Getpid()}); err != nil {
		return err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-stop
		server.Close()
	}()
	if err := server.Serve(listener); err != http.ErrServerClosed {
		return err
	}
	return nil
}

func authorize(w http.ResponseWriter, r *http.Request) {
	var in request
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil || in.Merchant == "" || in.Amount.Value <= 0 || len(in.Card.Number) < 12 ||
		r.Header.Get("Idempotency-Key") == "" || !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ") {
		http.Error(w, `{"code":"invalid"}`, http.StatusUnprocessableEntity)
		return
	}
	out := response{
		ID: "auth_01990000000000000000000000", Status: "approved", Amount: in.Amount, ResponseCode: "00", Reason: "approved", Retry: "none",
		RRN: "632700000017", STAN: "000017", Scheme: "visa", Link: "peer", CVVResult: "M", ProcessingMS: 1, Final: true,
	}
	out.Card.BIN, out.Card.Last4 = in.Card.Number[:6], in.Card.Number[len(in.Card.Number)-4:]
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	if err := json.NewEncoder(w).Encode(&out); err != nil {
		return // the caller has gone
	}
}
