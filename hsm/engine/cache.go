package engine

import (
	"container/list"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"sync"
)

// Cache keeps opened keys by the digest of their block, so that an operation
// does not open its key blocks anew: that costs several times the operation. It
// holds at most a given number of keys; the longest unused one goes. Good for
// any number of goroutines.
//
// Only blocks whose MAC held get in, so a flood of bad ones takes no place.
type Cache struct {
	from  Loader
	limit int

	mu     sync.Mutex
	keys   map[[sha256.Size]byte]*list.Element
	recent list.List // of *kept, longest unused at the back
}

type kept struct {
	digest [sha256.Size]byte
	key    *Key
}

// Loader opens key blocks: an Engine, or several where a local master key is
// being replaced.
type Loader interface {
	Load(block []byte) (*Key, error)
}

// NewCache keeps at most limit opened keys.
func NewCache(from Loader, limit int) *Cache {
	return &Cache{from: from, limit: max(1, limit), keys: map[[sha256.Size]byte]*list.Element{}}
}

// Key is the opened key of a block. It must not be wiped by the caller: others
// may be at work with it.
func (c *Cache) Key(block []byte) (*Key, error) {
	digest := sha256.Sum256(block)
	if k := c.find(digest); k != nil {
		return k, nil
	}
	k, err := c.from.Load(block) // without the lock: a miss must not hold up hits
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.keys[digest]; e != nil { // another goroutine was as quick
		k.Wipe()
		return e.Value.(*kept).key, nil
	}
	if len(c.keys) >= c.limit {
		c.drop(c.recent.Back())
	}
	c.keys[digest] = c.recent.PushFront(&kept{digest, k})
	return k, nil
}

func (c *Cache) find(digest [sha256.Size]byte) *Key {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.keys[digest]
	if e == nil {
		return nil
	}
	c.recent.MoveToFront(e)
	return e.Value.(*kept).key
}

// drop takes a key out. It is not wiped, because an operation may be at work
// with it; nobody finds it any more.
func (c *Cache) drop(e *list.Element) {
	delete(c.keys, c.recent.Remove(e).(*kept).digest)
}

// Forget takes the key of a block out: it was retired, destroyed or rewrapped.
func (c *Cache) Forget(block []byte) {
	digest := sha256.Sum256(block)
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.keys[digest]; e != nil {
		c.drop(e)
	}
}

// Len is how many keys are kept.
func (c *Cache) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.keys)
}

// Wipe overwrites and forgets all keys. No operation may be at work any more.
func (c *Cache) Wipe() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := c.recent.Front(); e != nil; e = e.Next() {
		e.Value.(*kept).key.Wipe()
	}
	c.recent.Init()
	clear(c.keys)
}

// Format hides the keys in every verb.
func (*Cache) Format(s fmt.State, _ rune) { fmt.Fprint(s, hidden) }

// LogValue hides the keys.
func (*Cache) LogValue() slog.Value { return slog.StringValue(hidden) }
