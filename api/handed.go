package api

import (
	"bytes"
	"encoding/binary"
	"errors"
	"time"

	"github.com/valyala/fasthttp"

	"authswitch/payment"
)

// Others hands a request to a node of the cluster that has a link which this one
// does not have now.
type Others interface {
	// Hand returns the answer of the node that took the request. payment.ErrNotSent:
	// none did, and nothing was done; any other error: it may have been done.
	Hand(link payment.LinkName, request []byte, within time.Duration) (answer []byte, err error)
}

// handed is what a request of another node's gateway has besides.
type handed struct {
	link    payment.LinkName
	refused bool // the link is not up here, and nothing was done
}

// ServeHanded answers what another node hands here, appending to dst; within is
// what is left of the gateway's budget. false: the link is not up here and
// nothing was done. Key and rate were judged where the gateway came in, and the
// key is judged again; the rate is not. The request is wiped by its owner.
func (s *Server) ServeHanded(link payment.LinkName, raw []byte, within time.Duration, dst []byte) (answer []byte, taken bool) {
	ctx := &fasthttp.RequestCtx{}
	ctx.Init(&fasthttp.Request{}, nil, quiet{})
	if !readHanded(raw, &ctx.Request) {
		p := badRequest("malformed_request", "this is no request of another node")
		setProblem(ctx, &p)
		ctx.Response.SetBody(appendProblem(nil, &p))
		return appendHandedAnswer(dst, &ctx.Response), true
	}
	h := &handed{link: link}
	s.answer(ctx, h, within)
	if h.refused {
		return dst, false
	}
	return appendHandedAnswer(dst, &ctx.Response), true
}

// elsewhere notes that another node has the link which this request needs. One
// that was handed here is refused with that; one that nobody took is told that
// there is no route.
func (r *request) elsewhere(e *payment.Elsewhere) {
	switch {
	case r.handed != nil:
		r.handed.refused = true
	case r.here || r.server.deps.Others == nil:
		r.problem(notSent())
	default:
		r.handTo = e.Link
	}
}

// handOver gives the whole request to another node and its answer to the gateway.
// Where nobody takes it, this node does what it can.
func (r *request) handOver() {
	link := r.handTo
	r.handTo = ""
	r.restore()
	r.raw = appendHanded(r.raw[:0], &r.ctx.Request)
	left := time.Duration(r.until - r.server.deps.Now())
	answer, err := r.server.deps.Others.Hand(link, r.raw, left)
	clear(r.raw)
	switch {
	case err == nil && readHandedAnswer(answer, &r.ctx.Response, &r.out):
		return
	case !errors.Is(err, payment.ErrNotSent):
		r.problem(pending())
		return
	}
	r.here = true
	r.document.forget()
	r.authorization.Wipe()
	r.out = r.out[:0]
	r.ask(true)
}

// keep copies a body that reading changes, so that it can be handed on as it
// came: strings with escapes are unescaped where they stand. Few have any.
func (r *request) keep(body []byte) {
	r.kept = r.kept[:0]
	if r.server.deps.Others == nil || r.handed != nil {
		return
	}
	if bytes.IndexByte(body, '\\') < 0 {
		return
	}
	if cap(r.kept) < len(body) {
		r.kept = make([]byte, 0, 2*len(body)) // never grown with a card in it
	}
	r.kept = append(r.kept, body...)
}

// restore makes the body what it was before it was read.
func (r *request) restore() {
	if len(r.kept) > 0 {
		copy(r.ctx.PostBody(), r.kept)
	}
}

// forgetHanded wipes what was kept of a request to hand it on.
func (r *request) forgetHanded() {
	clear(r.kept)
	r.kept, r.raw = r.kept[:0], r.raw[:0]
	r.handed, r.handTo, r.here, r.until = nil, "", false, 0
}

// A request between two nodes, and its answer:
//
//	version 1 | length 1, method | length 2, path | count 2, {length 1, name, length 2, value}* | body
//	version 1 | status 2 | count 2, {length 1, name, length 2, value}* | body
const handedVersion = 1

// handedRoom is more than the longest name of a header or method.
const handedRoom = 255

func appendHanded(b []byte, request *fasthttp.Request) []byte {
	h := &request.Header
	uri := h.RequestURI()
	if need := len(h.RawHeaders()) + len(uri) + len(request.Body()) + 4<<10; cap(b) < need {
		b = make([]byte, 0, 2*need) // never grown with a card in it
	}
	b = append(b, handedVersion, byte(len(h.Method())))
	b = append(b, h.Method()...)
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(uri))), uri...)
	b = appendHeaders(b, h.All())
	return append(b, request.Body()...)
}

func appendHandedAnswer(b []byte, response *fasthttp.Response) []byte {
	b = binary.BigEndian.AppendUint16(append(b, handedVersion), uint16(response.StatusCode()))
	b = appendHeaders(b, response.Header.All())
	return append(b, response.Body()...)
}

// appendHeaders writes all headers but those of one connection.
func appendHeaders(b []byte, all func(yield func(name, value []byte) bool)) []byte {
	at, count := len(b), 0
	b = append(b, 0, 0)
	for name, value := range all {
		if ofConnection(string(name)) || len(name) > handedRoom || len(value) > 1<<16-1 {
			continue
		}
		b = append(append(b, byte(len(name))), name...)
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(value))), value...)
		count++
	}
	binary.BigEndian.PutUint16(b[at:], uint16(count))
	return b
}

// ofConnection says whether a header is about the connection, and not about the
// request or its answer.
func ofConnection(name string) bool {
	switch name {
	case fasthttp.HeaderConnection, fasthttp.HeaderContentLength, fasthttp.HeaderHost, fasthttp.HeaderTransferEncoding, fasthttp.HeaderExpect, fasthttp.HeaderDate, fasthttp.HeaderServer:
		return true
	}
	return false
}

// pieces reads what the appenders wrote; the first fault sticks.
type pieces struct {
	b      []byte
	broken bool
}

func (p *pieces) take(n int) []byte {
	if p.broken || n > len(p.b) {
		p.broken = true
		return nil
	}
	v := p.b[:n:n]
	p.b = p.b[n:]
	return v
}

func (p *pieces) u8() int {
	if v := p.take(1); v != nil {
		return int(v[0])
	}
	return 0
}

func (p *pieces) u16() int {
	if v := p.take(2); v != nil {
		return int(binary.BigEndian.Uint16(v))
	}
	return 0
}

func (p *pieces) headers(set func(name, value []byte)) {
	for range p.u16() {
		name := p.take(p.u8())
		value := p.take(p.u16())
		if p.broken {
			return
		}
		set(name, value)
	}
}

// readHanded reads a request; its body stays in raw.
func readHanded(raw []byte, request *fasthttp.Request) bool {
	p := pieces{b: raw}
	if p.u8() != handedVersion {
		return false
	}
	request.Header.SetMethodBytes(p.take(p.u8()))
	request.SetRequestURIBytes(p.take(p.u16()))
	p.headers(request.Header.SetBytesKV)
	request.SetBodyRaw(p.b)
	return !p.broken
}

// readHandedAnswer makes another node's answer this one's.
func readHandedAnswer(raw []byte, response *fasthttp.Response, body *[]byte) bool {
	p := pieces{b: raw}
	if p.u8() != handedVersion {
		return false
	}
	status := p.u16()
	response.SetStatusCode(status)
	p.headers(response.Header.SetBytesKV)
	*body = append((*body)[:0], p.b...)
	return !p.broken
}
