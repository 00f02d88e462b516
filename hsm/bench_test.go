package hsm_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"authswitch/hsm"
	"authswitch/hsm/pinblock"
)

// BenchmarkTranslatePIN is client and server in one process, for a profile of
// both; cmd/hsmd has the figures of two.
func BenchmarkTranslatePIN(b *testing.B) {
	m := newModule(b, fileRoot(b))
	c := m.client(m.run())
	from, to := m.block(1, "P0TDE", double1), m.block(1, "P0TEE", double2)
	encrypted := tdes(b, double1, clearPIN(b, pinblock.ISO0, "1234", visa), true)
	number := pan(b, visa)
	for _, n := range []int{1, 64, 256} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			var left atomic.Int64
			left.Store(int64(b.N))
			var all sync.WaitGroup
			for range n {
				all.Go(func() {
					var dst [hsm.PINBytes]byte
					for left.Add(-1) >= 0 {
						if _, err := c.TranslatePIN(dst[:], hsm.In{Key: from, Format: hsm.ISO0, Block: encrypted, PAN: number}, hsm.Out{Key: to, Format: hsm.ISO0}, 0); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
		})
	}
}
