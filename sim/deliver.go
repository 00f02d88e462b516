package sim

import (
	"container/heap"
	"context"
	"errors"
	"sync"
	"time"
)

// deliver packs the answer to a payment and says how it leaves.
func (c *conn) deliver(m *message, r *ruling) {
	if r.delivery == deliverNever || r.code == "" {
		return
	}
	start := len(c.out)
	if !c.frame(c.compose(m, r), true) {
		return
	}
	switch r.delivery {
	case deliverTwice:
		c.out = append(c.out, c.out[start:]...)
	case deliverGarbage:
		c.out = c.garbage(c.out[:start], 48)
	case deliverMaximum:
		c.out = c.garbage(c.out[:start], c.framing.max)
	case deliverHalf:
		c.out = c.out[:start+(len(c.out)-start)/2]
		c.say(thenHangUp, 0)
		return
	case deliverDrop:
		c.out = c.out[:start]
		c.say(thenHangUp, 0)
		return
	case deliverByteAtATime:
		c.say(byteByByte, 0)
		return
	case deliverLyingBitmap:
		c.lie(start)
	case deliverSecondThoughts:
		c.secondThoughts(m, r, start)
	case deliverAfterReversal:
		if c.host.hold(r.key, c.out[start:]) {
			c.out = c.out[:start]
			return
		}
	case deliverZeroLength:
		c.out = c.framing.begin(c.out[:start])
		c.framing.put(c.out[start:start+c.framing.bytes], 0)
		if c.framing.heartbeat {
			c.ownKeepAlives++
		}
	case deliverOversize:
		c.oversize(start)
		c.say(thenHangUp, 0)
		return
	}
	c.say(plainly, r.latency)
}

// garbage frames bytes that are no message, the same each time.
func (c *conn) garbage(out []byte, length int) []byte {
	start := len(out)
	out = c.framing.begin(out)
	for i := range length {
		out = append(out, byte(i*151+0xD7))
	}
	return c.framing.end(out, start)
}

// lie makes the bitmap claim an element that is not there. Where and how the
// bitmap is written is learned by packing the answer once more with such an
// element: the first byte after the header that differs announces it.
func (c *conn) lie(start int) {
	end := len(c.out)
	for _, absent := range []struct {
		de    int
		value string
	}{{40, "201"}, {23, "001"}, {14, "2712"}} {
		if c.answer.has(absent.de) {
			continue
		}
		c.answer.put(absent.de, c.text(absent.value))
		if !c.frame(&c.answer, true) {
			c.answer.drop(absent.de)
			continue
		}
		honest, more := c.out[start:end], c.out[end:]
		for i := c.framing.prefixLen() + c.headerLen; i < min(len(honest), len(more)); i++ {
			if honest[i] != more[i] {
				honest[i] = more[i]
				break
			}
		}
		break
	}
	c.out = c.out[:end]
}

// secondThoughts puts a decline before the approval that stands at start.
func (c *conn) secondThoughts(m *message, r *ruling, start int) {
	approval := append([]byte(nil), c.out[start:]...)
	c.out = c.out[:start]
	no := ruling{code: c.host.spell("05")}
	c.frame(c.compose(m, &no), true)
	c.out = append(c.out, approval...)
}

// oversize gives the frame a length beyond what the peer may accept, and where
// the prefix cannot say so, the largest it can.
func (c *conn) oversize(start int) {
	c.framing.put(c.out[start:start+c.framing.bytes], min(c.framing.max+1, c.framing.most()-c.framing.bytes))
}

// errDelayed says that too many answers wait for their time.
var errDelayed = errors.New("too many delayed answers")

// delayQueue holds answers until their time and sends all that is due in one
// write.
type delayQueue struct {
	most int

	mu    sync.Mutex
	items delayHeap
	next  uint64
	wake  chan struct{} // one token: the earliest item changed
}

type delayedFrame struct {
	due   time.Time
	order uint64 // keeps frames of one instant in order
	bytes []byte
}

type delayHeap []delayedFrame

func (h delayHeap) Len() int { return len(h) }
func (h delayHeap) Less(i, j int) bool {
	if h[i].due.Equal(h[j].due) {
		return h[i].order < h[j].order
	}
	return h[i].due.Before(h[j].due)
}
func (h delayHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *delayHeap) Push(x any)   { *h = append(*h, x.(delayedFrame)) }
func (h *delayHeap) Pop() any {
	last := (*h)[len(*h)-1]
	(*h)[len(*h)-1] = delayedFrame{}
	*h = (*h)[:len(*h)-1]
	return last
}

// put copies b.
func (q *delayQueue) put(due time.Time, b []byte) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) >= q.most {
		return errDelayed
	}
	q.next++
	f := delayedFrame{due: due, order: q.next, bytes: append([]byte(nil), b...)}
	heap.Push(&q.items, f)
	if q.items[0].order == f.order {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

// due takes what is due into dst, and says how long until the next; 0: nothing
// waits.
func (q *delayQueue) due(now time.Time, dst []byte) ([]byte, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.items) > 0 {
		if wait := q.items[0].due.Sub(now); wait > 0 {
			return dst, wait
		}
		dst = append(dst, heap.Pop(&q.items).(delayedFrame).bytes...)
	}
	return dst, 0
}

// run sends delayed answers until ctx ends.
func (q *delayQueue) run(ctx context.Context, write func([]byte) error) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var out []byte
	for {
		var wait time.Duration
		out, wait = q.due(time.Now(), out[:0])
		if len(out) > 0 {
			if write(out) != nil {
				return // the reader sees the broken connection too
			}
			continue
		}
		if wait == 0 {
			wait = time.Hour
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-q.wake:
		case <-timer.C:
		}
	}
}
