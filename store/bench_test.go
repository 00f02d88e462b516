package store

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// BenchmarkCommits is durable commits on the real disk, fsync on: an
// authorization is one Open and one Close. The names count callers at once.
func BenchmarkCommits(b *testing.B) {
	for _, clients := range []int{1, 64, 256, 1024} {
		b.Run(fmt.Sprint(clients), func(b *testing.B) {
			cfg := testConfig(b.TempDir())
			cfg.MemtableBytes, cfg.BlockCacheBytes = 64<<20, 128<<20
			s := start(b, vfs.Default, cfg)
			defer stop(b, s)
			var next atomic.Int64
			var group sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			began := time.Now()
			for range clients {
				group.Go(func() {
					i := intent(0)
					key := make([]byte, 0, 32)
					for {
						n := next.Add(1)
						if int(n) > b.N {
							return
						}
						copy(i.ID[:], fmt.Appendf(key[:0], "payment-%08d", n))
						i.Key = append(i.Key[:0], i.ID[:]...)
						i.SendBy = wallClock() + 5e9
						if _, err := s.Open(i); err != nil {
							b.Error(err)
							return
						}
						if _, err := s.Close(approval(i)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			group.Wait()
			b.StopTimer()
			b.ReportMetric(float64(2*b.N)/time.Since(began).Seconds(), "commits/s")
		})
	}
}
