//go:build !race

package merchant

// pooling says that sync.Pool keeps what it is given.
const pooling = true
