package link

import (
	"context"
	"io/fs"
	"net"
	"strings"
	"testing"
	"testing/synctest"

	"authswitch/card"
	"authswitch/iso8583"
	"authswitch/iso8583/dialects"
	"authswitch/payment"
)

// dialectNames are the dialects a link can speak.
func dialectNames(t testing.TB) []string {
	t.Helper()
	files, err := fs.Glob(dialects.FS, "*.yaml")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d dialects, %v", len(files), err)
	}
	var names []string
	for _, f := range files {
		if !strings.HasPrefix(f, "base-") {
			names = append(names, strings.TrimSuffix(f, ".yaml"))
		}
	}
	return names
}

// approvals are DE 39 of an approval, by the version of a dialect's messages.
var approvals = [...]string{"00", "000", "0000"}

// testCards are published test numbers that the schemes' dialects take.
func testCard(t testing.TB, dialect string) card.PAN {
	t.Helper()
	number := map[string]string{
		"visa": "4111111111111111", "mastercard": "5555555555554444", "amex": "378282246310005", "unionpay": "6250941006528599",
		"jcb": "3530111333300000", "discover": "6011111111111117",
	}[dialect]
	if number == "" {
		number = "4970100000000154"
	}
	pan, err := card.ParsePAN([]byte(number))
	if err != nil {
		t.Fatal(err)
	}
	return pan
}

// TestDialects: every dialect signs on, answers the peer's echo with a code
// that it would accept itself, gets an authorization's answer, and knows a
// heartbeat.
func TestDialects(t *testing.T) {
	for _, name := range dialectNames(t) {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { speak(t, name) }) })
	}
}

func speak(t *testing.T, name string) {
	d := loadDialect(t, name)
	hosts := make(chan net.Conn, 1)
	r := newRigSpeaking(t, Config{}, name, func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		hosts <- far
		return near, nil
	})
	defer r.close()
	f, err := newFramer(d.Framing())
	if err != nil {
		t.Fatal(err)
	}
	h := &host{t: t, dialect: d, framer: f, socket: <-hosts}
	accept := acceptCode(d)
	if r.link.codec.abilities().signOn {
		h.reply(h.raw(), accept)
	}
	synctest.Wait()
	if s := r.link.Status(); s.State != Ready {
		t.Fatalf("%s: %s", s.State, r.logs)
	}
	if frame, err := d.EncodeNetwork(nil, payment.NetworkRequest{Function: payment.Echo, STAN: 77, Transmitted: 1123035512}); err == nil {
		h.write(f.append(nil, frame))
		m := h.raw()
		n, ok := d.DecodeNetwork(m)
		if !ok || !n.Response || !n.Accepted || n.STAN != 77 {
			t.Errorf("the peer's echo got %s %+v", m.MTI(), n)
		}
	}
	if d.Framing().Heartbeat {
		h.write(f.appendHeartbeat(nil))
		if m := h.raw(); m.MTI() != 0 {
			t.Errorf("a heartbeat got %s", m.MTI())
		}
	}
	p := r.pending(1)
	m := h.raw()
	if m == nil {
		t.Fatalf("no request: %v\n%s", (<-p).err, r.logs)
	}
	h.reply(m, payment.MakeResponseCode([]byte(approvals[m.MTI().Version()])))
	got := <-p
	if outcome(t, got); got.err != nil {
		t.Log(r.logs)
		return
	}
	if !got.answer.MTI().IsResponse() {
		t.Errorf("answered with %s", got.answer.MTI())
	}
	// What one side lacks is named, not guessed: a second copy matches nothing.
	h.reply(m, payment.MakeResponseCode([]byte(approvals[m.MTI().Version()])))
	if line := <-r.strange; !strings.Contains(line, "answered already") {
		t.Errorf("the line says %q", line)
	}
}

