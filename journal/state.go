package journal

import (
	"bytes"
	"hash/maphash"
	"slices"
)

// Reader reads the state as of the last flush.
type Reader interface {
	// Get appends a key's value to dst.
	Get(dst, key []byte) (value []byte, found bool, err error)
	// Scan visits the keys in [from, to) in order, or against it, until visit
	// says no. What visit is given is valid until it returns.
	Scan(from, to []byte, backwards bool, visit func(key, value []byte) (more bool)) error
}

// Batch takes what a flush writes.
type Batch interface {
	Set(key, value []byte) error
	Delete(key []byte) error
	// DeleteRange deletes [from, to), what the batch itself wrote before too.
	DeleteRange(from, to []byte) error
}

// writes are what commands wrote since the last flush. A command reads them
// before the state, so that commands of one batch see each other.
type writes struct {
	arena []byte
	list  []write
	// byKey finds the newest write of a key by its hash; write.older chains
	// those that share it. The seed differs between runs and shows nowhere.
	byKey map[uint64]int32
	seed  maphash.Seed
	order []int32
	// ranges are deleted last. Nothing reads or writes them any more.
	ranges [][2][]byte
}

type write struct {
	key, value uint32 // offsets in arena
	keyLength  uint16
	length     int32 // of the value; deleted when negative
	older      int32
}

const deleted = -1

func newWrites() writes { return writes{byKey: make(map[uint64]int32), seed: maphash.MakeSeed()} }

func (w *writes) keyOf(i int32) []byte {
	x := &w.list[i]
	return w.arena[x.key : x.key+uint32(x.keyLength)]
}

func (w *writes) valueOf(i int32) []byte {
	x := &w.list[i]
	return w.arena[x.value : x.value+uint32(max(x.length, 0))]
}

func (w *writes) add(key, value []byte, length int32) {
	at := uint32(len(w.arena))
	w.arena = append(w.arena, key...)
	w.arena = append(w.arena, value...)
	h := maphash.Bytes(w.seed, key)
	older, found := w.byKey[h]
	if !found {
		older = -1
	}
	w.byKey[h] = int32(len(w.list))
	w.list = append(w.list, write{key: at, value: at + uint32(len(key)), keyLength: uint16(len(key)), length: length, older: older})
}

func (w *writes) set(key, value []byte) { w.add(key, value, int32(len(value))) }
func (w *writes) delete(key []byte)     { w.add(key, nil, deleted) }

func (w *writes) deleteRange(from, to []byte) { w.ranges = append(w.ranges, [2][]byte{from, to}) }

// find returns the newest write of a key, -1 when there is none.
func (w *writes) find(key []byte) int32 {
	i, found := w.byKey[maphash.Bytes(w.seed, key)]
	if !found {
		return -1
	}
	for i >= 0 && !bytes.Equal(w.keyOf(i), key) {
		i = w.list[i].older
	}
	return i
}

// flush hands every key's newest write to b, sorted: neighbours go into
// Pebble's memtable faster than strangers, and the order is the same on every
// node.
func (w *writes) flush(b Batch) error {
	w.order = w.order[:0]
	for i := range w.list {
		w.order = append(w.order, int32(i))
	}
	slices.SortFunc(w.order, func(x, y int32) int {
		if c := bytes.Compare(w.keyOf(x), w.keyOf(y)); c != 0 {
			return c
		}
		return int(x - y)
	})
	for n, i := range w.order {
		if n+1 < len(w.order) && bytes.Equal(w.keyOf(i), w.keyOf(w.order[n+1])) {
			continue
		}
		var err error
		if w.list[i].length == deleted {
			err = b.Delete(w.keyOf(i))
		} else {
			err = b.Set(w.keyOf(i), w.valueOf(i))
		}
		if err != nil {
			return err
		}
	}
	for _, r := range w.ranges {
		if err := b.DeleteRange(r[0], r[1]); err != nil {
			return err
		}
	}
	w.arena, w.list, w.ranges = w.arena[:0], w.list[:0], w.ranges[:0]
	clear(w.byKey)
	return nil
}

// view is the state as commands see it: the writes since the last flush over
// the flushed state. A fault of the disk sticks; the machine checks it once per
// entry.
type view struct {
	state  Reader
	writes writes
	err    error
}

func (v *view) get(dst, key []byte) ([]byte, bool) {
	if i := v.writes.find(key); i >= 0 {
		if v.writes.list[i].length == deleted {
			return dst, false
		}
		return append(dst, v.writes.valueOf(i)...), true
	}
	value, found, err := v.state.Get(dst, key)
	if err != nil {
		v.fail(err)
		return dst, false
	}
	return value, found
}

// last visits the greatest key in [from, to). Its linear walk over the unflushed
// writes is for what is rare: late answers, cancellations, acknowledgements.
func (v *view) last(from, to []byte, visit func(key, value []byte)) (found bool) {
	best := int32(-1)
	for i := range v.writes.list {
		if k := v.writes.keyOf(int32(i)); bytes.Compare(k, from) >= 0 && bytes.Compare(k, to) < 0 {
			if best < 0 || bytes.Compare(k, v.writes.keyOf(best)) >= 0 {
				best = int32(i)
			}
		}
	}
	err := v.state.Scan(from, to, true, func(key, value []byte) bool {
		if best >= 0 && bytes.Compare(v.writes.keyOf(best), key) >= 0 {
			return false
		}
		best, found = -1, true
		visit(key, value)
		return false
	})
	v.fail(err)
	if best >= 0 {
		found = true
		visit(v.writes.keyOf(best), v.writes.valueOf(best))
	}
	return found
}

func (v *view) fail(err error) {
	if err != nil && v.err == nil {
		v.err = err
	}
}
