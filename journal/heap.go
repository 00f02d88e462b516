package journal

// heap is a binary min-heap without container/heap's boxing: it is on the path
// of every Open.
type heap[T any] struct {
	items []T
	less  func(a, b *T) bool
}

func (h *heap[T]) push(v T) {
	h.items = append(h.items, v)
	i := len(h.items) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if !h.less(&h.items[i], &h.items[parent]) {
			break
		}
		h.items[i], h.items[parent] = h.items[parent], h.items[i]
		i = parent
	}
}

// top is the least item; nil when empty.
func (h *heap[T]) top() *T {
	if len(h.items) == 0 {
		return nil
	}
	return &h.items[0]
}

func (h *heap[T]) pop() T {
	least := h.items[0]
	n := len(h.items) - 1
	h.items[0] = h.items[n]
	h.items = h.items[:n]
	i := 0
	for {
		child := 2*i + 1
		if child >= n {
			return least
		}
		if child+1 < n && h.less(&h.items[child+1], &h.items[child]) {
			child++
		}
		if !h.less(&h.items[child], &h.items[i]) {
			return least
		}
		h.items[i], h.items[child] = h.items[child], h.items[i]
		i = child
	}
}
