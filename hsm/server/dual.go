package server

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"authswitch/hsm/audit"
	"authswitch/hsm/engine"
	"authswitch/hsm/wire"
)

// Dual control: on the admin socket nobody makes, moves or destroys a key alone
// once there are two officers. One asks at the desk (hsm/desk), another approves
// there, and the desk comes back with both names through Perform.

// operations of the audit log; those under dual control have one each.
const (
	opGenerate  = "key.generate"
	opImport    = "key.import"
	opExport    = "key.export"
	opBindTable = "key.bind_table"
	opCreate    = "lmk.create"
	opDestroy   = "lmk.destroy"
)

// alone is what somebody is told who asks by themselves.
const alone = "two officers do this: one asks with --officer, another approves (docs/keys.md)"

// dual wraps a handler that needs two officers when it is asked on the admin
// socket. The switch's own keys are made and moved on the run socket, by nobody's
// hand (mayOnRun).
func (s *Server) dual(operation string, h Handler) Handler {
	return func(r *Request, dst []byte) ([]byte, error) {
		if r.role != Admin || len(r.Officers) > 0 || s.deps.Dual == nil || !s.deps.Dual() {
			return h(r, dst)
		}
		if err := s.record(r, operation, "", alone, audit.Refused); err != nil {
			return dst, err
		}
		return dst, &Refusal{wire.StatusForbidden, alone}
	}
}

// Perform does an operation of the admin socket for two officers. Every entry
// of the audit log about it has their names.
func (s *Server) Perform(op wire.Op, officers []string, fields []byte) ([]byte, error) {
	o := &s.table[op]
	if len(officers) != 2 || officers[0] == officers[1] || o.handle == nil || !o.admin {
		return nil, &Refusal{wire.StatusForbidden, alone}
	}
	r := &Request{Op: op, Officers: officers, Fields: wire.Read(fields), role: Admin}
	answer, err := o.handle(r, nil)
	status := wire.StatusOK
	if err != nil {
		status, _ = s.statusOf(r, err)
	}
	s.metrics.count(op, status)
	return answer, err
}

// Describe says what an operation would do, for the second officer, and refuses
// what could not be done anyway. It changes nothing.
func (s *Server) Describe(op wire.Op, fields []byte) (string, error) {
	f := wire.Read(fields)
	switch op {
	case wire.OpGenerate:
		a, bytes := readAttributes(&f), int(f.Byte())
		if err := f.Done(); err != nil {
			return "", err
		}
		return fmt.Sprintf("%s, %d bits", letters(a), 8*bytes), engine.Permitted(a, bytes)
	case wire.OpImport:
		return s.describeImport(&f)
	case wire.OpExport:
		form, kek, block := f.Byte(), f.Bytes(), f.Bytes()
		if err := f.Done(); err != nil {
			return "", err
		}
		key, err := s.describeBlock(block)
		if err != nil {
			return "", err
		}
		under, err := s.describeBlock(kek)
		return fmt.Sprintf("%s under %s, %s", key, under, formName(form)), err
	case wire.OpBindTable:
		block, table := f.Bytes(), f.Bytes()
		if err := f.Done(); err != nil {
			return "", err
		}
		key, err := s.describeBlock(block)
		return fmt.Sprintf("%s, table sha256 %s", key, digest(table)), err
	case wire.OpNewMaster, wire.OpRetireMaster:
		n := int(f.Uint16())
		if err := f.Done(); err != nil {
			return "", err
		}
		if op == wire.OpRetireMaster {
			return fmt.Sprintf("lmk/%d", n), nil
		}
		return fmt.Sprintf("lmk/%d", s.masters.current.Load().sealing().number+1), nil
	}
	return "", &Refusal{wire.StatusUnknown, "no operation on keys"}
}

func (s *Server) describeImport(f *wire.Fields) (string, error) {
	form, legacy := f.Byte(), f.Byte() == 1
	want := readAttributes(f)
	kcv, table := f.Bytes(), f.Bytes()
	kek, sent := f.Bytes(), f.Bytes()
	if err := f.Done(); err != nil {
		return "", err
	}
	under, err := s.describeBlock(kek)
	text := fmt.Sprintf("%s under %s, %s sha256 %s", letters(want), under, formName(form), digest(sent))
	if len(kcv) > 0 {
		text += fmt.Sprintf(", kcv %X", kcv)
	}
	if legacy {
		text += ", versions A and C too"
	}
	if len(table) > 0 {
		text += ", table sha256 " + digest(table)
	}
	return text, err
}

func (s *Server) describeBlock(block []byte) (string, error) {
	k, err := s.masters.key(block)
	if err != nil {
		return "", err
	}
	return describe(k.Attributes(), k.CheckValue()), nil
}

func formName(form byte) string {
	if form == wire.FormRaw {
		return "raw"
	}
	return "key block"
}

func letters(a engine.Attributes) string {
	return fmt.Sprintf("%s%c%c%c", a.Usage, a.Algorithm, a.Mode, a.Exportability)
}

// digest is enough of a hash to compare by eye with a peer's sheet.
func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// control says whether operations on keys need two officers here, and with which
// key warrants are signed: what a node asks before it keeps a key.
func (s *Server) control(r *Request, dst []byte) ([]byte, error) {
	if err := r.Fields.Done(); err != nil {
		return dst, err
	}
	dual := byte(0)
	if s.deps.Dual != nil && s.deps.Dual() {
		dual = 1
	}
	return wire.AppendBytes(append(dst, dual), s.deps.AuditKey), nil
}
