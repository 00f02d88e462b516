package store

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestCacheHasRoom: what was read of the state once is in memory the next time,
// also when it has had several memtables, whose bytes Pebble takes out of its
// cache. A third of what is allowed for blocks must fit, whatever is beside it.
func TestCacheHasRoom(t *testing.T) {
	const keys, length = 16 << 10, 1 << 10
	cfg := testConfig("node")
	s := start(t, vfs.NewMem(), cfg)
	defer stop(t, s)
	db := s.replica.state
	key := func(i int) []byte { return binary.BigEndian.AppendUint32([]byte{0xFE}, uint32(i)) }
	random := rand.NewChaCha8([32]byte{}) // what does not compress
	value := make([]byte, length)
	for i := range keys { // four memtables of them
		_, _ = random.Read(value)
		must(t, db.Set(key(i), value, pebble.NoSync))
	}
	must(t, db.Flush())
	look := func() (misses int64) {
		before := db.Metrics().BlockCache.Misses
		for i := range int(cfg.BlockCacheBytes) / length / 3 {
			_, closer, err := db.Get(key(i))
			must(t, err)
			must(t, closer.Close())
		}
		return db.Metrics().BlockCache.Misses - before
	}
	first := look()
	if again := look(); first == 0 || again > first/10 {
		t.Errorf("%d blocks were read from the disk, and %d of them again", first, again)
	}
}
