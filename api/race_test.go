//go:build race

package api

// pooling is false with the race detector: sync.Pool then forgets on purpose,
// and what it gives cannot be counted as an allocation.
const pooling = false
