package sim

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/valyala/fastjson"
)

// book is what the host remembers: every request it decided and every advice
// it took, in memory, rebuilt from the ledger at start. Nothing in it has a
// pointer, so that millions of decisions cost the garbage collector nothing.
type book struct {
	max      int
	remember bool              // a reversal that came first bars its original
	parties  map[string]uint32 // acquirer and terminal
	requests map[requestKey]request
	advices  map[adviceKey]advice
	payments map[paymentKey]requestKey // the approved request that an increment adds to
	releases map[release]struct{}      // the partial reversals that were taken
	uploads  map[uploadKey]totals      // what batch uploads come to
}

// requestKey is what DE 90 (or 56) says of an original, with DE 41.
type requestKey struct {
	when  uint64 // DE 7, or DE 12 where DE 56 names the original
	stan  uint64
	party uint32
	mti   uint16 // without the repeat bit
}

// request is one that was decided.
type request struct {
	amount      int64  // approved and not undone
	transmitted uint32 // DE 7
	decision    decision
	code        uint8 // index of its 1987 code
	tries       uint8 // reversals that were put off
	adds        bool  // an increment: its amount is in to's, too
	to          requestKey
}

// paymentKey is what the requests of one payment share.
type paymentKey struct {
	rrn   [12]byte
	party uint32
}

// advice is one that was taken.
type advice struct {
	amount      int64  // not undone
	transmitted uint32 // DE 7 of the transmission that was taken
	undone      bool
}

// adviceKey says that an advice is a repeat: its DE 7 changes, its STAN and
// RRN do not.
type adviceKey struct {
	rrn   [12]byte
	stan  uint64
	party uint32
	mti   uint16
}

func newBook(most int, remember bool) *book {
	return &book{max: most, remember: remember, parties: map[string]uint32{}, requests: map[requestKey]request{}, advices: map[adviceKey]advice{}, payments: map[paymentKey]requestKey{}, releases: map[release]struct{}{}, uploads: map[uploadKey]totals{}}
}

func (b *book) full() bool { return len(b.requests)+len(b.advices) >= b.max }

// maxParties bounds the acquirers and terminals told apart; all beyond share a
// number, as if they were one terminal.
const maxParties = 1 << 20

// party gives acquirer and terminal a number.
func (b *book) party(acquirer, terminal []byte) uint32 {
	var room [64]byte
	name := append(append(append(room[:0], acquirer...), 0), terminal...)
	n, ok := b.parties[string(name)]
	if !ok {
		n = uint32(len(b.parties))
		if n >= maxParties {
			return maxParties
		}
		b.parties[string(name)] = n
	}
	return n
}

// mtiNumber is a message type without its repeat bit, as BCD.
func mtiNumber(mti [4]byte) uint16 {
	var n uint16
	for _, c := range mti {
		n = n<<4 | uint16(c-'0')
	}
	return n &^ 1
}

func adviceOf(m *message, party uint32) adviceKey {
	k := adviceKey{party: party, mti: mtiNumber(m.mti)}
	copy(k.rrn[:], m.values[37])
	k.stan, _ = number(m.values[11])
	return k
}

// grant remembers an approved request. One under the reference number of an
// earlier one adds to it.
func (b *book) grant(k requestKey, q request, rrn []byte) {
	p := paymentKey{party: k.party}
	if copy(p.rrn[:], rrn) == len(p.rrn) {
		to, ok := b.payments[p]
		if first := b.requests[to]; ok && to != k && first.decision == approved && first.amount > 0 {
			first.amount += q.amount
			b.requests[to] = first
			q.adds, q.to = true, to
		} else {
			b.payments[p] = k
		}
	}
	b.requests[k] = q
}

// lower takes a part of a request's amount back, or all of it, and from the
// payment that it adds to.
func (b *book) lower(k requestKey, by int64) {
	q := b.requests[k]
	if q.adds {
		if first, ok := b.requests[q.to]; ok {
			first.amount -= min(by, first.amount)
			b.requests[q.to] = first
		}
	}
	if q.amount -= by; q.amount <= 0 {
		q.amount, q.decision = 0, reversed
	}
	b.requests[k] = q
}

// release names a partial reversal that was taken, so that one which comes again
// from a slow line, when something was added since, takes nothing more. Its DE 7
// names nothing: it is that of a transmission, and of the clock of the node that
// transmits.
type release struct {
	of   requestKey
	stan uint64
	left int64 // tells two apart where a reversal has its original's STAN
}

// maxLine bounds a line of a ledger; ours have some 400 bytes.
const maxLine = 64 << 10

