package server

import (
	"errors"
	"fmt"

	"authswitch/hsm/audit"
	"authswitch/hsm/engine"
	"authswitch/hsm/key"
	"authswitch/hsm/tr31"
	"authswitch/hsm/wire"
)

// attributesBytes is their length in a frame.
const attributesBytes = 5

func readAttributes(f *wire.Fields) engine.Attributes {
	var b [attributesBytes]byte
	f.Fixed(b[:])
	return engine.Attributes{
		Usage: tr31.Usage(b[0])<<8 | tr31.Usage(b[1]), Algorithm: key.Algorithm(b[2]), Mode: tr31.Mode(b[3]), Exportability: tr31.Exportability(b[4]),
	}
}

// appendKey is the answer of every operation that gives a key: attributes,
// check value, number of the master key, block.
func appendKey(dst []byte, a engine.Attributes, check engine.CheckValue, master int, block []byte) []byte {
	dst = append(dst, byte(a.Usage>>8), byte(a.Usage), byte(a.Algorithm), byte(a.Mode), byte(a.Exportability))
	dst = wire.AppendBytes(dst, check.Bytes())
	dst = wire.AppendUint16(dst, uint16(master))
	return wire.AppendBytes(dst, block)
}

// describe is a key in the audit log: header and check value, never the key.
func describe(a engine.Attributes, check engine.CheckValue) string {
	return fmt.Sprintf("%s kcv %s", letters(a), check)
}

// mayOnRun says whether a key of a usage may be made or moved by the switch
// itself: the data keys of its vault and the working keys of its links. All
// others are for those who look after keys.
func (r *Request) mayOnRun(u tr31.Usage) error {
	if r.role == Admin {
		return nil
	}
	switch u {
	case tr31.DataEncryption, tr31.PINEncryption, tr31.MACISO1, tr31.MACISO3, tr31.MACCMAC:
		return nil
	}
	return &Refusal{wire.StatusForbidden, fmt.Sprintf("keys of usage %s are made and moved on the admin socket", u)}
}

// kcv says what is in a block.
func (s *Server) kcv(r *Request, dst []byte) ([]byte, error) {
	block := r.Fields.Bytes()
	if err := r.Fields.Done(); err != nil {
		return dst, err
	}
	k, err := s.key(block)
	if err != nil {
		return dst, err
	}
	// Which master key it is under, the cache does not know.
	under, err := s.masters.under(func(m *master) error {
		_, secret, err := m.protector.Open(block)
		secret.Wipe()
		return err
	})
	if err != nil {
		return dst, err
	}
	return appendKey(dst, k.Attributes(), k.CheckValue(), under.number, block), nil
}

// generate makes a key.
func (s *Server) generate(r *Request, dst []byte) ([]byte, error) {
	a, bytes := readAttributes(&r.Fields), int(r.Fields.Byte())
	if err := r.Fields.Done(); err != nil {
		return dst, err
	}
	if err := r.mayOnRun(a.Usage); err != nil {
		return dst, err
	}
	m := s.masters.current.Load().sealing()
	sealed, err := m.engine.Generate(a, bytes)
	return s.giveKey(r, dst, opGenerate, m, sealed, err)
}

// giveKey is the end of every operation that makes a block: written down, then
// given.
func (s *Server) giveKey(r *Request, dst []byte, operation string, m *master, sealed engine.Sealed, err error) ([]byte, error) {
	if err != nil {
		return dst, s.refused(r, operation, "", err)
	}
	if err := s.record(r, operation, describe(sealed.Attributes, sealed.Check), fmt.Sprintf("under lmk/%d", m.number), audit.Allowed); err != nil {
		return dst, err
	}
	return appendKey(dst, sealed.Attributes, sealed.Check, m.number, sealed.Block), nil
}

