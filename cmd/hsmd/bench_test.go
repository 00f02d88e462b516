package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"authswitch/card"
	"authswitch/hsm"
	"authswitch/hsm/dukpt"
	"authswitch/hsm/key"
	"authswitch/hsm/pinblock"
)

// The clear keys of the benchmarks, as init takes test keys.
const benchKeys = `in P0TDE 0123456789ABCDEFFEDCBA9876543210
out P0TEE 89ABCDEF0123456776543210FEDCBA98
mac M3TCN 0123456789ABCDEFFEDCBA9876543210
bdk B0TXN 0123456789ABCDEFFEDCBA9876543210
`

// workplace is a running module on SoftHSM, a client, and key blocks by name.
type workplace struct {
	place   *place
	process *exec.Cmd
	client  *hsm.Client
	blocks  map[string][]byte
}

func newWorkplace(t testing.TB) *workplace {
	t.Helper()
	p := newPlace(t, softConfig)
	p.write("keys", benchKeys)
	w := &workplace{place: p, blocks: map[string][]byte{}}
	for line := range strings.Lines(p.init("--test-keys", filepath.Join(p.dir, "keys"))) {
		var k testKey
		if err := json.Unmarshal([]byte(line), &k); err != nil {
			t.Fatal(err)
		}
		w.blocks[k.Name] = []byte(k.Block)
	}
	w.process = p.start()
	w.client = p.client("run.sock")
	return w
}

// cpu is what both processes have used.
func (w *workplace) cpu(t testing.TB) time.Duration {
	t.Helper()
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		t.Fatal(err)
	}
	return time.Duration(own.Utime.Nano()+own.Stime.Nano()) + processCPU(t, w.process.Process.Pid)
}

// processCPU reads utime and stime, fields 14 and 15 of /proc/PID/stat, in
// hundredths of a second.
func processCPU(t testing.TB, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	var ticks int
	for _, s := range f[11:13] {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

const benchPAN = "4111111111111111"

func tdesKey(t testing.TB, keyHex string) *key.Key {
	t.Helper()
	b, err := hex.DecodeString(keyHex)
	if err != nil {
		t.Fatal(err)
	}
	k, err := key.New(key.TDES, b)
	if err != nil {
		t.Fatal(err)
	}
	return &k
}

// encryptedBy is a format 0 block under a device's key of one transaction.
func encryptedBy(t testing.TB, baseHex string, ksn []byte) []byte {
	t.Helper()
	base, err := dukpt.NewTDESBase(tdesKey(t, baseHex), 1)
	if err != nil {
		t.Fatal(err)
	}
	k, err := base.Derive(ksn, dukpt.TDESPIN)
	if err != nil {
		t.Fatal(err)
	}
	return sealPIN(t, &k)
}

// encryptedPIN is a format 0 block under a TDES key.
func encryptedPIN(t testing.TB, keyHex string) []byte {
	t.Helper()
	return sealPIN(t, tdesKey(t, keyHex))
}

func sealPIN(t testing.TB, k *key.Key) []byte {
	t.Helper()
	c, err := k.Cipher()
	if err != nil {
		t.Fatal(err)
	}
	p, err := pinblock.ParsePIN([]byte("1234"))
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, 8)
	if err := pinblock.Encode(out, pinblock.ISO0, &p, []byte(benchPAN), rand.Reader); err != nil {
		t.Fatal(err)
	}
	c.Encrypt(out, out)
	return out
}

// flood runs an operation with so many in flight, and reports rate and CPU of
// both processes for each.
func (w *workplace) flood(b *testing.B, inFlight int, operation func() error) {
	if err := operation(); err != nil {
		b.Fatal(err)
	}
	var left atomic.Int64
	left.Store(int64(b.N))
	var all sync.WaitGroup
	b.ResetTimer()
	cpu, began := w.cpu(b), time.Now()
	for range inFlight {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				if err := operation(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	took := time.Since(began)
	b.ReportMetric(float64(b.N)/took.Seconds(), "per_s")
	b.ReportMetric(float64((w.cpu(b)-cpu).Nanoseconds())/1e3/float64(b.N), "cpu_us")
}

// BenchmarkSocket is what the switch gets of a module in a process of its own,
// over its Unix socket.
func BenchmarkSocket(b *testing.B) {
	w := newWorkplace(b)
	pan, err := card.ParsePAN([]byte(benchPAN))
	if err != nil {
		b.Fatal(err)
	}
	encrypted := encryptedPIN(b, "0123456789ABCDEFFEDCBA9876543210")
	translate := func() error {
		var dst [hsm.PINBytes]byte
		_, err := w.client.TranslatePIN(dst[:], hsm.In{Key: w.blocks["in"], Format: hsm.ISO0, Block: encrypted, PAN: &pan}, hsm.Out{Key: w.blocks["out"], Format: hsm.ISO0}, 0)
		return err
	}
	for _, n := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("translate-%d", n), func(b *testing.B) { w.flood(b, n, translate) })
	}
	message := make([]byte, 200)
	b.Run("mac-64", func(b *testing.B) {
		w.flood(b, 64, func() error {
			var dst [8]byte
			return w.client.GenerateMAC(dst[:], w.blocks["mac"], hsm.PadZeros, 8, message, 0)
		})
	})
	b.Run("dukpt-64", func(b *testing.B) {
		// X9.24-1:2009's own key and device; a counter that repeats is counted, not
		// refused.
		ksn, err := hex.DecodeString("FFFF9876543210E00008")
		if err != nil {
			b.Fatal(err)
		}
		block := encryptedBy(b, "0123456789ABCDEFFEDCBA9876543210", ksn)
		w.flood(b, 64, func() error {
			var dst [hsm.PINBytes]byte
			_, err := w.client.TranslatePIN(dst[:], hsm.In{Key: w.blocks["bdk"], KSN: ksn, Format: hsm.ISO0, Block: block, PAN: &pan}, hsm.Out{Key: w.blocks["out"], Format: hsm.ISO0}, 0)
			return err
		})
	})
}
