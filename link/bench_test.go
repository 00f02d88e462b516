package link

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"authswitch/iso8583"
	"authswitch/payment"
)

// echoHost is the fastest possible acquirer: it turns 0100 into 0110 in place
// and writes back everything one read brought, with DE 39 borrowed from the
// frame the dialect packed once.
func echoHost(b *testing.B, socket net.Conn) {
	d := loadDialect(b, "ascii87")
	f, err := newFramer(d.Framing())
	if err != nil {
		b.Error(err)
		return
	}
	var m iso8583.Message
	in := make([]byte, 256<<10)
	out := make([]byte, 0, 256<<10)
	end := 0
	for {
		n, err := socket.Read(in[end:])
		if err != nil {
			return
		}
		end += n
		start := 0
		out = out[:0]
		for {
			payload, size, err := f.cut(in[start:end])
			if err != nil {
				b.Error(err)
				return
			}
			if size == 0 {
				break
			}
			if string(payload[:4]) == "0100" {
				from := len(out)
				out = append(out, in[start:start+size]...)
				out[from+f.prefix+2] = '1'
			} else if err := d.Unpack(&m, payload); err == nil && m.MTI().IsRequest() {
				h := host{t: b, dialect: d, framer: f}
				out = f.append(out, h.response(&m, "00", nil))
			}
			start += size
		}
		end = copy(in, in[start:end])
		if _, err := socket.Write(out); err != nil {
			return
		}
	}
}

// BenchmarkRoundTrip is one operation per authorization-sized message there
// and back over one TCP connection, unpacked and correlated, 256 in flight,
// the host in the same process.
func BenchmarkRoundTrip(b *testing.B) {
	for _, inFlight := range []int{1, 16, 256} {
		b.Run(map[int]string{1: "1", 16: "16", 256: "256"}[inFlight], func(b *testing.B) { benchmarkRoundTrip(b, inFlight) })
	}
}

func benchmarkRoundTrip(b *testing.B, inFlight int) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			socket, err := listener.Accept()
			if err != nil {
				return
			}
			go echoHost(b, socket)
		}
	}()
	var dialer net.Dialer
	r := newRig(b, Config{Address: listener.Addr().String(), Window: inFlight}, dialer.DialContext)
	defer r.close()
	r.ready()

	a := authorization(b)
	var left atomic.Int64
	left.Store(int64(b.N))
	var group sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for range inFlight {
		group.Go(func() { r.load(a, &left) })
	}
	group.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "roundtrips/s")
}

// load runs round trips until none are left, packing each request.
func (r *rig) load(a *payment.Authorization, left *atomic.Int64) {
	var s payment.Slot
	var answer iso8583.Message
	id := payment.ID{1}
	i := intentFor(r.dialect, &s)
	frame := make([]byte, 0, 1024)
	for left.Add(-1) >= 0 {
		for r.link.Reserve(&s, id, 1) != nil {
			r.until("room", func(st Status) bool { return st.NumbersLeft > 0 })
		}
		i.STAN, i.RRN, i.Transmitted = s.STAN, s.RRN, s.Transmitted
		packed, err := r.dialect.EncodeAuthorization(frame[:0], a, i)
		if err != nil {
			r.t.Error(err)
			return
		}
		if err := r.link.Exchange(&s, i, packed, &answer); err != nil {
			r.t.Error(err)
			return
		}
	}
}

// TestAllocations: a round trip allocates nothing once the buffers are warm:
// reserve, append, take, unpack, match, hand over.
func TestAllocations(t *testing.T) {
	d := loadDialect(t, "ascii87")
	l, err := New(Config{Name: "cb-a", Scheme: "cb", Dialect: "ascii87", Address: "127.0.0.1:1"}, d, Deps{Now: wallNow, Rand: zeros{}})
	if err != nil {
		t.Fatal(err)
	}
	c := l.connections[0]
	c.station.machine.state = Ready
	l.core.numbers.grant(payment.Numbers{FirstSTAN: 1, LastSTAN: payment.MaxSTAN, LastRRN: 1 << 30})
	var s payment.Slot
	var m, sent, answer iso8583.Message
	var b iso8583.Builder
	i := intentFor(d, &s)
	frame, response := make([]byte, 0, 1024), make([]byte, 0, 1024)
	once := func() {
		if err := l.Reserve(&s, payment.ID{1}, 1); err != nil {
			t.Fatal(err)
		}
		p := s.Place.(*place)
		i.STAN, i.RRN, i.Transmitted = s.STAN, s.RRN, s.Transmitted
		b.Start(0x0100)
		b.SetUint(7, uint64(s.Transmitted))
		b.SetUint(11, uint64(s.STAN))
		b.Set(37, s.RRN[:])
		b.SetString(41, i.Terms.Terminal)
		var err error
		if frame, err = d.Pack(frame[:0], &b); err != nil {
			t.Fatal(err)
		}
		if _, err := l.core.send(p, request{slot: &s, intent: i, frame: frame, answer: &answer}, l.now(), wallNow()); err != nil {
			t.Fatal(err)
		}
		batch, _ := l.core.take(c.station, l.now(), wallNow())
		c.station.giveBack(batch)
		if err := d.Unpack(&sent, frame); err != nil {
			t.Fatal(err)
		}
		b.Start(0x0110)
		for _, de := range []int{7, 11, 37, 41} {
			b.Set(de, sent.Bytes(de))
		}
		if response, err = d.Pack(response[:0], &b); err != nil {
			t.Fatal(err)
		}
		c.hear(response, &m)
		<-p.done
		if p.err != nil || string(answer.Bytes(11)) != string(sent.Bytes(11)) {
			t.Fatalf("%v", p.err)
		}
		l.core.table.giveBack(p)
	}
	once()
	if n := testing.AllocsPerRun(1000, once); n != 0 {
		t.Errorf("%.1f allocations a round trip", n)
	}
}

// BenchmarkPending is the pending table alone: reserve, claim, match, free.
func BenchmarkPending(b *testing.B) {
	t := newTable(1024)
	var stan payment.STAN
	b.ReportAllocs()
	for b.Loop() {
		stan = stan%payment.MaxSTAN + 1
		p := t.take(stan)
		k := p.key
		k.class, k.transmitted = 1, 1123035512
		if t.claim(p, k) != nil {
			b.Fatal("taken")
		}
		p.state = placeWritten
		e := echoed{mti: 0x0110, stan: stan, transmitted: 1123035512}
		if t.match(&e, rule{transmitted: true}) != p {
			b.Fatal("not matched")
		}
		t.leave(p)
		t.giveBack(p)
	}
}

// BenchmarkWheel sets and stops one timer among 256.
func BenchmarkWheel(b *testing.B) {
	w := newWheel(256)
	for i := range int32(256) {
		w.set(i, moment(10e9))
	}
	at := moment(10e9)
	for b.Loop() {
		at += 1000
		w.set(7, at)
	}
}
