package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Fault is one line of a scenario's script. It fires at the n-th message of its
// kind, or with a probability, or for an amount, or, with none of these, always.
type Fault struct {
	Fault       string        `yaml:"fault"`
	On          string        `yaml:"on,omitempty"`          // request, reversal, advice, sign_on, key_exchange; has a default per fault
	At          int           `yaml:"at,omitempty"`          // counted from 1
	Probability float64       `yaml:"probability,omitempty"` // 0 to 1
	Amount      int64         `yaml:"amount,omitempty"`      // minor units
	Times       int           `yaml:"times,omitempty"`       // at most; default 1 with at, else no end
	Code        string        `yaml:"code,omitempty"`        // of answer: a 1987 code
	For         time.Duration `yaml:"for,omitempty"`         // of slow_reader; default 1 s
}

// kind is what sort of message a fault waits for.
type kind uint8

// The kinds.
const (
	onRequest kind = iota
	onReversal
	onAdvice
	onSignOn
	onKeyExchange
	kinds
)

// kindNames are the words of scenarios, read-only.
var kindNames = [kinds]string{"request", "reversal", "advice", "sign_on", "key_exchange"}

// Faults that are no delivery.
const (
	faultAnswer       = "answer"         // with code: a decline, or the answer to a reversal
	faultForget       = "forget"         // a reversal gets "original unknown", though the original is known
	faultLose         = "lose_answer"    // done and recorded, never answered
	faultRefuseSignOn = "refuse_sign_on" // 0810 with a refusal
	faultNo0810       = "no_0810"        // a sign-on gets no answer
	faultSignOff      = "sign_off"       // the host signs off after this message
	faultSlowReader   = "slow_reader"    // the host stops reading for a while after this message
	faultClose        = "close"          // the connection ends before anything is decided
)

// defaultKinds say what a fault waits for when `on` is left out; deliveries
// wait for requests. Read-only.
var defaultKinds = map[string]kind{
	faultAnswer: onRequest, faultForget: onReversal, faultLose: onReversal, faultRefuseSignOn: onSignOn, faultNo0810: onSignOn,
	faultSignOff: onRequest, faultSlowReader: onRequest, faultClose: onRequest,
}

func (f *Fault) kind() (kind, bool) {
	if f.On == "" {
		return defaultKinds[f.Fault], true
	}
	i := slices.Index(kindNames[:], f.On)
	return kind(max(i, 0)), i >= 0
}

func (f *Fault) validate() []error {
	var faults []error
	_, special := defaultKinds[f.Fault]
	_, delivered := deliveryNamed(f.Fault)
	if !special && !delivered {
		faults = append(faults, fmt.Errorf("fault %q is not known", f.Fault))
	}
	k, ok := f.kind()
	if !ok {
		faults = append(faults, fmt.Errorf("on: %q is none of %v", f.On, kindNames))
	}
	switch f.Fault {
	case faultRefuseSignOn:
		if k != onSignOn {
			faults = append(faults, fmt.Errorf("%s is a fault of sign_on", f.Fault))
		}
	case faultNo0810:
		if k != onSignOn && k != onKeyExchange {
			faults = append(faults, fmt.Errorf("%s is a fault of sign_on and key_exchange", f.Fault))
		}
	case faultForget:
		if k != onReversal {
			faults = append(faults, fmt.Errorf("%s is a fault of reversal", f.Fault))
		}
	case deliveryNames[deliverAfterReversal]:
		if k != onRequest {
			faults = append(faults, fmt.Errorf("%s is a fault of request", f.Fault))
		}
	default:
		if k == onSignOn || k == onKeyExchange && f.Fault != faultAnswer && f.Fault != faultLose {
			faults = append(faults, fmt.Errorf("%s is no fault of %s", f.Fault, kindNames[k]))
		}
	}
	given := 0
	for _, g := range []bool{f.At != 0, f.Probability != 0, f.Amount != 0} {
		if g {
			given++
		}
	}
	if given > 1 {
		faults = append(faults, errors.New("at, probability and amount exclude each other"))
	}
	if f.At < 0 || f.Times < 0 || f.Amount < 0 || f.For < 0 || f.Probability < 0 || f.Probability > 1 {
		faults = append(faults, errors.New("a number is out of range"))
	}
	if f.Fault == faultAnswer && !known87(f.Code) {
		faults = append(faults, fmt.Errorf("answer: code %q is no code that a simulator gives", f.Code))
	}
	if f.Fault != faultAnswer && f.Code != "" {
		faults = append(faults, fmt.Errorf("%s has no code", f.Fault))
	}
	return faults
}

// script is the faults at work: how many messages of each kind came, how often
// each fault fired. The host's lock guards it.
type script struct {
	faults []scripted
	seen   [kinds]int
	random *rand.Rand
}

type scripted struct {
	Fault
	kind  kind
	fired int
}

// cue is what the script says about one message.
type cue struct {
	fault *Fault // the first that fired, nil: none
	// These go along with an ordinary answer.
	signOff bool
	pause   time.Duration
}

func newScript(faults []Fault, random *rand.Rand) script {
	s := script{random: random}
	for _, f := range faults {
		k, _ := f.kind() // Validate has checked it.
		if f.Times == 0 && f.At != 0 {
			f.Times = 1
		}
		if f.For == 0 {
			f.For = time.Second
		}
		s.faults = append(s.faults, scripted{Fault: f, kind: k})
	}
	return s
}

// next counts a message and says what happens to it.
func (s *script) next(k kind, amount int64) cue {
	s.seen[k]++
	var c cue
	for i := range s.faults {
		f := &s.faults[i]
		if f.kind != k || !s.fires(f, s.seen[k], amount) {
			continue
		}
		f.fired++
		switch f.Fault.Fault {
		case faultSignOff:
			c.signOff = true
		case faultSlowReader:
			c.pause = f.For
		default:
			if c.fault == nil {
				c.fault = &f.Fault
			}
		}
	}
	return c
}

func (s *script) fires(f *scripted, n int, amount int64) bool {
	if f.Times > 0 && f.fired >= f.Times {
		return false
	}
	switch {
	case f.At > 0:
		return n >= f.At
	case f.Probability > 0:
		return s.random.Float64() < f.Probability
	case f.Amount > 0:
		return amount == f.Amount
	}
	return true
}
