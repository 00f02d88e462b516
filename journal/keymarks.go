package journal

import "authswitch/payment"

// AppendKeyMark writes a KindKeyMark command: a key gets marks, until its state
// changes.
func AppendKeyMark(b []byte, id payment.KeyID, marks payment.KeyMarks) []byte {
	b = append(b, keyCommandVersion)
	b = put32(b, uint32(id))
	return append(b, byte(marks))
}

// applyKeyMark marks a key that is pending or active; of another the mark says
// nothing any more.
func (m *Machine) applyKeyMark(c *cursor, r *Result) error {
	c.version(keyCommandVersion)
	id, marks := payment.KeyID(c.u32()), payment.KeyMarks(c.u8())
	if err := c.end(); err != nil {
		return err
	}
	if !marks.Known() {
		return ErrCorrupt
	}
	known := m.working.byID[id]
	if known == nil {
		r.Err = payment.ErrNotFound
		return nil
	}
	r.Key = known
	if known.State != payment.KeyPending && known.State != payment.KeyActive || known.Marks|marks == known.Marks {
		return nil
	}
	k := *known
	k.Marks |= marks
	m.keepKey(&k, r)
	return nil
}
