//go:build !race

package api

// pooling says that sync.Pool keeps what it is given.
const pooling = true
