package link

import (
	"context"
	"errors"
	"sync"
	"time"

	"authswitch/iso8583"
	"authswitch/payment"
)

// Guard is what a link with MACs asks of the keys it shares with its peer.
type Guard interface {
	// Check verifies the MAC of a frame: payment.ErrBadMAC when it does not hold,
	// payment.ErrSecurity when nobody can say.
	Check(frame []byte, by payment.Instant) error
	// Protect writes the MAC into a frame of ours, where its type has one.
	Protect(mti iso8583.MTI, frame []byte, by payment.Instant) error
	// MACKey changes when another MAC key becomes active.
	MACKey() uint32
}

// checkers verify at once so many frames of a link. Each waits for the security
// module, which takes them together; the reader goes on reading meanwhile.
const checkers = 32

// A frame that nobody can verify now is tried again after a pause, until its
// request would be given up in any case.
const (
	checkPause = 20 * time.Millisecond
	checkFor   = 2 * time.Second
)

// badInRow is how many bad MACs in a row end new work on a link.
const badInRow = 5

// unverified is a frame that is believed only when its MAC holds.
type unverified struct {
	connection *connection
	message    iso8583.Message
	fault      error // of its decoding
}

// verifier hands frames to the checkers. It is the reader's way around waiting
// for the security module; what is not verified touches nothing.
type verifier struct {
	link   *Link
	frames chan *unverified
	pool   sync.Pool
}

func newVerifier(l *Link) *verifier {
	v := &verifier{link: l, frames: make(chan *unverified, checkers)}
	v.pool.New = func() any { return new(unverified) }
	return v
}

// run verifies until the context ends; what waits then is forgotten, as if it
// had never arrived.
func (v *verifier) run(ctx context.Context) {
	var all sync.WaitGroup
	for range checkers {
		all.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case u := <-v.frames:
					v.verify(ctx, u)
				}
			}
		})
	}
	all.Wait()
}

// put takes a message out of the reader's hands. With all checkers busy and the
// queue full the reader waits: the peer feels it, and nothing is lost.
func (v *verifier) put(c *connection, m *iso8583.Message, fault error) {
	u := v.pool.Get().(*unverified)
	u.connection, u.fault = c, fault
	u.message.Swap(m)
	select {
	case v.frames <- u:
	case <-v.link.ending:
		v.give(u)
	}
}

func (v *verifier) give(u *unverified) {
	u.message.Wipe()
	u.connection, u.fault = nil, nil
	v.pool.Put(u)
}

// verify lets a frame in, or drops it: then its request goes on waiting.
func (v *verifier) verify(ctx context.Context, u *unverified) {
	defer v.give(u)
	l := v.link
	until := l.deps.Now() + payment.Instant(checkFor)
	for {
		err := l.deps.Guard.Check(u.message.Frame(), until)
		switch {
		case err == nil:
			l.mu.Lock()
			l.core.trust()
			l.mu.Unlock()
			u.connection.believe(kindOf(&u.message, u.fault), &u.message, u.fault)
			return
		case errors.Is(err, payment.ErrBadMAC):
			l.do(func(moment) { l.core.distrust(u.connection.station) })
			return
		case l.deps.Now() >= until || ctx.Err() != nil:
			l.mu.Lock()
			l.core.counters.Unverified++
			l.mu.Unlock()
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(checkPause):
		}
	}
}

// distrust counts a frame whose MAC does not hold. It decides nothing, not even
// that the peer is there.
func (c *core) distrust(st *station) {
	c.counters.BadMACs++
	if c.badMACs++; c.badMACs != badInRow {
		return
	}
	c.distrusted, c.distrustedKey = true, c.macKey()
	c.orders = append(c.orders,
		order{st.index, effect{kind: effectAlarm, reason: "five bad MACs in a row: no new work"}},
		order{st.index, effect{kind: effectKeys}})
}

// trust ends a row of bad MACs: one that holds shows that the keys agree.
func (c *core) trust() { c.badMACs, c.distrusted = 0, false }

// suspicious says whether new work must wait for keys that agree: another key,
// or an answer with a MAC that holds. Reversals go on, and bring such an answer.
func (c *core) suspicious() bool {
	if c.distrusted && c.macKey() != c.distrustedKey {
		c.trust()
	}
	return c.distrusted
}
