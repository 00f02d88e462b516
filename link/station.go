package link

import "authswitch/payment"

// station is one connection as the core sees it: its machine, what waits to be
// written, and how much of its window is used.
type station struct {
	index    int32
	life     uint32 // counts the sockets it has had
	machine  machine
	inFlight int
	owed     int

	// out is appended to by whoever sends, under the link's lock, and taken
	// whole by one writer, so that a burst is one write. spare is the buffer the
	// writer gave back.
	out, spare []byte
	segments   []segment
	writing    bool // the writer is awake and will take what is appended

	echoRTT    moment
	echoes     uint64                         // that were answered
	asked      [networkFunctions]payment.STAN // trace number of our last 0800, 0 when answered
	heartbeats struct {
		ours     bool   // one of ours is not echoed yet
		answered moment // when the last one of theirs was echoed
	}
	lastError string
}

// networkFunctions is how many network functions there are.
const networkFunctions = int(payment.TargetDown) + 1

// segment is one frame of the outgoing buffer.
type segment struct {
	from  int
	place int32 // noPlace: not a request
	dead  bool  // taken out again: it must not leave
}

// accepting says whether new work may be given to this connection.
func (s *station) accepting() bool { return s.machine.state == Ready }

// busy says whether anything waits for an answer here.
func (s *station) busy() bool { return s.inFlight+s.owed > 0 }

// push notes that a frame was appended to out from an offset on.
func (s *station) push(from int, p int32) int32 {
	s.segments = append(s.segments, segment{from: from, place: p})
	return int32(len(s.segments) - 1)
}

// queue puts a frame behind what waits to be written.
func (s *station) queue(f *framer, frame []byte, p int32) int32 {
	s.room(len(frame) + f.overhead())
	from := len(s.out)
	s.out = f.append(s.out, frame)
	return s.push(from, p)
}

// beat puts a frame of length zero there.
func (s *station) beat(f *framer) {
	s.room(f.overhead())
	s.push(len(s.out), noPlace)
	s.out = f.appendHeartbeat(s.out)
}

// room makes place for n more bytes in the outgoing buffer. What it moves away
// from is wiped: it held card numbers.
func (s *station) room(n int) {
	if cap(s.out)-len(s.out) >= n {
		return
	}
	larger := make([]byte, len(s.out), 2*cap(s.out)+n+leastBuffer)
	copy(larger, s.out)
	clear(s.out[:cap(s.out)])
	s.out = larger
}

// leastBuffer is where an outgoing buffer begins.
const leastBuffer = 4 << 10

// compact closes the gaps that dead segments leave, and wipes the tail.
func (s *station) compact() {
	kept, to := 0, 0
	for i := range s.segments {
		end := len(s.out)
		if i+1 < len(s.segments) {
			end = s.segments[i+1].from
		}
		seg := s.segments[i]
		if seg.dead {
			continue
		}
		n := copy(s.out[to:], s.out[seg.from:end])
		seg.from = to
		s.segments[kept] = seg
		kept, to = kept+1, to+n
	}
	clear(s.out[to:])
	s.out, s.segments = s.out[:to], s.segments[:kept]
}

// discard empties the outgoing buffer: nothing in it will ever leave.
func (s *station) discard() {
	clear(s.out)
	s.out, s.segments = s.out[:0], s.segments[:0]
}

// giveBack returns a written buffer, wiped: it held card numbers.
func (s *station) giveBack(b []byte) {
	clear(b)
	if cap(b) <= maxKeptBuffer {
		s.spare = b[:0]
	}
}

// maxKeptBuffer is the largest outgoing buffer kept for the next burst.
const maxKeptBuffer = 1 << 20
