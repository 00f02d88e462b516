package bench

import (
	"bufio"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fastjson"
)

// Kinds of errors that are not an answer.
const (
	kindRefused = "refused" // nobody listens
	kindBroken  = "broken"  // the connection ended before the answer
	kindTimeout = "timeout" // no answer in the client's own time
	kindGarbled = "garbled" // not HTTP
	kindShed    = "shed"    // over the generator's own limit, never sent
)

// Limits of the generator. A switch that answers slowly meets more connections,
// as it would with real gateways, until these.
const (
	maxBody       = 1 << 20
	dialTimeout   = 5 * time.Second
	deadlineSlack = time.Second // a deadline is moved at most once in this time
	maxIdle       = 5 * time.Second
	readBuffer    = 4096
)

// asker sends jobs and tells its owner what came back.
type asker interface {
	// asked is called with each response, or with kind and no response. body is
	// valid until it returns.
	asked(j *job, a *answer, kind string, body []byte)
	// leaving is called before an attempt is written.
	leaving(j *job)
}

// pool hands jobs to connections. Idle connections are taken last in, first
// out, so that a small load keeps to a few of them. When all are busy and no
// more may be opened, jobs wait for one of their target's — a connection that
// changed its target for each of them would be closed and dialed for each —
// and when too many wait, they are refused here.
type pool struct {
	targets   []target
	templates []requestTemplate
	dial      Dial
	timeout   time.Duration
	most      int // connections
	mostQueue int
	whole     bool // answers are kept: every field of them is read
	owner     asker

	wg sync.WaitGroup

	mu      sync.Mutex  // a worker's own fields are its goroutine's; everything below is under mu
	idle    [][]*worker // by target
	workers []int       // by target
	count   int         // of them all
	queues  [][]*job    // by target
	waiting int         // in them all
	stopped bool
	all     map[*worker]struct{}
}

func newPool(targets []target, templates []requestTemplate, o *Options, owner asker) *pool {
	return &pool{
		targets: targets, templates: templates, dial: o.Dial, timeout: o.Timeout, most: o.Connections,
		mostQueue: o.MaxOpen, whole: o.Answers != nil, owner: owner, idle: make([][]*worker, len(targets)),
		workers: make([]int, len(targets)), queues: make([][]*job, len(targets)), all: map[*worker]struct{}{},
	}
}

// submit gives a job to a connection of its target, or queues it. It reports
// false when the queue is full or the pool has stopped: the job is the
// caller's again.
func (p *pool) submit(j *job) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return false
	}
	if idle := p.idle[j.at]; len(idle) > 0 {
		w := idle[len(idle)-1]
		p.idle[j.at] = idle[:len(idle)-1]
		w.jobs <- j // never blocks: an idle worker's channel is empty
		return true
	}
	if p.count < p.most {
		w := &worker{pool: p, at: j.at, jobs: make(chan *job, 1), read: bufio.NewReaderSize(nil, readBuffer)}
		p.count++
		p.workers[j.at]++
		p.all[w] = struct{}{}
		w.jobs <- j
		p.wg.Go(w.run)
		return true
	}
	if p.waiting >= p.mostQueue {
		return false
	}
	p.waiting++
	p.queues[j.at] = append(p.queues[j.at], j)
	return true
}

// next is what a worker does after a job: the oldest that waits, or idleness.
// It reports false when the worker is to end.
func (p *pool) next(w *worker) (*job, bool) {
	p.mu.Lock()
	if p.stopped {
		p.mu.Unlock()
		return nil, false
	}
	if at, ok := p.neediest(w); ok {
		j := p.queues[at][0]
		p.queues[at] = p.queues[at][1:]
		p.waiting--
		p.mu.Unlock()
		return j, true
	}
	p.idle[w.at] = append(p.idle[w.at], w)
	p.mu.Unlock()
	j, ok := <-w.jobs
	return j, ok
}

