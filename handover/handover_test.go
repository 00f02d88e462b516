package handover

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"authswitch/payment"
)

// member is one node on the loopback, without TLS: who dials says its name.
type member struct {
	*Handover
	t    *testing.T
	node payment.NodeID
	ln   net.Listener
	stop func()

	mu    sync.Mutex
	links []payment.LinkName
	conns []net.Conn

	serve func(link payment.LinkName, request []byte, within time.Duration, answer []byte) ([]byte, bool)
}

type named struct {
	net.Conn
	node payment.NodeID
}

// Accept reads the name that whoever dialed says first.
func (m *member) Accept() (net.Conn, error) {
	conn, err := m.ln.Accept()
	if err != nil {
		return nil, err
	}
	name := make([]byte, 2)
	if _, err := io.ReadFull(conn, name); err != nil {
		return nil, err
	}
	m.mu.Lock()
	m.conns = append(m.conns, conn)
	m.mu.Unlock()
	return named{conn, payment.NodeID(name)}, nil
}

func (m *member) Close() error   { return m.ln.Close() }
func (m *member) Addr() net.Addr { return m.ln.Addr() }

func (m *member) up(links ...payment.LinkName) {
	m.mu.Lock()
	m.links = links
	m.mu.Unlock()
}

// cut breaks what others have open to this member.
func (m *member) cut() {
	m.mu.Lock()
	for _, c := range m.conns {
		_ = c.Close()
	}
	m.mu.Unlock()
}

// cluster starts members n1, n2, … that know each other.
func cluster(t *testing.T, count int) []*member {
	t.Helper()
	all := make([]*member, count)
	for n := range all {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		all[n] = &member{t: t, node: payment.NodeID([]byte{'n', byte('1' + n)}), ln: ln}
	}
	for n, m := range all {
		var err error
		m.Handover, err = New(Deps{
			Others: func() (others []Member) {
				for k, o := range all {
					if k != n {
						others = append(others, Member{o.node, o.ln.Addr().String()})
					}
				}
				return others
			},
			Dial: func(ctx context.Context, address string) (net.Conn, error) {
				conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
				if err == nil {
					_, err = conn.Write([]byte(m.node))
				}
				return conn, err
			},
			Peer: func(conn net.Conn) payment.NodeID { return conn.(named).node },
			Links: func(dst []payment.LinkName) []payment.LinkName {
				m.mu.Lock()
				defer m.mu.Unlock()
				return append(dst, m.links...)
			},
			Serve: func(link payment.LinkName, request []byte, within time.Duration, answer []byte) ([]byte, bool) {
				return m.serve(link, request, within, answer)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		m.serve = func(payment.LinkName, []byte, time.Duration, []byte) ([]byte, bool) {
			t.Error("nobody should ask " + m.node)
			return nil, false
		}
		ctx, stop := context.WithCancel(context.Background())
		over := make(chan struct{})
		m.stop = sync.OnceFunc(func() { stop(); <-over })
		go func() { defer close(over); m.Run(ctx, m) }()
		t.Cleanup(m.stop)
	}
	return all
}

// await waits for what gossip brings.
func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
	}
}

const (
	budget  = 20 * time.Second
	aLink   = payment.LinkName("cb-a")
	another = payment.LinkName("cb-b")
)

func TestHandedAndAnswered(t *testing.T) {
	nodes := cluster(t, 3)
	var held []byte
	nodes[1].serve = func(link payment.LinkName, request []byte, within time.Duration, answer []byte) ([]byte, bool) {
		if link != aLink || string(request) != "card 4111" || within <= 0 || within > budget {
			t.Errorf("%s %q within %s", link, request, within)
		}
		held = request
		return append(answer, "approved"...), true
	}
	nodes[1].up(aLink)
	await(t, "n1 knows what n2 has", func() bool { return nodes[0].Elsewhere(aLink) })
	if nodes[0].Elsewhere(another) || nodes[1].Elsewhere(aLink) {
		t.Error("a link that nobody else has is elsewhere")
	}
	for range 3 {
		answer, err := nodes[0].Hand(aLink, []byte("card 4111"), budget)
		if err != nil || string(answer) != "approved" {
			t.Fatalf("%q, %v", answer, err)
		}
		if !bytes.Equal(held, make([]byte, len(held))) {
			t.Errorf("the request is still there: %q", held)
		}
	}
	l := nodes[0].lines["n2"]
	l.writing.Lock()
	if i := slices.IndexFunc(l.frame[:cap(l.frame)], func(b byte) bool { return b == '4' }); i >= 0 {
		t.Error("the card is still in the sender's buffer")
	}
	l.writing.Unlock()
	nodes[1].up()
	await(t, "n1 knows that n2 has it no more", func() bool { return !nodes[0].Elsewhere(aLink) })
	if _, err := nodes[0].Hand(aLink, []byte("x"), budget); !errors.Is(err, payment.ErrNotSent) {
		t.Errorf("nobody has it: %v", err)
	}
}

// A node whose link went down a moment ago refuses, and the next one is asked;
// where all refuse, nothing was done.
func TestRefusedAndAskedElsewhere(t *testing.T) {
	nodes := cluster(t, 3)
	var asked [3]atomic.Int64
	refuse := func(n int) func(payment.LinkName, []byte, time.Duration, []byte) ([]byte, bool) {
		return func(payment.LinkName, []byte, time.Duration, []byte) ([]byte, bool) {
			asked[n].Add(1)
			return nil, false
		}
	}
	nodes[1].serve = refuse(1)
	nodes[2].serve = func(_ payment.LinkName, _ []byte, _ time.Duration, answer []byte) ([]byte, bool) {
		asked[2].Add(1)
		return append(answer, "yes"...), true
	}
	nodes[1].up(aLink)
	nodes[2].up(aLink)
	h := nodes[0].Handover
	await(t, "n1 knows both", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return len(h.having(aLink)) == 2 })
	for range 4 { // whoever is first
		if answer, err := h.Hand(aLink, []byte("x"), budget); err != nil || string(answer) != "yes" {
			t.Fatalf("%q, %v", answer, err)
		}
	}
	if asked[1].Load() == 0 || asked[2].Load() != 4 {
		t.Errorf("n2 was asked %d times, n3 %d", asked[1].Load(), asked[2].Load())
	}
	nodes[2].serve = refuse(2)
	if _, err := h.Hand(aLink, []byte("x"), budget); !errors.Is(err, payment.ErrNotSent) {
		t.Errorf("all refused: %v", err)
	}
}

