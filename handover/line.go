package handover

import (
	"fmt"
	"net"
	"sync"
	"time"

	"authswitch/card"
	"authswitch/payment"
)

// line is this node's connection to another one: one, with all that is handed
// over on it, each request under a number.
type line struct {
	node payment.NodeID
	conn net.Conn
	over chan struct{} // closed when the connection is gone

	writing sync.Mutex // one frame at a time; taken before mu
	frame   []byte     // under writing; wiped after each request

	mu      sync.Mutex
	number  uint64
	waiting map[uint64]chan reply // capacity 1; closed without a reply
	ended   bool
}

type reply struct {
	kind   byte
	answer []byte
}

func newLine(node payment.NodeID, conn net.Conn) *line {
	return &line{node: node, conn: conn, over: make(chan struct{}), waiting: map[uint64]chan reply{}}
}

// What ask can say besides an answer.
var (
	errGone    = fmt.Errorf("%w: the connection was gone before", payment.ErrNotSent)
	errRefused = fmt.Errorf("%w: the node does not have the link", payment.ErrNotSent)
	errLost    = fmt.Errorf("%w: the connection to the node broke", payment.ErrUnknownOutcome)
	errSilent  = fmt.Errorf("%w: the node did not answer within the budget", payment.ErrUnknownOutcome)
)

// ask hands a request over and waits for its answer. A connection that was known
// to be gone is proof that nothing was handed on; a write that failed is not.
func (l *line) ask(link payment.LinkName, request []byte, within time.Duration) ([]byte, error) {
	l.mu.Lock()
	if l.ended {
		l.mu.Unlock()
		return nil, errGone
	}
	l.number++
	number, answer := l.number, make(chan reply, 1)
	l.waiting[number] = answer
	l.mu.Unlock()

	l.writing.Lock()
	if want := headBytes + 1 + len(link) + 4 + len(request); cap(l.frame) < want {
		l.frame = make([]byte, 0, want+want/2) // never grown with a request in it
	}
	l.frame = endFrame(appendRequest(beginFrame(l.frame, kindRequest, number), link, within, request))
	err := write(l.conn, l.frame)
	clear(l.frame)
	card.ClearRegisters()
	l.writing.Unlock()
	if err != nil {
		l.end()
		return nil, errLost
	}
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case r, ok := <-answer:
		switch {
		case !ok:
			return nil, errLost
		case r.kind == kindRefused:
			return nil, errRefused
		}
		return r.answer, nil
	case <-timer.C:
		l.mu.Lock()
		delete(l.waiting, number)
		l.mu.Unlock()
		return nil, errSilent
	}
}

// tell says which links are up here.
func (l *line) tell(links []payment.LinkName) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.frame = endFrame(appendLinks(beginFrame(l.frame, kindLinks, 0), links))
	return write(l.conn, l.frame)
}

// read gives answers to whoever waits for them.
func (l *line) read() {
	var buffer []byte
	for {
		kind, number, payload, b, err := readFrame(l.conn, buffer)
		buffer = b
		if err != nil || kind != kindTaken && kind != kindRefused {
			l.end()
			return
		}
		l.mu.Lock()
		answer := l.waiting[number]
		delete(l.waiting, number)
		l.mu.Unlock()
		if answer != nil {
			answer <- reply{kind, append([]byte(nil), payload...)}
		}
	}
}

// end closes the connection; nobody waits any more.
func (l *line) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	l.ended = true
	hangUp(l.conn)
	close(l.over)
	for number, answer := range l.waiting {
		close(answer)
		delete(l.waiting, number)
	}
}
