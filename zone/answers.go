package zone

import (
	"sync"
	"time"

	"authswitch/payment"
)

// Of the last twenty PIN answers, five that mean a wrong key, all within a
// minute, stop PIN traffic: the issuer would block cards that have done nothing.
const (
	answersKept   = 20
	troublesStop  = 5
	troubleWindow = payment.Instant(time.Minute)
)

// answers are the last PIN answers of a link. A decider: time comes with them.
type answers struct {
	mu   sync.Mutex
	last [answersKept]pinAnswer
	n    int
}

type pinAnswer struct {
	at      payment.Instant
	trouble bool
}

// note takes one answer and says whether PIN traffic must stop. After a stop it
// begins anew.
func (a *answers) note(at payment.Instant, trouble bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last[a.n%answersKept] = pinAnswer{at, trouble}
	a.n++
	if !trouble {
		return false
	}
	troubles := 0
	for i := range min(a.n, answersKept) {
		if p := a.last[i]; p.trouble && at-p.at <= troubleWindow {
			troubles++
		}
	}
	if troubles < troublesStop {
		return false
	}
	a.last, a.n = [answersKept]pinAnswer{}, 0
	return true
}

// PINAnswered takes the answer to a request that carried a PIN: what the
// dialect calls a key error counts against the key.
func (z *Zone) PINAnswered(r *payment.Response) {
	trouble := r.Verdict.Reason == payment.ReasonKeyError
	if !trouble && r.Verdict.Action == payment.ActionNone {
		return // no answer about the PIN
	}
	if !z.answers.note(z.deps.Now(), trouble) {
		return
	}
	k := z.deps.Ring().ActiveKey(z.cfg.Link, payment.KeyPIN)
	if k == nil {
		return
	}
	z.stopped.Store(uint32(k.ID))
	z.metrics.pinStops.Inc()
	z.deps.Log.Error("PIN traffic stopped: five of the last twenty PIN answers mean a wrong key", "key", k.ID.String())
	if z.deps.Trouble != nil {
		z.deps.Trouble(payment.KeyPIN)
	}
}