// importKey takes a key in from a peer.
func (s *Server) importKey(r *Request, dst []byte) ([]byte, error) {
	f := &r.Fields
	form, legacy := f.Byte(), f.Byte() == 1
	q := engine.ImportRequest{Want: readAttributes(f), LegacyImport: legacy, CheckValue: f.Bytes(), Table: f.Bytes()}
	kek, sent := f.Bytes(), f.Bytes()
	if err := f.Done(); err != nil {
		return dst, err
	}
	if err := r.mayOnRun(q.Want.Usage); err != nil {
		return dst, err
	}
	const operation = opImport
	wrapping, err := s.masters.key(kek)
	if err != nil {
		return dst, s.refused(r, operation, "", err)
	}
	m := s.masters.current.Load().sealing()
	var sealed engine.Sealed
	switch form {
	case wire.FormBlock:
		sealed, err = m.engine.Import(wrapping, sent, q)
	case wire.FormRaw:
		sealed, err = m.engine.ImportRaw(wrapping, sent, q)
	default:
		err = fmt.Errorf("%w: form %d", wire.ErrFields, form)
	}
	return s.giveKey(r, dst, operation, m, sealed, err)
}

// exportKey gives a key to a peer.
func (s *Server) exportKey(r *Request, dst []byte) ([]byte, error) {
	f := &r.Fields
	form, kek, block := f.Byte(), f.Bytes(), f.Bytes()
	if err := f.Done(); err != nil {
		return dst, err
	}
	const operation = opExport
	wrapping, err := s.masters.key(kek)
	if err != nil {
		return dst, s.refused(r, operation, "", err)
	}
	k, err := s.masters.key(block)
	if err != nil {
		return dst, s.refused(r, operation, "", err)
	}
	if err := r.mayOnRun(k.Attributes().Usage); err != nil {
		return dst, err
	}
	object := fmt.Sprintf("%s under %s", describe(k.Attributes(), k.CheckValue()), describe(wrapping.Attributes(), wrapping.CheckValue()))
	var sent []byte
	var check engine.CheckValue
	_, err = s.masters.under(func(m *master) (err error) {
		switch form {
		case wire.FormBlock:
			var sealed engine.Sealed
			sealed, err = m.engine.Export(wrapping, block)
			sent, check = sealed.Block, sealed.Check
		case wire.FormRaw:
			sent, check, err = m.engine.ExportRaw(wrapping, block)
		default:
			err = fmt.Errorf("%w: form %d", wire.ErrFields, form)
		}
		return err
	})
	if err != nil {
		return dst, s.refused(r, operation, object, err)
	}
	if err := s.record(r, operation, object, "", audit.Allowed); err != nil {
		return dst, err
	}
	return wire.AppendBytes(wire.AppendBytes(dst, check.Bytes()), sent), nil
}

// rewrap seals a block under the newest master key.
func (s *Server) rewrap(r *Request, dst []byte) ([]byte, error) {
	block := r.Fields.Bytes()
	if err := r.Fields.Done(); err != nil {
		return dst, err
	}
	const operation = "key.rewrap"
	k, err := s.masters.key(block)
	if err != nil {
		return dst, s.refused(r, operation, "", err)
	}
	sealing := s.masters.current.Load().sealing()
	same := false
	var sealed engine.Sealed
	under, err := s.masters.under(func(m *master) (err error) {
		if same = m.number == sealing.number; same {
			_, secret, err := m.protector.Open(block)
			secret.Wipe()
			return err
		}
		sealed, err = sealing.engine.Rewrap(m.protector, block)
		return err
	})
	if err != nil {
		return dst, s.refused(r, operation, describe(k.Attributes(), k.CheckValue()), err)
	}
	if same {
		return appendKey(dst, k.Attributes(), k.CheckValue(), sealing.number, block), nil
	}
	reason := fmt.Sprintf("from lmk/%d to lmk/%d", under.number, sealing.number)
	if err := s.record(r, operation, describe(sealed.Attributes, sealed.Check), reason, audit.Allowed); err != nil {
		return dst, err
	}
	return appendKey(dst, sealed.Attributes, sealed.Check, sealing.number, sealed.Block), nil
}

// bindTable binds a decimalisation table to a key that was made here.
func (s *Server) bindTable(r *Request, dst []byte) ([]byte, error) {
	block, table := r.Fields.Bytes(), r.Fields.Bytes()
	if err := r.Fields.Done(); err != nil {
		return dst, err
	}
	var sealed engine.Sealed
	m, err := s.masters.under(func(m *master) (err error) {
		sealed, err = m.engine.BindTable(block, table)
		return err
	})
	return s.giveKey(r, dst, opBindTable, m, sealed, err)
}

