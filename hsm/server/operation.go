package server

import (
	"errors"
	"strings"

	"authswitch/hsm/audit"
	"authswitch/hsm/dukpt"
	"authswitch/hsm/engine"
	"authswitch/hsm/issuer"
	"authswitch/hsm/mac"
	"authswitch/hsm/tr31"
	"authswitch/hsm/wire"
)

// Request is one operation being answered. Its fields are in a buffer that is
// used again: a handler keeps none of them.
type Request struct {
	Op         wire.Op
	Peer       string // "uid 1000", or a certificate's name
	Connection uint64 // the same for all requests of a connection
	Deadline   int64  // Unix nanoseconds, 0 for none
	Fields     wire.Fields
	Officers   []string // two, of what the desk had approved; else empty

	role Role
}

// Handler answers an operation: it reads the fields, and appends those of the
// answer to dst. Its error becomes a status (Refusal says which).
type Handler func(r *Request, dst []byte) ([]byte, error)

// Refusal is an error with its status, and a text that the client may see.
type Refusal struct {
	Status wire.Status
	Text   string
}

// Error is the text.
func (r *Refusal) Error() string {
	if r.Text == "" {
		return r.Status.String()
	}
	return r.Text
}

// operation is who may ask it, and how it is answered.
type operation struct {
	handle     Handler
	run, admin bool
	quick      bool // by the reader itself: it waits for nothing
}

// operations are all of this package.
func (s *Server) operations() [256]operation {
	var t [256]operation
	both := func(op wire.Op, h Handler, quick bool) { t[op] = operation{h, true, true, quick} }
	run := func(op wire.Op, h Handler, quick bool) { t[op] = operation{h, true, false, quick} }
	admin := func(op wire.Op, h Handler) { t[op] = operation{h, false, true, false} }
	both(wire.OpPing, s.ping, true)
	both(wire.OpStatus, s.status, false)
	both(wire.OpKCV, s.noting(s.kcv), true)
	for op, h := range map[wire.Op]Handler{
		wire.OpTranslatePIN: s.translatePIN, wire.OpGenerateMAC: s.generateMAC, wire.OpVerifyMAC: s.verifyMAC, wire.OpVerifyCVV: s.verifyCVV,
		wire.OpVerifyPVV: s.verifyPVV, wire.OpVerifyIBM3624: s.verifyIBM3624, wire.OpVerifyARQC: s.verifyARQC, wire.OpVerifyARPC: s.verifyARPC,
	} {
		run(op, s.noting(h), true)
	}
	run(wire.OpDecryptCards, s.decryptCards, false)
	run(wire.OpResealCards, s.resealCards, false)
	run(wire.OpReleaseDataKey, s.releaseDataKey, false)
	both(wire.OpControl, s.control, false)
	both(wire.OpGenerate, s.dual(opGenerate, s.generate), false)
	both(wire.OpImport, s.dual(opImport, s.importKey), false)
	both(wire.OpExport, s.dual(opExport, s.exportKey), false)
	both(wire.OpRewrap, s.rewrap, false)
	admin(wire.OpNewMaster, s.dual(opCreate, s.newMaster))
	admin(wire.OpRetireMaster, s.dual(opDestroy, s.retireMaster))
	admin(wire.OpReload, s.reload)
	admin(wire.OpBindTable, s.dual(opBindTable, s.bindTable))
	return t
}

// statusOf turns an error into what the client is told.
func (s *Server) statusOf(r *Request, err error) (wire.Status, []byte) {
	var refusal *Refusal
	switch {
	case errors.As(err, &refusal):
		return refusal.Status, []byte(refusal.Text)
	case errors.Is(err, wire.ErrFields), errors.Is(err, wire.ErrTooLong), errors.Is(err, issuer.ErrInput), errors.Is(err, mac.ErrPadding), errors.Is(err, engine.ErrMACLength):
		return wire.StatusMalformed, []byte(err.Error())
	case errors.Is(err, engine.ErrPINBlock), errors.Is(err, engine.ErrMismatch):
		return wire.StatusRefused, nil
	case isSerial(err):
		s.metrics.serials.Inc()
		return wire.StatusRefused, nil
	case errors.Is(err, audit.ErrBusy):
		return wire.StatusBusy, nil
	case isKey(err):
		return wire.StatusBadKey, []byte(err.Error())
	}
	s.deps.Log.Error("operation failed", "op", r.Op.String(), "peer", r.Peer, "error", err)
	return wire.StatusFailed, nil
}

// isSerial says whether a key serial number was refused.
func isSerial(err error) bool {
	return errors.Is(err, dukpt.ErrKSN) || errors.Is(err, dukpt.ErrCounter) || errors.Is(err, dukpt.ErrUse)
}

// isKey says whether a key or its block was: everything that hsm/engine and
// hsm/tr31 can say, but for a failing source of randomness.
func isKey(err error) bool {
	for _, e := range []error{
		engine.ErrUse, engine.ErrTranslation, engine.ErrUsage, engine.ErrAlgorithm, engine.ErrMode, engine.ErrExportability, engine.ErrNotExportable,
		engine.ErrDisagrees, engine.ErrWrapping, engine.ErrLegacy, engine.ErrKeyLength, engine.ErrParity, engine.ErrEqualParts, engine.ErrWeak,
		engine.ErrTable, engine.ErrCheckValue, engine.ErrComponents,
		tr31.ErrFormat, tr31.ErrVersion, tr31.ErrMAC, tr31.ErrKeyLength, tr31.ErrKey,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// record writes an event down before it has its effect.
func (s *Server) record(r *Request, operation, object, reason string, outcome audit.Outcome) error {
	actors := r.Officers
	if len(actors) == 0 {
		actors = []string{r.Peer}
	}
	_, err := s.deps.Book.Append(audit.Event{Actors: actors, Operation: operation, Object: object, Reason: reason, Outcome: outcome})
	return err
}

// refused writes down why something was refused, and passes the reason on. What
// is wrong with the fields is not: it is nobody's key.
func (s *Server) refused(r *Request, operation, object string, why error) error {
	if !isKey(why) {
		return why
	}
	reason := strings.TrimSpace(why.Error())
	if r.role != Admin && !s.refusals.direct.AllowN(s.deps.Now(), 1) {
		s.refusals.note(r.Peer, operation, object, reason)
		return why
	}
	if err := s.record(r, operation, object, reason, audit.Refused); err != nil {
		return errors.Join(why, err)
	}
	return why
}
