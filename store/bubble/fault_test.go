package bubble_test

import (
	"math/rand/v2"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// disturb breaks things for a while. Its draws are its own, so that a seed
// brings the same faults.
func (w *world) disturb(active time.Duration) {
	r := rand.New(rand.NewPCG(w.seed, 3))
	until := time.Now().Add(active)
	for {
		time.Sleep(500*time.Millisecond + time.Duration(r.Int64N(int64(3*time.Second))))
		left := time.Until(until)
		if left <= 0 {
			return
		}
		d := min(left, 200*time.Millisecond+time.Duration(r.Int64N(int64(4*time.Second))))
		m := w.members[r.IntN(nodes)]
		switch r.IntN(10) {
		case 0:
			w.count("crashes")
			m.kill(m.now())
			time.Sleep(d)
			w.boot(m)
		case 1:
			w.count("power cuts")
			m.powerCut(m.now())
			time.Sleep(d)
			w.boot(m)
		case 2:
			w.count("power cuts")
			for _, m := range w.members {
				m.powerCut(m.now())
			}
			time.Sleep(d)
			w.boot(w.members...)
		case 3:
			w.count("partitions")
			w.isolate(m, true, true, d)
		case 4:
			w.count("one-way cuts")
			w.isolate(m, r.IntN(2) == 0, false, d)
		case 5:
			w.count("acquirer cuts")
			w.cutHost(string(m.id), string(linkName(r.IntN(hosts))), r.IntN(3), d)
		case 6:
			w.count("slow disks")
			m.syncs.Store(int64(time.Duration(20+r.IntN(200)) * time.Millisecond))
			time.Sleep(d)
			m.syncs.Store(0)
		case 7:
			w.count("lying disks")
			w.lie(m, d)
		case 8:
			w.count("lost disks")
			m.powerCut(m.now())
			m.fs = vfs.NewCrashableMem()
			time.Sleep(d)
			w.boot(m)
		case 9:
			w.count("clock steps")
			by := [...]time.Duration{-time.Hour, -time.Second, time.Second, time.Hour}[r.IntN(4)]
			w.notef("the clock of %s steps by %s", m.id, by)
			m.clock.Add(int64(by))
			time.Sleep(d)
			m.clock.Add(-int64(by))
		}
	}
}

// isolate cuts a member off from the others: what it sends, or what it should
// hear, or both.
func (w *world) isolate(m *member, sends, both bool, d time.Duration) {
	set := func(on bool) {
		for _, o := range w.members {
			if o == m {
				continue
			}
			if sends || both {
				w.net.cut(string(m.id), string(o.id), on)
			}
			if !sends || both {
				w.net.cut(string(o.id), string(m.id), on)
			}
		}
	}
	w.notef("%s is cut off (sends %v, both %v) for %s", m.id, sends, both, d)
	set(true)
	time.Sleep(d)
	set(false)
	w.notef("%s is back", m.id)
}

// cutHost cuts a member off from an acquirer: one way, the other, or both.
func (w *world) cutHost(id, host string, way int, d time.Duration) {
	w.notef("%s and %s are cut (%d) for %s", id, host, way, d)
	w.net.cut(id, host, way != 1)
	w.net.cut(host, id, way != 0)
	time.Sleep(d)
	w.net.cut(id, host, false)
	w.net.cut(host, id, false)
}

// lie lets a member's disk say yes to every sync and keep nothing, until its power
// fails. The others are up: what it lost they have, and it must not be believed.
func (w *world) lie(m *member, d time.Duration) {
	m.lies.Store(true)
	w.notef("the disk of %s lies for %s", m.id, d)
	time.Sleep(d)
	m.powerCut(m.now())
	m.lies.Store(false)
	w.boot(m)
}
