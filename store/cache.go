package store

import (
	"sync"

	"github.com/hashicorp/raft"
)

// logCache keeps the newest log entries by their bytes. Raft's own counts
// entries, which at 256 KiB each came to 700 MB.
type logCache struct {
	mu    sync.Mutex
	limit int
	bytes int
	first uint64 // index of logs[0]
	logs  []*raft.Log
}

func (c *logCache) get(index uint64, log *raft.Log) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if index < c.first || index-c.first >= uint64(len(c.logs)) {
		return false
	}
	*log = *c.logs[index-c.first]
	return true
}

// add takes logs that were stored. A gap or an overwrite starts anew.
func (c *logCache) add(logs []*raft.Log) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, log := range logs {
		if log.Index != c.first+uint64(len(c.logs)) {
			c.clear()
			c.first = log.Index
		}
		c.logs = append(c.logs, log)
		c.bytes += len(log.Data)
	}
	drop := 0
	for c.bytes > c.limit && drop < len(c.logs) {
		c.bytes -= len(c.logs[drop].Data)
		c.logs[drop] = nil
		drop++
	}
	c.logs = c.logs[drop:]
	c.first += uint64(drop)
}

func (c *logCache) drop(from, to uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.logs) > 0 && to >= c.first && from < c.first+uint64(len(c.logs)) {
		c.clear()
	}
}

func (c *logCache) clear() { c.logs, c.bytes = nil, 0 }
