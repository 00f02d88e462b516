package main

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"authswitch/journal"
	"authswitch/link"
	"authswitch/payment"
)

// operations is the operators' door of a node, on its admin port: it changes
// what the links do, reads the configuration again and writes off exceptions.
//
// Who may: whoever can read operator.token in the node's data directory, which
// the node makes with mode 0600. The port alone is no permission: on a machine
// with other users, or behind a forwarded port, anybody reaches it. The token
// says "may", not who; the name of the person travels in the request, and
// stands in the log and in what is journalled.
type operations struct {
	token    []byte
	links    *link.Set
	writeOff func(w *payment.WriteOff) (ended int, state payment.State, err error)
	reload   func() (reloaded, error)
	keys     keysDoor
	clearing clearingDoor
	rotation rotationDoor
	people   peopleDoor
	log      *slog.Logger
}

// operatorTokenFile is in the data directory.
const operatorTokenFile = "operator.token"

// maxOperation bounds a request's body: the transcript of a ceremony, quoted.
const maxOperation = 24 << 10

// operation is the body of every request.
type operation struct {
	Operator string        `json:"operator"`
	Reason   string        `json:"reason"`
	Result   string        `json:"result,omitempty"` // of a write-off: what became of operations that are exceptions
	Key      *keyOperation `json:"key,omitempty"`    // of /operate/keys
}

// operatorToken reads the node's token, made at its first start. Removing the
// file and starting the node again makes another.
func operatorToken(dir string) ([]byte, error) {
	path := filepath.Join(dir, operatorTokenFile)
	err := writeSynced(path, os.O_EXCL, []byte(rand.Text()+rand.Text()))
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make the operators' token: %w", err)
	}
	return readToken(path)
}

// readToken refuses a token that others may read, or that is too short to be
// one: a file that a crash left empty would let everybody in.
func readToken(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read the operators' token: %w", err)
	}
	if info.Mode()&0o077 != 0 {
		return nil, fmt.Errorf("%s must not be readable by others (chmod 600)", path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the operators' token: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if len(token) < 2*len(rand.Text()) {
		return nil, fmt.Errorf("%s holds no token: remove it and start the node again", path)
	}
	return []byte(token), nil
}

// register puts the operations on the admin port.
func (o *operations) register(mux *http.ServeMux) {
	mux.HandleFunc("GET /operate/links", o.guard(o.listLinks))
	mux.HandleFunc("POST /operate/links/{link}/{action}", o.guard(o.changeLink))
	mux.HandleFunc("POST /operate/reload", o.guard(o.readAgain))
	mux.HandleFunc("POST /operate/payments/{id}/write-off", o.guard(o.writeOffPayment))
	o.keys.register(mux, o.guard)
	o.clearing.register(mux, o.guard)
	o.rotation.register(mux, o.guard)
	o.people.register(mux, o.guard)
}

// failure is an answer that is not 200.
type failure struct {
	status int
	text   string
}

func refuse(status int, format string, args ...any) *failure {
	return &failure{status, fmt.Sprintf(format, args...)}
}

// guard asks for the token and, of what changes something, for a name.
func (o *operations) guard(do func(r *http.Request, b *operation) (any, *failure)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		given, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if subtle.ConstantTimeCompare([]byte(given), o.token) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			answerJSON(w, http.StatusUnauthorized, map[string]string{"error": "the operators' token is needed: operator.token in the node's data directory"})
			return
		}
		var b operation
		if r.Method == http.MethodPost {
			d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxOperation))
			d.DisallowUnknownFields()
			if err := d.Decode(&b); err != nil || b.Operator == "" || len(b.Operator) > 64 {
				answerJSON(w, http.StatusBadRequest, map[string]string{"error": `the body is {"operator": who, "reason": why}; operator is needed, 64 bytes at most`})
				return
			}
		}
		v, failed := do(r, &b)
		if r.Method == http.MethodPost {
			o.note(r, &b, failed)
		}
		if failed != nil {
			answerJSON(w, failed.status, map[string]string{"error": failed.text})
			return
		}
		answerJSON(w, http.StatusOK, v)
	}
}

// note is the audit line of whatever an operator did, or was refused.
func (o *operations) note(r *http.Request, b *operation, failed *failure) {
	attributes := []any{"operation", strings.TrimPrefix(r.URL.Path, "/operate/"), "operator", b.Operator, "reason", b.Reason}
	if failed != nil {
		o.log.Warn("operator, refused", append(attributes, "error", failed.text)...)
		return
	}
	o.log.Info("operator", attributes...)
}

func answerJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = printJSON(w, v)
}

func (o *operations) listLinks(*http.Request, *operation) (any, *failure) {
	return o.links.Status(), nil
}

func (o *operations) changeLink(r *http.Request, _ *operation) (any, *failure) {
	name := payment.LinkName(r.PathValue("link"))
	l := o.links.Link(name)
	if l == nil {
		return nil, refuse(http.StatusNotFound, "no link %q; there are %v", name, o.links.Names())
	}
	switch action := r.PathValue("action"); action {
	case "sign-on":
		l.SignOn()
	case "sign-off":
		l.Hold(link.HoldSignedOff)
	case "drain":
		l.Hold(link.HoldDrained)
	case "enable":
		l.Hold(link.NoHold)
	case "echo":
		before := l.Status()
		l.Echo()
		return before, nil
	case "exchange-keys":
		return exchangeKeys(r.Context(), l)
	default:
		return nil, refuse(http.StatusNotFound, "no action %q; there are sign-on, sign-off, echo, drain, enable, exchange-keys", action)
	}
	return l.Status(), nil
}

func (o *operations) readAgain(*http.Request, *operation) (any, *failure) {
	r, err := o.reload()
	if err != nil {
		return nil, refuse(http.StatusConflict, "the old configuration stands: %s", err)
	}
	return r, nil
}

func (o *operations) writeOffPayment(r *http.Request, b *operation) (any, *failure) {
	id, err := payment.ParseID(r.PathValue("id"), payment.AuthorizationPrefix)
	if err != nil {
		return nil, refuse(http.StatusNotFound, "no payment has that id")
	}
	how, known := payment.ParseResolution(b.Result)
	if !known {
		return nil, refuse(http.StatusBadRequest, "result is taken or not_taken: what the acquirer did about the operations that are exceptions")
	}
	ended, state, err := o.writeOff(&payment.WriteOff{ID: id, Operator: b.Operator, Reason: b.Reason, Operations: how})
	switch {
	case errors.Is(err, journal.ErrInvalid):
		return nil, refuse(http.StatusBadRequest, "%s", err)
	case errors.Is(err, payment.ErrNotFound):
		return nil, refuse(http.StatusNotFound, "no payment has that id")
	case err != nil:
		return nil, refuse(http.StatusServiceUnavailable, "%s; ask again, nothing is written off twice", err)
	case ended == 0:
		return nil, refuse(http.StatusConflict, "it owes no exception (it is %s); only an exception is closed by hand, and one of an operation needs --result", state)
	}
	return map[string]any{"id": r.PathValue("id"), "state": state.String(), "written_off": ended}, nil
}
