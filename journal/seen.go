package journal

// Keys is which idempotency keys a state has.
type Keys struct{ seen seen }

// ReadKeys reads them from a state that does not change meanwhile: the one that
// Load saw. It takes about a microsecond a key, so it runs beside the machine;
// more says whether it should go on.
func ReadKeys(state Reader, more func() bool) (*Keys, error) {
	k := &Keys{}
	var fault error
	err := state.Scan([]byte{tableKeys}, []byte{tableKeys + 1}, false, func(key, _ []byte) bool {
		c := cursor{b: key[1:]}
		day := c.u32()
		c.text()
		if c.broken || len(c.b) != len(keyHash{}) {
			fault = ErrCorrupt
			return false
		}
		k.seen.add(day, keyHash(c.b))
		return !k.seen.blind && more()
	})
	if err == nil {
		err = fault
	}
	if err == nil && !more() {
		err = ErrStopped
	}
	return k, err
}

// FewKeys says, before Load, that there will be few: a simulation has thousands
// of machines, and clearing a filter of two megabytes in each was a sixth of its
// time.
func (m *Machine) FewKeys() *Machine {
	m.seen.room = fewKeys
	return m
}

const fewKeys = 1 << 10

// AdoptKeys takes what ReadKeys read of the state that Load saw: with what was
// added since, it is every key.
func (m *Machine) AdoptKeys(k *Keys) {
	if !m.seen.partial {
		return
	}
	m.seen.partial = false
	m.seen.blind = m.seen.blind || k.seen.blind || len(k.seen.filters)+len(m.seen.filters) > bloomLimit
	m.seen.filters = append(k.seen.filters, m.seen.filters...)
	if m.seen.blind {
		m.seen.filters = nil
	}
}