// Once a request is on its way to a node that then falls silent, nobody here
// knows what became of it, and no other node is asked.
func TestPeerVanishes(t *testing.T) {
	for name, vanish := range map[string]func(m *member){
		"its connection breaks":     func(m *member) { m.cut() },
		"it answers after all time": func(*member) {},
	} {
		t.Run(name, func(t *testing.T) {
			nodes := cluster(t, 3)
			came, leave := make(chan struct{}, 2), make(chan struct{})
			for _, m := range nodes[1:] {
				m.serve = func(_ payment.LinkName, _ []byte, _ time.Duration, answer []byte) ([]byte, bool) {
					came <- struct{}{}
					<-leave
					return append(answer, "late"...), true
				}
			}
			nodes[1].up(aLink)
			nodes[2].up(aLink)
			h := nodes[0].Handover
			await(t, "n1 knows both", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return len(h.having(aLink)) == 2 })
			go func() {
				<-came
				vanish(nodes[1])
				vanish(nodes[2])
			}()
			within := budget
			if name != "its connection breaks" {
				within = 200 * time.Millisecond
			}
			if _, err := h.Hand(aLink, []byte("x"), within); !errors.Is(err, payment.ErrUnknownOutcome) || errors.Is(err, payment.ErrNotSent) {
				t.Errorf("%v", err)
			}
			select {
			case <-came:
				t.Error("it was handed on twice")
			case <-time.After(50 * time.Millisecond):
			}
			close(leave)
		})
	}
}

// A node that stops answers what it has in work, and a line that is known to be
// gone is proof that nothing was handed on.
func TestStop(t *testing.T) {
	nodes := cluster(t, 2)
	came := make(chan struct{})
	nodes[1].serve = func(_ payment.LinkName, _ []byte, _ time.Duration, answer []byte) ([]byte, bool) {
		close(came)
		time.Sleep(50 * time.Millisecond)
		return append(answer, "done"...), true
	}
	nodes[1].up(aLink)
	await(t, "n1 knows n2", func() bool { return nodes[0].Elsewhere(aLink) })
	l := nodes[0].lines["n2"]
	go func() { <-came; nodes[1].stop() }()
	if answer, err := nodes[0].Hand(aLink, []byte("x"), budget); err != nil || string(answer) != "done" {
		t.Errorf("%q, %v", answer, err)
	}
	await(t, "the line is gone", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.ended })
	if _, err := l.ask(aLink, []byte("x"), budget); !errors.Is(err, payment.ErrNotSent) {
		t.Errorf("%v", err)
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(endFrame(appendRequest(beginFrame(nil, kindRequest, 7), aLink, time.Second, []byte("request"))))
	f.Add(endFrame(appendLinks(beginFrame(nil, kindLinks, 0), []payment.LinkName{aLink, another})))
	f.Fuzz(func(t *testing.T, wire []byte) {
		_, _, payload, _, err := readFrame(bytes.NewReader(wire), nil)
		if err != nil {
			return
		}
		if links, err := readLinks(payload); err == nil && !bytes.Equal(appendLinks(nil, links), payload) {
			t.Errorf("links %q are not what was read", links)
		}
		if link, within, request, err := readRequest(payload); err == nil && !bytes.Equal(appendRequest(nil, link, within, request), payload) {
			t.Errorf("request %q %s %q is not what was read", link, within, request)
		}
	})
}
