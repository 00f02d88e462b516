package server

import (
	"authswitch/hsm/dukpt"
	"authswitch/hsm/engine"
	"authswitch/hsm/issuer"
	"authswitch/hsm/mac"
	"authswitch/hsm/pinblock"
	"authswitch/hsm/wire"
)

// inOrder is the flag of a request that refuses counters out of order.
const inOrder = 1

// translatePIN moves a PIN from one key to another.
func (s *Server) translatePIN(r *Request, dst []byte) ([]byte, error) {
	in, inKey, flags := readIncoming(&r.Fields)
	outKey := r.Fields.Bytes()
	out := engine.Outgoing{Format: pinblock.Format(r.Fields.Byte()), Rule: pinblock.PANRule(r.Fields.Byte())}
	if err := r.Fields.Done(); err != nil {
		return dst, err
	}
	var err error
	if in.Key, err = s.key(inKey); err != nil {
		return dst, err
	}
	if out.Key, err = s.key(outKey); err != nil {
		return dst, err
	}
	at := len(dst)
	dst = append(dst, make([]byte, pinblock.Size4)...)
	n, err := s.masters.current.Load().sealing().engine.TranslatePIN(dst[at:], in, out)
	if err != nil {
		return dst[:at], err
	}
	if len(in.Serial) > 0 && !s.inOrder(in.Serial, flags) {
		clear(dst[at:])
		return dst[:at], engine.ErrPINBlock
	}
	return dst[:at+n], nil
}

// readIncoming reads an encrypted PIN block and the block of its key.
func readIncoming(f *wire.Fields) (in engine.Incoming, keyBlock []byte, flags byte) {
	keyBlock = f.Bytes()
	in.Serial = f.Bytes()
	in.Bits = int(f.Uint16())
	in.Format, in.Rule = pinblock.Format(f.Byte()), pinblock.PANRule(f.Byte())
	flags = f.Byte()
	in.Block = f.Bytes()
	in.PAN = f.Bytes()
	return in, keyBlock, flags
}

// inOrder judges the counter of a serial number whose block was good: others
// would let anybody disturb what is remembered of a device. It is counted, and
// refused only where the request says so.
func (s *Server) inOrder(serial []byte, flags byte) bool {
	v := s.order.Note(serial)
	s.metrics.order[v].Inc()
	return v == dukpt.Forward || flags&inOrder == 0
}

// verifyPVV checks a PIN against its Visa value.
func (s *Server) verifyPVV(r *Request, dst []byte) ([]byte, error) {
	in, inKey, flags := readIncoming(&r.Fields)
	block := r.Fields.Bytes()
	index := r.Fields.Byte()
	pvv := r.Fields.Bytes()
	return dst, s.verifyPIN(r, &in, inKey, flags, block, func(k *engine.Key) error {
		return s.engine().VerifyPVV(in, k, index, pvv)
	})
}

// verifyIBM3624 checks a PIN against its offset.
func (s *Server) verifyIBM3624(r *Request, dst []byte) ([]byte, error) {
	in, inKey, flags := readIncoming(&r.Fields)
	block := r.Fields.Bytes()
	v := issuer.Validation{Start: int(r.Fields.Byte()), Length: int(r.Fields.Byte()), Pad: r.Fields.Byte()}
	offset := r.Fields.Bytes()
	return dst, s.verifyPIN(r, &in, inKey, flags, block, func(k *engine.Key) error {
		return s.engine().VerifyIBM3624(in, k, v, offset)
	})
}

func (s *Server) verifyPIN(r *Request, in *engine.Incoming, inKey []byte, flags byte, block []byte, verify func(k *engine.Key) error) error {
	err := r.Fields.Done()
	if err != nil {
		return err
	}
	if in.Key, err = s.key(inKey); err != nil {
		return err
	}
	k, err := s.key(block)
	if err != nil {
		return err
	}
	if err := verify(k); err != nil {
		return err
	}
	if len(in.Serial) > 0 && !s.inOrder(in.Serial, flags) {
		return engine.ErrPINBlock
	}
	return nil
}

// engine is the operations; which master key it is under matters only to what
// seals and opens blocks.
func (s *Server) engine() *engine.Engine { return s.masters.current.Load().sealing().engine }

// generateMAC makes a MAC.
func (s *Server) generateMAC(r *Request, dst []byte) ([]byte, error) {
	f := &r.Fields
	block, p, length, message := f.Bytes(), mac.Padding(f.Byte()), int(f.Byte()), f.Bytes()
	if err := f.Done(); err != nil {
		return dst, err
	}
	k, err := s.key(block)
	if err != nil {
		return dst, err
	}
	at := len(dst)
	dst = append(dst, make([]byte, mac.MaxBytes)...)
	if err := s.engine().GenerateMAC(dst[at:], k, p, length, message); err != nil {
		return dst[:at], err
	}
	return dst[:at+length], nil
}

// verifyMAC checks a MAC under the current key, then under the previous one.
func (s *Server) verifyMAC(r *Request, dst []byte) ([]byte, error) {
	f := &r.Fields
	current, previous, p, got, message := f.Bytes(), f.Bytes(), mac.Padding(f.Byte()), f.Bytes(), f.Bytes()
	if err := f.Done(); err != nil {
		return dst, err
	}
	k, err := s.key(current)
	if err != nil {
		return dst, err
	}
	var before *engine.Key
	if len(previous) > 0 {
		if before, err = s.key(previous); err != nil {
			return dst, err
		}
	}
	at := len(dst)
	dst = append(dst, make([]byte, mac.MaxBytes)...)
	err = s.engine().VerifyMAC(dst[at:], k, before, p, message, got)
	return dst[:at], err
}
