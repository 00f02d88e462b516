package handover

import (
	"context"
	"net"
	"sync"
	"time"

	"authswitch/card"
)

// accept answers the other nodes until the context ends, and lets what is in work
// then be answered.
func (h *Handover) accept(ctx context.Context, ln net.Listener) {
	var running sync.WaitGroup
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	for {
		conn, err := ln.Accept()
		if err != nil {
			break // closed: a mesh's listener has no other error
		}
		running.Go(func() { h.serve(ctx, conn) })
	}
	running.Wait()
}

// serve reads what one node says and answers its requests as they are done.
func (h *Handover) serve(ctx context.Context, conn net.Conn) {
	// What is in work when this node stops is answered before the connection ends:
	// only the reader is woken.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var writing sync.Mutex
	var pending sync.WaitGroup
	for {
		buffer, _ := h.buffers.Get().(*[]byte)
		kind, number, payload, b, err := readFrame(conn, *buffer)
		*buffer = b
		if err != nil {
			h.give(buffer)
			break
		}
		switch kind {
		case kindLinks:
			err = h.heard(conn, payload)
			h.give(buffer)
		case kindRequest:
			err = h.begin(conn, &writing, &pending, number, payload, buffer)
		default:
			err = errFrame
			h.give(buffer)
		}
		if err != nil {
			break
		}
	}
	h.forget(conn)
	pending.Wait()
	hangUp(conn)
}

// give wipes a buffer and returns it to the pool.
func (h *Handover) give(buffer *[]byte) {
	clear((*buffer)[:cap(*buffer)])
	card.ClearRegisters()
	h.buffers.Put(buffer)
}

// begin answers one request beside the reading, or refuses it where too many are
// in work: it may be done elsewhere.
func (h *Handover) begin(conn net.Conn, writing *sync.Mutex, pending *sync.WaitGroup, number uint64, payload []byte, buffer *[]byte) error {
	link, within, request, err := readRequest(payload)
	if err != nil {
		h.give(buffer)
		return err
	}
	select {
	case h.inWork <- struct{}{}:
	default:
		h.give(buffer)
		return answer(conn, writing, endFrame(beginFrame(nil, kindRefused, number)))
	}
	pending.Go(func() {
		defer func() { <-h.inWork }()
		out, taken := h.deps.Serve(link, request, within, beginFrame(make([]byte, 0, answerRoom), kindTaken, number))
		h.give(buffer)
		if !taken {
			out = beginFrame(out, kindRefused, number)
		} else {
			h.metrics.served.Inc()
		}
		if answer(conn, writing, endFrame(out)) != nil {
			hangUp(conn) // the reader ends, and with it the connection
		}
	})
	return nil
}

// answerRoom is more than most answers need.
const answerRoom = 2 << 10

func answer(conn net.Conn, writing *sync.Mutex, frame []byte) error {
	writing.Lock()
	defer writing.Unlock()
	return write(conn, frame)
}

// heard notes which links a node has.
func (h *Handover) heard(conn net.Conn, payload []byte) error {
	links, err := readLinks(payload)
	if err != nil {
		return err
	}
	h.mu.Lock()
	h.said[h.deps.Peer(conn)] = said{links, time.Now(), conn}
	h.mu.Unlock()
	return nil
}

// forget drops what a node said on a connection that is gone.
func (h *Handover) forget(conn net.Conn) {
	h.mu.Lock()
	if node := h.deps.Peer(conn); h.said[node].conn == conn {
		delete(h.said, node)
	}
	h.mu.Unlock()
}
