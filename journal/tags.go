package journal

import (
	"bytes"

	"authswitch/payment"
)

func appendTagPrefix[T ~string | ~[]byte](b []byte, merchant T, tag []byte) []byte {
	b = putText(append(b, tableTags), merchant)
	h := hashOf(domainTag, []byte(merchant), tag)
	return append(b, h[:]...)
}

// tag enters a new payment under each of its tags.
func (m *Machine) tag(h *intentHead) {
	for rest := h.tags; len(rest) > 0; {
		var one []byte
		one, rest, _ = bytes.Cut(rest, []byte{'\n'})
		m.keyA = append(appendTagPrefix(m.keyA[:0], h.merchant, one), h.id[:]...)
		m.view.writes.set(m.keyA, nil)
	}
}

// ReadTagged lists a merchant's payments with a tag, oldest first: those after
// the one named, or from the first where none is. More says that there are
// others.
func ReadTagged(r Reader, merchant payment.MerchantID, tag []byte, behind payment.ID, limit int) (ids []payment.ID, more bool, err error) {
	prefix := appendTagPrefix(nil, merchant, tag)
	from := prefix
	if !behind.IsZero() {
		from = append(append(bytes.Clone(prefix), behind[:]...), 0) // the next key there can be
	}
	err = r.Scan(from, after(nil, prefix), false, func(key, _ []byte) bool {
		if len(ids) == limit {
			more = true
			return false
		}
		ids = append(ids, payment.ID(key[len(prefix):]))
		return true
	})
	return ids, more, err
}
