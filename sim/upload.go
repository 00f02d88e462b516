package sim

// uploadKey is one batch of a terminal, in one currency.
type uploadKey struct {
	batch    [12]byte // DE 60
	currency [3]byte
	party    uint32
}

// totals are what a batch came to.
type totals struct {
	captures, refunds  uint64 // debits and credits
	captured, refunded uint64 // minor units
}

// maxUploads bounds the batches remembered; those beyond are out of balance.
const maxUploads = 1 << 20

func uploadOf(m *message, f *facts, currency []byte) uploadKey {
	k := uploadKey{party: f.party}
	copy(k.batch[:], m.values[60])
	copy(k.currency[:], currency)
	return k
}

// upload counts a line of a batch, once: its repeats are known by then.
func (b *book) upload(k uploadKey, what decision, amount int64) {
	t, known := b.uploads[k]
	if !known && len(b.uploads) >= maxUploads {
		return
	}
	if what == refunded {
		t.refunds++
		t.refunded += uint64(amount)
	} else {
		t.captures++
		t.captured += uint64(amount)
	}
	b.uploads[k] = t
}

// settlement is DE 66: 1 in balance, 2 out of balance, 3 an error.
func settlement(h *host, r *ruling) string {
	switch r.code {
	case h.spell("00"):
		return "1"
	case h.spell("95"):
		return "2"
	}
	return "3"
}

// reconcile holds an acquirer's totals to what was uploaded: counts, amounts and
// the difference. DE 66 of the answer, and its code, say whether they are the same.
func (h *host) reconcile(m *message, f *facts, r ruling) ruling {
	if !m.has(60) || !m.has(97) {
		return r // of a day and not of a batch: nothing here to compare it with
	}
	t := h.book.uploads[uploadOf(m, f, m.values[50])]
	net, sign := t.captured-t.refunded, byte('D')
	if t.refunded > t.captured {
		net, sign = t.refunded-t.captured, 'C'
	}
	same := true
	for de, want := range map[int]uint64{74: t.refunds, 76: t.captures, 86: t.refunded, 88: t.captured} {
		n, ok := number(m.values[de])
		same = same && ok && n == want
	}
	said := m.values[97]
	if len(said) < 2 || said[0] != sign {
		same = false
	} else {
		n, ok := number(said[1:])
		same = same && ok && n == net
	}
	if !same {
		r.code = h.spell("95")
	}
	f.currency = m.values[50]
	r.line = h.write(m, f, int64(net), reconciled, r.code, nil)
	return r
}