// reply answers with what every host echoes, under the header of an answer, and
// with its own time where hosts do that.
func (h *host) reply(m *iso8583.Message, code payment.ResponseCode) {
	h.t.Helper()
	if m == nil {
		h.t.Fatal("nothing came")
	}
	var b iso8583.Builder
	b.Start(m.MTI().Response())
	b.AnswerHeader(m)
	for _, de := range []int{4, 7, 11, 12, 24, 32, 33, 37, 41, 49, 70} {
		if m.Has(de) {
			b.Set(de, m.Bytes(de))
		}
	}
	if h.dialect.Correlation().PeerSetsTransmitted {
		b.SetUint(7, 1123035519)
	}
	b.Set(39, code.Bytes())
	frame, err := h.dialect.Pack(nil, &b)
	if err != nil {
		h.t.Fatal(err)
	}
	h.write(h.framer.append(nil, frame))
}

// TestRejectHeader: Visa returns our own message under a header that says why.
func TestRejectHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hosts := make(chan net.Conn, 1)
		r := newRigSpeaking(t, Config{}, "visa", func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			hosts <- far
			return near, nil
		})
		f, err := newFramer(r.dialect.Framing())
		if err != nil {
			t.Fatal(err)
		}
		h := &host{t: t, dialect: r.dialect, framer: f, socket: <-hosts}
		h.reply(h.raw(), acceptCode(r.dialect))
		synctest.Wait()
		p := r.pending(1)
		m := h.raw()
		// Header length 26 (0x1A), 21 bytes of the ordinary header, a bitmap
		// whose first bit says reject, a reject code, then what we sent.
		reject := append([]byte{0x1A}, m.Header()[1:22]...)
		reject = append(reject, 0x80, 0x00, 0x05, 0x12)
		h.write(f.append(nil, append(reject, m.Frame()...)))
		outcome(t, <-p, payment.ErrUnknownOutcome, payment.ErrRejected, ErrRejected)
		r.close()
	})
}

// FuzzHear: whatever a frame holds, the link neither panics nor hands an
// answer to a request it does not belong to.
func FuzzHear(f *testing.F) {
	d := loadDialect(f, "ascii87")
	h := host{t: f, dialect: d}
	var b iso8583.Builder
	b.Start(0x0100)
	b.SetUint(7, 1123035512)
	b.SetUint(11, 1)
	b.SetString(41, "TERM01")
	frame, err := d.Pack(nil, &b)
	if err != nil {
		f.Fatal(err)
	}
	var m iso8583.Message
	if err := d.Unpack(&m, frame); err != nil {
		f.Fatal(err)
	}
	f.Add(frame)
	f.Add(h.response(&m, "00", nil))
	f.Add(h.response(&m, "00", func(b *iso8583.Builder) { b.Start(0x0620); b.SetUint(11, 1) }))
	for _, response := range []bool{false, true} {
		network, err := d.EncodeNetwork(nil, payment.NetworkRequest{Function: payment.SignOff, Response: response, Code: payment.MakeResponseCode([]byte("00")), STAN: 1, Transmitted: 1123035512})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(network)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		l, err := New(Config{Name: "cb-a", Scheme: "cb", Dialect: "ascii87", Address: "127.0.0.1:1"}, d, Deps{Now: wallNow, Rand: zeros{}})
		if err != nil {
			t.Fatal(err)
		}
		c := l.connections[0]
		st := c.station
		st.machine.state, st.machine.enabled = Ready, true
		l.core.numbers.grant(payment.Numbers{FirstSTAN: 1, LastSTAN: 9, FirstRRN: 1, LastRRN: 9})
		var s payment.Slot
		if err := l.Reserve(&s, payment.ID{1}, 1); err != nil {
			t.Fatal(err)
		}
		p := s.Place.(*place)
		answer := new(iso8583.Message)
		if _, err := l.core.send(p, request{slot: &s, intent: intentFor(d, &s), frame: []byte("0100"), answer: answer}, l.now(), wallNow()); err != nil {
			t.Fatal(err)
		}
		l.core.take(st, l.now(), wallNow())
		p.key.transmitted = 1123035512
		var m iso8583.Message
		c.hear(frame, &m)
		if p.state == placeDone && p.err == nil && (answer.MTI() != 0x0110 && answer.MTI() != 0x0130 && answer.MTI()&0xff0f != 0x0100 || string(answer.Bytes(11)) != "000001") {
			t.Fatalf("completed by %s", answer.MTI())
		}
	})
}