// errNoKeeper is a module whose root is not changed by this process.
var errNoKeeper = &Refusal{wire.StatusForbidden, "the local master keys are not changed by this process"}

// readMaster reads the number of a master key, 0 where none is meant.
func readMaster(r *Request) (int, error) {
	n := int(r.Fields.Uint16())
	return n, r.Fields.Done()
}

// newMaster makes the next local master key and seals with it from then on.
func (s *Server) newMaster(r *Request, dst []byte) ([]byte, error) {
	if _, err := readMaster(r); err != nil {
		return dst, err
	}
	if s.deps.Keeper == nil {
		return dst, errNoKeeper
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	if _, err := s.masters.reload(); err != nil {
		return dst, err
	}
	next := s.masters.current.Load().sealing().number + 1
	if err := s.record(r, opCreate, fmt.Sprintf("lmk/%d", next), "", audit.Allowed); err != nil {
		return dst, err
	}
	if err := s.deps.Keeper.CreateMaster(next); err != nil {
		return dst, errors.Join(err, s.record(r, opCreate, fmt.Sprintf("lmk/%d", next), err.Error(), audit.Failed))
	}
	return s.reloaded(dst)
}

func (s *Server) reloaded(dst []byte) ([]byte, error) {
	if _, err := s.masters.reload(); err != nil {
		return dst, err
	}
	g := s.masters.current.Load()
	s.deps.Log.Info("local master keys", "open", s.masters.numbers(), "seals", g.sealing().number)
	return wire.AppendUint16(dst, uint16(g.sealing().number)), nil
}

// retireMaster destroys an earlier local master key. The one that seals is
// never destroyed.
func (s *Server) retireMaster(r *Request, dst []byte) ([]byte, error) {
	n, err := readMaster(r)
	if err != nil {
		return dst, err
	}
	if s.deps.Keeper == nil {
		return dst, errNoKeeper
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	if _, err := s.masters.reload(); err != nil {
		return dst, err
	}
	object := fmt.Sprintf("lmk/%d", n)
	g := s.masters.current.Load()
	refuse := func(why string) error {
		if err := s.record(r, opDestroy, object, why, audit.Refused); err != nil {
			return err
		}
		return &Refusal{wire.StatusBadKey, why}
	}
	switch {
	case g.find(n) == nil:
		return dst, refuse(object + " is not in the token")
	case g.sealing().number == n:
		return dst, refuse(object + " is the one that seals: make another first")
	}
	if err := s.record(r, opDestroy, object, "", audit.Allowed); err != nil {
		return dst, err
	}
	if err := s.deps.Keeper.DestroyMaster(n); err != nil {
		return dst, errors.Join(err, s.record(r, opDestroy, object, err.Error(), audit.Failed))
	}
	return s.reloaded(dst)
}

// reload looks again which local master keys there are.
func (s *Server) reload(r *Request, dst []byte) ([]byte, error) {
	if _, err := readMaster(r); err != nil {
		return dst, err
	}
	return s.reloaded(dst)
}

// ping says that the reader lives.
func (s *Server) ping(r *Request, dst []byte) ([]byte, error) { return dst, r.Fields.Done() }

// status is what the module says of itself.
func (s *Server) status(r *Request, dst []byte) ([]byte, error) {
	if err := r.Fields.Done(); err != nil {
		return dst, err
	}
	a := s.deps.About
	for _, text := range []string{a.Version, a.Profile, a.Kind, a.Manufacturer, a.Model, a.Serial, a.Label, a.Library} {
		dst = wire.AppendString(dst, text)
	}
	test := byte(0)
	if a.TestKeys {
		test = 1
	}
	dst = append(dst, test)
	dst = wire.AppendUint64(dst, uint64(s.started.UnixNano()))
	dst = wire.AppendUint64(dst, uint64(s.masters.current.Load().cache.Len()))
	numbers := s.masters.numbers()
	dst = append(dst, byte(len(numbers)))
	for _, n := range numbers {
		dst = wire.AppendUint16(dst, uint16(n))
	}
	return dst, nil
}
