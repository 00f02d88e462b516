package simulation_test

import (
	"bytes"
	"math/bits"

	"github.com/RaduBerinde/btreemap"
)

// disk is a node's state: ordered keys in memory, cloned in no time (copy on
// write), with the sum of the hashes of all it holds.
type disk struct {
	tree *btreemap.BTreeMap[[]byte, []byte]
	sum  uint64
	// rewritten is a line of history that was changed or deleted.
	rewritten []byte
}

func newDisk() *disk { return &disk{tree: btreemap.New[[]byte, []byte](32, bytes.Compare)} }

func (d *disk) clone() *disk { return &disk{tree: d.tree.Clone(), sum: d.sum} }

func (d *disk) Get(dst, key []byte) ([]byte, bool, error) {
	_, v, ok := d.tree.Get(key)
	return append(dst, v...), ok, nil
}

func (d *disk) Scan(from, to []byte, backwards bool, visit func(key, value []byte) bool) error {
	if !backwards {
		for k, v := range d.tree.Ascend(btreemap.GE(from), btreemap.LT(to)) {
			if !visit(k, v) {
				break
			}
		}
		return nil
	}
	for k, v := range d.tree.Descend(btreemap.LT(to), btreemap.GE(from)) {
		if !visit(k, v) {
			break
		}
	}
	return nil
}

// historyTable is the first byte of the keys of lines of history.
const historyTable = 'j'

func (d *disk) Set(key, value []byte) error {
	_, old, replaced := d.tree.ReplaceOrInsert(bytes.Clone(key), bytes.Clone(value))
	if replaced {
		d.sum -= hashOf(key, old)
		if key[0] == historyTable && !bytes.Equal(old, value) {
			d.rewritten = bytes.Clone(key)
		}
	}
	d.sum += hashOf(key, value)
	return nil
}

func (d *disk) Delete(key []byte) error {
	k, old, found := d.tree.Delete(key)
	if found {
		d.sum -= hashOf(k, old)
		if key[0] == historyTable {
			d.rewritten = bytes.Clone(key)
		}
	}
	return nil
}

func (d *disk) DeleteRange(from, to []byte) error {
	var keys [][]byte
	for k := range d.tree.Ascend(btreemap.GE(from), btreemap.LT(to)) {
		keys = append(keys, k)
	}
	for _, k := range keys {
		if err := d.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// hashOf is a hash of one key and its value; eight bytes a round.
func hashOf(key, value []byte) uint64 {
	h := uint64(len(key))<<32 ^ uint64(len(value)) ^ 0x9E3779B97F4A7C15
	for _, b := range [2][]byte{key, value} {
		for len(b) > 0 {
			var v uint64
			n := min(len(b), 8)
			for i := range n {
				v |= uint64(b[i]) << (8 * i)
			}
			b = b[n:]
			hi, lo := bits.Mul64(h^v, 0xD6E8FEB86659FD93)
			h = hi ^ lo ^ bits.RotateLeft64(h, 29)
		}
	}
	return h
}
