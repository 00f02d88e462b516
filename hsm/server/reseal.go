package server

import (
	"errors"
	"fmt"

	"authswitch/hsm/engine"
	"authswitch/hsm/wire"
)

// resealed is one card of a request to seal cards anew.
type resealed struct {
	sealedCard

	next []byte // what is bound to it from now on
}

// resealCards moves stored cards from one data key to another. Their numbers are
// in this process's memory for that time, and nowhere else; the audit entry with
// every record's id is on disk first.
func (s *Server) resealCards(r *Request, dst []byte) ([]byte, error) {
	f := &r.Fields
	from, to, count := f.Bytes(), f.Bytes(), int(f.Byte())
	if count < 1 || count > wire.MaxCards {
		return dst, fmt.Errorf("%w: %d cards", wire.ErrFields, count)
	}
	cards, plain := make([]resealed, count), make([]sealedCard, count)
	for i := range cards {
		cards[i] = resealed{sealedCard{f.Bytes(), f.Bytes(), nil}, f.Bytes()}
		cards[i].sealed = f.Bytes()
		plain[i] = cards[i].sealedCard
		if len(cards[i].id) == 0 || len(cards[i].id) > maxID {
			return dst, fmt.Errorf("%w: a record's id of %d bytes", wire.ErrFields, len(cards[i].id))
		}
	}
	const operation = "card.reseal"
	e := s.engine()
	old, err := s.fieldsAndKey(f, from)
	if err == nil {
		err = e.OpensData(old)
	}
	var next *engine.Key
	if err == nil {
		next, err = s.masters.key(to)
	}
	if err == nil {
		err = e.SealsData(next)
	}
	if err != nil {
		return dst, s.refused(r, operation, objects(plain), err)
	}
	if err := s.within(r, wire.PurposeReseal, plain); err != nil {
		return dst, err
	}
	reason := fmt.Sprintf("from %s to %s", old.CheckValue(), next.CheckValue())
	if err := s.recordCards(r, operation, reason, plain); err != nil {
		return dst, err
	}
	room := make([]byte, 0, wire.MaxFrame)
	defer clear(room[:cap(room)])
	for i := range cards {
		if dst, err = resealCard(dst, room, e, old, next, &cards[i]); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// resealCard appends one card: whether it opened, and its new ciphertext.
func resealCard(dst, room []byte, e *engine.Engine, old, next *engine.Key, c *resealed) ([]byte, error) {
	opened, err := e.OpenData(room, old, c.sealed, c.additional)
	if errors.Is(err, engine.ErrMismatch) {
		return wire.AppendBytes(append(dst, 0), nil), nil
	}
	if err != nil {
		return dst, err
	}
	defer clear(opened)
	sealed, err := e.SealData(nil, next, opened, c.next)
	if err != nil {
		return dst, err
	}
	return wire.AppendBytes(append(dst, 1), sealed), nil
}