// replayLines gives each whole line and says where the last one ends.
func replayLines(f *os.File, replay func(line []byte) error) (int64, error) {
	r := bufio.NewReaderSize(f, maxLine)
	var end int64
	for n := 1; ; n++ {
		text, err := r.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return end, nil // what is left has no newline: its answer never left
		}
		if err != nil {
			return 0, fmt.Errorf("line %d: %w", n, err)
		}
		if err := replay(text[:len(text)-1]); err != nil {
			return 0, fmt.Errorf("line %d: %w", n, err)
		}
		end += int64(len(text))
	}
}

// errLine is a ledger line that is not ours.
var errLine = errors.New("not a ledger line")

// replayer rebuilds a book from ledger lines.
type replayer struct {
	book    *book
	profile *profile
	parser  fastjson.Parser
}

func (r *replayer) line(text []byte) error {
	v, err := r.parser.ParseBytes(text)
	if err != nil {
		return fmt.Errorf("%w: %w", errLine, err)
	}
	what := undecided
	said := v.GetStringBytes("decision")
	for d, name := range decisionNames {
		if name != "" && name == string(said) {
			what = decision(d)
		}
	}
	var mti [4]byte
	if copy(mti[:], v.GetStringBytes("mti")) != 4 || what == undecided {
		return errLine
	}
	if what == reconciled {
		return nil
	}
	party := r.book.party(v.GetStringBytes("acquirer"), v.GetStringBytes("terminal"))
	stan, _ := number(v.GetStringBytes("stan"))
	transmitted, _ := number(v.GetStringBytes("transmitted"))
	when := transmitted
	if local := v.GetStringBytes("local"); len(local) > 0 {
		when, _ = number(local)
	}
	if mti[2] == '2' && what != reversed && what != unknownOriginal {
		k := adviceKey{stan: stan, party: party, mti: mtiNumber(mti)}
		copy(k.rrn[:], v.GetStringBytes("rrn"))
		r.book.advices[k] = advice{amount: v.GetInt64("amount"), transmitted: uint32(transmitted)}
		if batch := v.GetStringBytes("batch"); len(batch) > 0 {
			u := uploadKey{party: party}
			copy(u.batch[:], batch)
			copy(u.currency[:], v.GetStringBytes("currency"))
			r.book.upload(u, what, v.GetInt64("amount"))
		}
		return nil
	}
	if what == reversed || what == unknownOriginal {
		return r.undo(v, what)
	}
	k := requestKey{when: when, stan: stan, party: party, mti: mtiNumber(mti)}
	code := r.profile.index(v.GetStringBytes("response_code"))
	if before, ok := r.book.requests[k]; ok && before.decision != declined {
		return nil // a duplicate that was refused: the first decision stands
	}
	q := request{transmitted: uint32(transmitted), decision: what, code: code}
	if what == approved || what == refunded || what == captured {
		q.amount = v.GetInt64("amount")
	}
	if what == approved {
		r.book.grant(k, q, v.GetStringBytes("rrn"))
		return nil
	}
	r.book.requests[k] = q
	return nil
}

// undo replays a reversal. The original's terminal is the reversal's; its
// acquirer is what DE 90 said.
func (r *replayer) undo(v *fastjson.Value, what decision) error {
	o := v.Get("original")
	var mti [4]byte
	if copy(mti[:], o.GetStringBytes("mti")) != 4 {
		return errLine
	}
	k := requestKey{party: r.book.party(o.GetStringBytes("acquirer"), v.GetStringBytes("terminal")), mti: mtiNumber(mti)}
	k.stan, _ = number(o.GetStringBytes("stan"))
	k.when, _ = number(o.GetStringBytes("transmitted"))
	if local := o.GetStringBytes("local"); len(local) > 0 {
		k.when, _ = number(local)
	}
	if what == reversed && mti[2] == '2' {
		a := adviceKey{stan: k.stan, party: k.party, mti: k.mti}
		copy(a.rrn[:], v.GetStringBytes("rrn"))
		if taken, ok := r.book.advices[a]; ok {
			taken.amount, taken.undone = 0, true
			r.book.advices[a] = taken
		}
		return nil
	}
	_, ok := r.book.requests[k]
	switch {
	case what == unknownOriginal && !ok:
		if r.book.remember {
			r.book.requests[k] = request{decision: unknownOriginal}
		}
	case what == reversed && ok:
		r.book.lower(k, v.GetInt64("amount"))
		if left := r.book.requests[k].amount; left > 0 {
			stan, _ := number(v.GetStringBytes("stan"))
			r.book.releases[release{k, stan, left}] = struct{}{}
		}
	}
	return nil
}
