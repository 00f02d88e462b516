package hsm_test

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"authswitch/hsm"
	"authswitch/hsm/audit"
	"authswitch/hsm/server"
	"authswitch/hsm/wire"
)

// raw is a connection without a client: for frames that no client sends.
func (m *module) raw(path string) net.Conn {
	m.t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		m.t.Fatal(err)
	}
	return c
}

func frame(t testing.TB, op wire.Op, id uint64, deadline int64, fields []byte) []byte {
	t.Helper()
	b := append(wire.BeginRequest(nil, op, id, deadline), fields...)
	if err := wire.Finish(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

// answers reads n answers and says their statuses by id.
func answers(t testing.TB, c net.Conn, n int) map[uint64]wire.Status {
	t.Helper()
	out := map[uint64]wire.Status{}
	var buf []byte
	for len(out) < n {
		r, size, err := wire.CutResponse(buf)
		if err != nil {
			t.Fatal(err)
		}
		if size > 0 {
			out[r.ID] = r.Status
			buf = buf[size:]
			continue
		}
		more := make([]byte, 64<<10)
		k, err := c.Read(more)
		if err != nil {
			t.Fatalf("after %d of %d answers: %v", len(out), n, err)
		}
		buf = append(buf, more[:k]...)
	}
	return out
}

// ends says whether the other side closes.
func ends(c net.Conn) bool {
	_, err := io.Copy(io.Discard, c)
	return err == nil || !errors.Is(err, os.ErrDeadlineExceeded)
}

// Requests that are answered with a refusal and leave the connection as it is,
// one line each.
func TestRequestsRefused(t *testing.T) {
	m := newModule(t, fileRoot(t))
	past := time.Now().Add(-time.Second).UnixNano()
	for i, c := range []struct {
		admin    bool
		op       wire.Op
		deadline int64
		fields   string
		want     wire.Status
	}{
		{false, wire.OpPing, 0, "", wire.StatusOK},
		{true, wire.OpPing, 0, "", wire.StatusOK},
		{false, wire.OpPing, 0, "x", wire.StatusMalformed},
		{false, 0, 0, "", wire.StatusUnknown},
		{false, 250, 0, "", wire.StatusUnknown},
		{false, wire.OpTranslatePIN, 0, "", wire.StatusMalformed},
		{false, wire.OpTranslatePIN, past, "", wire.StatusDeadline},
		{false, wire.OpStatus, past, "", wire.StatusDeadline},
		{false, wire.OpGenerateMAC, 0, "\xff\xffkey", wire.StatusMalformed},
		{false, wire.OpVerifyCVV, 0, strings.Repeat("\x00", 3), wire.StatusMalformed},
		{false, wire.OpVerifyARQC, 0, "", wire.StatusMalformed},
		{false, wire.OpVerifyARPC, 0, "", wire.StatusMalformed},
		{false, wire.OpVerifyPVV, 0, "", wire.StatusMalformed},
		{false, wire.OpVerifyIBM3624, 0, "", wire.StatusMalformed},
		{false, wire.OpDecryptCards, 0, "\x01\x41", wire.StatusMalformed},
		{false, wire.OpReleaseDataKey, 0, "", wire.StatusMalformed},
		{false, wire.OpReleaseDataKey, 0, "\x00\x00", wire.StatusBadKey},
		{false, wire.OpGenerate, 0, "P0TB", wire.StatusMalformed},
		{false, wire.OpGenerate, 0, "K0TBN\x10", wire.StatusForbidden},
		{true, wire.OpGenerate, 0, "K0TBN\x10", wire.StatusOK},
		{true, wire.OpGenerate, 0, "K0TBN\x08", wire.StatusBadKey},
		{false, wire.OpImport, 0, "", wire.StatusMalformed},
		{false, wire.OpExport, 0, "", wire.StatusMalformed},
		{false, wire.OpRewrap, 0, "", wire.StatusMalformed},
		{false, wire.OpNewMaster, 0, "\x00\x00", wire.StatusForbidden},
		{false, wire.OpRetireMaster, 0, "\x00\x01", wire.StatusForbidden},
		{false, wire.OpReload, 0, "\x00\x00", wire.StatusForbidden},
		{false, wire.OpBindTable, 0, "", wire.StatusForbidden},
		{true, wire.OpTranslatePIN, 0, "", wire.StatusForbidden},
		{true, wire.OpGenerateMAC, 0, "", wire.StatusForbidden},
		{true, wire.OpVerifyMAC, 0, "", wire.StatusForbidden},
		{true, wire.OpDecryptCards, 0, "", wire.StatusForbidden},
		{true, wire.OpReleaseDataKey, 0, "", wire.StatusForbidden},
		{true, wire.OpRetireMaster, 0, "\x00\x01", wire.StatusBadKey}, // the one that seals
		{true, wire.OpRetireMaster, 0, "\x00\x07", wire.StatusBadKey},
		{true, wire.OpReload, 0, "\x00", wire.StatusMalformed},
	} {
		path := m.run()
		if c.admin {
			path = m.admin()
		}
		s := m.raw(path)
		if _, err := s.Write(append(frame(t, c.op, 7, c.deadline, []byte(c.fields)), frame(t, wire.OpPing, 8, 0, nil)...)); err != nil {
			t.Fatal(err)
		}
		got := answers(t, s, 2)
		if got[7] != c.want || got[8] != wire.StatusOK {
			t.Errorf("line %d, %s: %s, want %s; the ping after it: %s", i, c.op, got[7], c.want, got[8])
		}
		s.Close()
	}
}

// Streams that are no frames end their connection, and nobody else's.
func TestStreamsRefused(t *testing.T) {
	m := newModule(t, fileRoot(t), func(m *module) { m.cfg.FrameTimeout = 50 * time.Millisecond })
	bystander := m.client(m.run())
	ping := frame(t, wire.OpPing, 1, 0, nil)
	other := frame(t, wire.OpPing, 1, 0, nil)
	other[4] = 9
	for name, stream := range map[string][]byte{
		"oversized":       {0xff, 0xff, 0xff, 0xff},
		"a byte over":     {0, 0, 0x1f, 0xfd},
		"HTTP":            []byte("GET / HTTP/1.1\r\n\r\n"),
		"too short":       {0, 0, 0, 3, 1, 1, 1},
		"another version": other,
		"truncated":       ping[:len(ping)-1], // and then silence
		"half a length":   {0},
	} {
		s := m.raw(m.run())
		if _, err := s.Write(stream); err != nil {
			t.Fatal(err)
		}
		if !ends(s) {
			t.Errorf("%s: the connection stays", name)
		}
	}
	if _, err := bystander.Status(0); err != nil {
		t.Errorf("the bystander: %v", err)
	}
}

// A client that asks and never reads is let go, and holds no memory beyond its
// socket's; others do not notice.
func TestNeverReads(t *testing.T) {
	m := newModule(t, fileRoot(t), func(m *module) { m.cfg.WriteTimeout = 100 * time.Millisecond })
	bystander := m.client(m.run())
	s := m.raw(m.run())
	flood := make([]byte, 0, 64<<10)
	for len(flood) < 60<<10 {
		flood = append(flood, frame(t, wire.OpPing, 1, 0, nil)...)
	}
	began := time.Now()
	for {
		if _, err := s.Write(flood); err != nil {
			break
		}
		if time.Since(began) > 20*time.Second {
			t.Fatal("still written to")
		}
	}
	if _, err := bystander.Status(0); err != nil {
		t.Errorf("the bystander: %v", err)
	}
}

// More connections than there may be are closed at once.
func TestTooManyConnections(t *testing.T) {
	m := newModule(t, fileRoot(t), func(m *module) { m.cfg.Connections = 2 })
	m.client(m.run())
	m.client(m.run())
	if s := m.raw(m.run()); !ends(s) {
		t.Error("a third connection stays")
	}
}

// stuckBook holds every entry until it is let go.
type stuckBook struct {
	book
	hold chan struct{}
}

func (b *stuckBook) Append(e audit.Event) (audit.Place, error) {
	<-b.hold
	return b.book.Append(e)
}

// While the audit log's disk hangs, what needs it is busy beyond the bound of a
// connection, and what does not is answered as ever.
func TestBusy(t *testing.T) {
	root := fileRoot(t)
	m := newModule(t, root, func(m *module) { m.cfg.PerConnection = 4 })
	stuck := &stuckBook{hold: make(chan struct{})}
	m.server.Close()
	m.audit = stuck
	m.start()
	s := m.raw(m.run())
	var stream []byte
	for id := range uint64(10) {
		stream = append(stream, frame(t, wire.OpGenerate, id, 0, []byte("D0ABN\x20"))...)
	}
	if _, err := s.Write(append(stream, frame(t, wire.OpPing, 99, 0, nil)...)); err != nil {
		t.Fatal(err)
	}
	got := answers(t, s, 7)
	busy := 0
	for _, status := range got {
		if status == wire.StatusBusy {
			busy++
		}
	}
	if busy != 6 || got[99] != wire.StatusOK {
		t.Errorf("%d busy, ping %s: %v", busy, got[99], got)
	}
	close(stuck.hold)
	for id, status := range answers(t, s, 4) {
		if status != wire.StatusOK {
			t.Errorf("%d: %s", id, status)
		}
	}
}

// The kernel says who asks: another user is let go before anything is read.
func TestPeerCredentials(t *testing.T) {
	m := newModule(t, fileRoot(t))
	path := m.dir + "/others"
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = m.server.Serve(l, server.Run, server.UnixPeers([]uint32{uint32(os.Geteuid()) + 1})) }()
	if s := m.raw(path); !ends(s) {
		t.Error("a user who may not is let in")
	}
}

// Many clients at once, every answer to who asked.
func TestSideBySide(t *testing.T) {
	m := newModule(t, fileRoot(t))
	c := m.client(m.run())
	k := m.block(1, "M3TCE", double1)
	var all sync.WaitGroup
	for g := range 32 {
		all.Go(func() {
			for i := range 100 {
				message := []byte{byte(g), byte(i), 1, 2, 3}
				var mac [8]byte
				if err := c.GenerateMAC(mac[:], k, hsm.PadOneAndZeros, 8, message, 0); err != nil {
					t.Error(err)
					return
				}
				if err := c.VerifyMAC(k, nil, hsm.PadOneAndZeros, message, mac[:], 0); err != nil {
					t.Errorf("%d %d: %v", g, i, err)
				}
			}
		})
	}
	all.Wait()
	if n := c.Operations(); n != 6400 {
		t.Errorf("%d operations counted", n)
	}
}