// neediest is the target of whose queue a worker takes the next job: its own,
// but another's when its own is empty or the other has no connection at all.
// Under mu.
func (p *pool) neediest(w *worker) (at uint8, ok bool) {
	own := len(p.queues[w.at]) > 0
	for i, queue := range p.queues {
		if len(queue) > 0 && (!own || p.workers[i] == 0) {
			p.workers[w.at]--
			p.workers[i]++
			return uint8(i), true // #nosec G115 -- 255 targets at most
		}
	}
	return w.at, own
}

// stop ends every connection and waits for their goroutines. Jobs in flight
// come back to the owner as broken; those that waited are returned.
func (p *pool) stop() []*job {
	p.mu.Lock()
	p.stopped = true
	for _, idle := range p.idle {
		for _, w := range idle {
			close(w.jobs)
		}
	}
	for w := range p.all {
		w.interrupt()
	}
	var waiting []*job
	for i, queue := range p.queues {
		waiting = append(waiting, queue...)
		p.queues[i] = nil
	}
	p.waiting = 0
	p.mu.Unlock()
	p.wg.Wait()
	return waiting
}

// worker owns one connection at a time and asks one thing at a time on it: no
// pipelining, as gateways do.
type worker struct {
	pool     *pool
	at       uint8
	jobs     chan *job
	read     *bufio.Reader
	write    []byte
	parser   fastjson.Parser
	response fasthttp.Response
	deadline time.Time
	used     time.Time

	connMu sync.Mutex // between interrupt and dialling
	conn   net.Conn
	halted bool
}

func (w *worker) run() {
	defer w.close()
	for j, ok := <-w.jobs; ok; j, ok = w.pool.next(w) {
		if w.at != j.at { // a job from the queue may be for another node
			w.close()
			w.at = j.at
		}
		w.ask(j)
	}
}

// ask sends one attempt and reports what came of it.
func (w *worker) ask(j *job) {
	w.pool.owner.leaving(j)
	if err := w.exchange(j); err != nil {
		w.close()
		w.pool.owner.asked(j, nil, kindOf(err), nil)
		return
	}
	body := w.response.Body()
	a, ok := readDecision(w.response.StatusCode(), body)
	if !ok || w.pool.whole {
		a = readAnswer(&w.parser, w.response.StatusCode(), body)
	}
	w.pool.owner.asked(j, &a, "", body)
	if w.response.ConnectionClose() {
		w.close()
	}
}

func (w *worker) exchange(j *job) error {
	now := time.Now()
	if now.Sub(w.used) > maxIdle {
		w.close() // the server may be closing it at this moment
	}
	w.used = now
	if w.conn == nil {
		if err := w.connect(); err != nil {
			return err
		}
	}
	if w.deadline.Sub(now) < w.pool.timeout-deadlineSlack {
		w.deadline = now.Add(w.pool.timeout)
		if err := w.conn.SetDeadline(w.deadline); err != nil {
			return err
		}
	}
	w.write = w.pool.templates[w.at].append(w.write[:0], j)
	if _, err := w.conn.Write(w.write); err != nil {
		return err
	}
	return w.response.ReadLimitBody(w.read, maxBody)
}

func (w *worker) connect() error {
	conn, err := w.pool.targets[w.at].dial(w.pool.dial, dialTimeout)
	if err != nil {
		return err
	}
	w.connMu.Lock()
	defer w.connMu.Unlock()
	if w.halted {
		_ = conn.Close()
		return net.ErrClosed
	}
	w.conn = conn
	w.deadline = time.Time{}
	w.read.Reset(conn)
	return nil
}

func (w *worker) close() {
	w.connMu.Lock()
	defer w.connMu.Unlock()
	if w.conn != nil {
		_ = w.conn.Close()
		w.conn = nil
	}
}

// interrupt ends the worker's wait from outside.
func (w *worker) interrupt() {
	w.connMu.Lock()
	defer w.connMu.Unlock()
	w.halted = true
	if w.conn != nil {
		_ = w.conn.Close()
	}
}

// kindOf says in one word what went wrong on a connection.
func kindOf(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return kindRefused
	case errors.As(err, &timeout) && timeout.Timeout():
		return kindTimeout
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, net.ErrClosed), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return kindBroken
	}
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return kindBroken
	}
	return kindGarbled
}
