package server

import (
	"authswitch/hsm/engine"
	"authswitch/hsm/issuer"
	"authswitch/hsm/mac"
	"authswitch/hsm/wire"
)

// verifyCVV checks a card verification value.
func (s *Server) verifyCVV(r *Request, dst []byte) ([]byte, error) {
	f := &r.Fields
	block := f.Bytes()
	v := engine.CardValue{PAN: f.Bytes(), Expiry: f.Bytes(), Service: f.Bytes(), Value: f.Bytes()}
	k, err := s.fieldsAndKey(f, block)
	if err != nil {
		return dst, err
	}
	return dst, s.engine().VerifyCVV(k, v)
}

// fieldsAndKey is the end of reading a request with one key.
func (s *Server) fieldsAndKey(f *wire.Fields, block []byte) (*engine.Key, error) {
	if err := f.Done(); err != nil {
		return nil, err
	}
	return s.key(block)
}

func readChip(f *wire.Fields) issuer.Chip {
	c := issuer.Chip{PAN: f.Bytes(), Sequence: f.Bytes()}
	f.Fixed(c.ATC[:])
	f.Fixed(c.UN[:])
	c.Master, c.Session = issuer.MasterMethod(f.Byte()), issuer.SessionMethod(f.Byte())
	return c
}

// verifyARQC checks a chip's request cryptogram.
func (s *Server) verifyARQC(r *Request, dst []byte) ([]byte, error) {
	f := &r.Fields
	block := f.Bytes()
	chip := readChip(f)
	p := mac.Padding(f.Byte())
	var arqc [8]byte
	f.Fixed(arqc[:])
	data := f.Bytes()
	k, err := s.fieldsAndKey(f, block)
	if err != nil {
		return dst, err
	}
	return dst, s.engine().VerifyARQC(k, chip, p, data, arqc)
}

// verifyARPC checks an issuer's answer: eight bytes are method 1, four method
// 2.
func (s *Server) verifyARPC(r *Request, dst []byte) ([]byte, error) {
	f := &r.Fields
	block := f.Bytes()
	chip := readChip(f)
	var arqc [8]byte
	f.Fixed(arqc[:])
	code, proprietary, arpc := f.Bytes(), f.Bytes(), f.Bytes()
	k, err := s.fieldsAndKey(f, block)
	if err != nil {
		return dst, err
	}
	switch {
	case len(arpc) == 8 && len(code) == 2 && len(proprietary) == 0:
		return dst, s.engine().VerifyARPC1(k, chip, arqc, [2]byte(code), [8]byte(arpc))
	case len(arpc) == 4 && len(code) == 4:
		return dst, s.engine().VerifyARPC2(k, chip, arqc, [4]byte(code), proprietary, [4]byte(arpc))
	}
	return dst, issuer.ErrInput
}
