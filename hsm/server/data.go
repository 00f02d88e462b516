package server

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"

	"authswitch/hsm/audit"
	"authswitch/hsm/engine"
	"authswitch/hsm/wire"
)

// card is one of a request.
type sealedCard struct{ id, additional, sealed []byte }

// decryptCards opens stored cards. The audit entry with every record's id is on
// disk first.
func (s *Server) decryptCards(r *Request, dst []byte) ([]byte, error) {
	f := &r.Fields
	purpose, count, reason, block := wire.Purpose(f.Byte()), int(f.Byte()), f.String(), f.Bytes()
	if count < 1 || count > wire.MaxCards || (purpose != wire.PurposeReveal && purpose != wire.PurposeOutbox && purpose != wire.PurposeCapture) {
		return dst, fmt.Errorf("%w: purpose %d, %d cards", wire.ErrFields, purpose, count)
	}
	cards := make([]sealedCard, count)
	for i := range cards {
		cards[i] = sealedCard{f.Bytes(), f.Bytes(), f.Bytes()}
		if len(cards[i].id) == 0 || len(cards[i].id) > maxID {
			return dst, fmt.Errorf("%w: a record's id of %d bytes", wire.ErrFields, len(cards[i].id))
		}
	}
	operation := "card." + purpose.String()
	e := s.engine()
	k, err := s.fieldsAndKey(f, block)
	if err == nil {
		err = e.OpensData(k)
	}
	if err != nil {
		return dst, s.refused(r, operation, objects(cards), err)
	}
	if purpose == wire.PurposeReveal && reason == "" {
		return dst, &Refusal{wire.StatusMalformed, "a card is revealed to somebody, for a reason: say who and why"}
	}
	if err := s.within(r, purpose, cards); err != nil {
		return dst, err
	}
	if err := s.recordCards(r, operation, reason, cards); err != nil {
		return dst, err
	}
	for _, c := range cards {
		if dst, err = openCard(dst, e, k, c); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// maxID bounds the id of a card's record in bytes.
const maxID = 32

// openCard appends one card: whether it opened, and what was in it.
func openCard(dst []byte, e *engine.Engine, k *engine.Key, c sealedCard) ([]byte, error) {
	at := len(dst)
	dst = append(dst, 1, 0, 0)
	opened, err := e.OpenData(dst, k, c.sealed, c.additional)
	if errors.Is(err, engine.ErrMismatch) {
		dst[at] = 0
		return dst, nil
	}
	if err != nil {
		return dst[:at], err
	}
	n := len(opened) - at - 3
	opened[at+1], opened[at+2] = byte(n>>8), byte(n)
	return opened, nil
}

// idsPerEntry is how many ids fit into the object of one audit entry.
const idsPerEntry = 7

// recordCards writes down every record's id, several to an entry. The entries
// of one request share a sync.
func (s *Server) recordCards(r *Request, operation, reason string, cards []sealedCard) error {
	if len(cards) <= idsPerEntry {
		return s.record(r, operation, objects(cards), reason, audit.Allowed)
	}
	var all errgroup.Group
	for from := 0; from < len(cards); from += idsPerEntry {
		some := cards[from:min(from+idsPerEntry, len(cards))]
		all.Go(func() error { return s.record(r, operation, objects(some), reason, audit.Allowed) })
	}
	return all.Wait()
}

// objects are the ids of at most idsPerEntry cards, for the audit log.
func objects(cards []sealedCard) string {
	var b strings.Builder
	for i, c := range cards {
		if i == idsPerEntry {
			fmt.Fprintf(&b, " and %d more", len(cards)-i)
			break
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(hex.EncodeToString(c.id))
	}
	return b.String()
}

// releaseDataKey lets a data key out to the switch, which seals with it.
func (s *Server) releaseDataKey(r *Request, dst []byte) ([]byte, error) {
	block := r.Fields.Bytes()
	const operation = "key.release"
	k, err := s.fieldsAndKey(&r.Fields, block)
	if err != nil {
		return dst, s.refused(r, operation, "", err)
	}
	at := len(dst)
	dst, err = s.engine().ReleaseData(dst, k)
	if err != nil {
		return dst, s.refused(r, operation, fmt.Sprint(k), err)
	}
	if err := s.record(r, operation, fmt.Sprint(k), "", audit.Allowed); err != nil {
		clear(dst[at:])
		return dst[:at], err
	}
	return dst, nil
}
