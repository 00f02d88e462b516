package store

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
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
			began, used := time.Now(), cpu(b)
			for range clients {
				group.Go(func() {
					i := intent(0)
					key := make([]byte, 0, 64)
					for {
						n := next.Add(1)
						if int(n) > b.N {
							return
						}
						now := wallClock()
						binary.BigEndian.PutUint64(i.ID[:], uint64(now/1e6)<<16)
						binary.BigEndian.PutUint64(i.ID[8:], uint64(n))
						i.Key = hex.AppendEncode(key[:0], i.ID[:])
						i.Reference = i.Key
						i.ReceivedAt, i.SendBy, i.AnswerBy = now, now+5e9, now+15e9
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
			b.ReportMetric((cpu(b)-used).Seconds()*1e6/float64(2*b.N), "cpu-µs/commit")
		})
	}
}

// cpu is what this process used: on a shared machine it says more than a rate.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
