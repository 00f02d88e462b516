package main_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// asked is one request as its gateway saw it.
type asked struct {
	key, body string // body is the variant's name
}

// heard is what the gateway got: "" where the connection broke.
type heard struct {
	final    string // status and body of a final answer
	conflict bool   // refused: the key has another body
	untaken  bool   // refused before anything was stored
	said     string // all of it, for people
}

// register is what the switch keeps for a key: the body that took it, and its
// answer once that is final.
type register struct{ body, answer string }

// keyRegister is the promise of the Idempotency-Key: the first body takes the
// key, its answer is given for ever, another body is refused. What a broken
// connection or a non-final answer did is not known: it may have taken the key.
//
// A payment whose intent was durable and of which no byte left gives its key
// back: a stopping node's are closed so, whether its gateway hears of it or not.
// With givesBack a key without an answer may be free again at any time, and who
// was told that nothing was sent may have held it for a while.
func keyRegister(givesBack bool) porcupine.Model {
	step := func(r register, in asked, out heard) []any {
		taken := r.body != ""
		switch {
		case out.conflict:
			if taken && r.body != in.body {
				return []any{r}
			}
		case out.final != "":
			if !taken || r.body == in.body && (r.answer == "" || r.answer == out.final) {
				return []any{register{in.body, out.final}}
			}
		case out.untaken && r.body == in.body && r.answer == "":
			return []any{r, register{}} // its intent was closed as not sent: the key is free again
		case taken, out.untaken && !givesBack:
			return []any{r}
		default:
			return []any{r, register{body: in.body}}
		}
		return nil
	}
	return (&porcupine.NondeterministicModel{
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			byKey := map[string][]porcupine.Operation{}
			for _, o := range history {
				key := o.Input.(asked).key
				byKey[key] = append(byKey[key], o)
			}
			var parts [][]porcupine.Operation
			for _, part := range byKey {
				parts = append(parts, part)
			}
			return parts
		},
		Init: func() []any { return []any{register{}} },
		Step: func(state, input, output any) []any {
			r, in, out := state.(register), input.(asked), output.(heard)
			next := step(r, in, out)
			if givesBack && r.body != "" && r.answer == "" {
				next = append(next, step(register{}, in, out)...)
			}
			return next
		},
	}).ToModel()
}

// gateways ask many keys at once, each with either of two bodies, until they
// have a final answer or a refusal.
type gateways struct {
	d       *instance
	keys    []string
	started time.Time
	mu      sync.Mutex
	history []porcupine.Operation
	broken  int
	answers atomic.Int64
}

// Two hundred gateways share a few keys and disagree about their bodies, and
// the node is killed in the middle: each key has one answer, byte for byte, and
// what everybody saw could have been the work of one register per key.
func TestOneAnswerPerKey(t *testing.T) {
	t.Parallel()
	d := startDev(t)
	const clients, rounds, kills = 200, 5, 2
	g := &gateways{d: d, started: time.Now()}
	for i := range 60 {
		g.keys = append(g.keys, fmt.Sprintf("shared-%02d", i))
	}
	random := rand.New(rand.NewPCG(20260314, 7))
	var all sync.WaitGroup
	for c := range clients {
		order := random.Perm(len(g.keys))[:rounds]
		all.Go(func() {
			for i, k := range order {
				g.settle(t, c, g.keys[k], (c+i)%3 == 0)
			}
		})
	}
	for kill := range kills {
		at := int64(clients*rounds*(kill+1)) / (kills + 2)
		eventually(t, 60*time.Second, "the middle of it", func() bool { return g.answers.Load() >= at })
		pid := d.pid()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, 15*time.Second, "another process", func() bool { return d.pid() != pid && d.ready() })
	}
	all.Wait()
	g.judge(t)

	out, errs, code := run(t, "bench", "verify", "--api", d.info.API, "--key", d.info.Key, "--settle", "40s")
	if code != 0 || !strings.Contains(out, "; 0 open") {
		t.Errorf("verify: exit %d\n%s%s", code, tail(out, 3000), errs)
	}
}

// settle asks one key until the answer is final.
func (g *gateways) settle(t *testing.T, client int, key string, other bool) {
	amount, variant := 1000, "a"
	if strings.HasSuffix(key, "7") {
		amount = 1068 // its first answer takes the acquirer's whole timeout
	}
	if other {
		amount, variant = 1051, "b"
	}
	body := g.d.body(visaCard, amount)
	for deadline := time.Now().Add(60 * time.Second); ; {
		call := time.Since(g.started)
		a, err := g.d.tryAsk(http.MethodPost, "/v1/authorizations", key, body)
		o := porcupine.Operation{ClientId: client, Input: asked{key, variant}, Call: int64(call), Return: int64(time.Since(g.started))}
		out, _ := hear(a, err)
		switch {
		case err != nil:
			o.Return = 1 << 62 // it may take effect whenever it likes
		case out == heard{} && a.status < http.StatusConflict:
			t.Errorf("%s: %d %s", key, a.status, a.body)
		}
		o.Output = out
		g.mu.Lock()
		g.history = append(g.history, o)
		if err != nil {
			g.broken++
		}
		g.mu.Unlock()
		if out.final != "" || out.conflict {
			g.answers.Add(1)
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("%s: no final answer: %d %s %v", key, a.status, a.body, err)
			return
		}
		time.Sleep(50 * time.Millisecond) // a gateway's pause before it asks again
	}
}

// hear is what an answer says of its key, and whether that is its last word.
func hear(a answer, err error) (out heard, last bool) {
	switch {
	case err != nil:
	case a.field("final") == "true":
		out.final = fmt.Sprint(a.status, " ", a.body)
	case a.field("code") == "idempotency_key_reused":
		out.conflict = true
	case a.field("code") == "no_route" || a.field("code") == "overloaded":
		out.untaken = true
	}
	return out, out.final != "" || out.conflict
}

// judge holds the whole history against the promise.
func (g *gateways) judge(t *testing.T) {
	final, conflicts := map[string]string{}, 0
	for _, o := range g.history {
		key, out := o.Input.(asked).key, o.Output.(heard)
		if out.conflict {
			conflicts++
		}
		if out.final == "" {
			continue
		}
		if first, ok := final[key]; ok && first != out.final {
			t.Errorf("%s has two answers:\n%s\n%s", key, first, out.final)
		}
		final[key] = out.final
	}
	if len(final) != len(g.keys) || conflicts == 0 || g.broken == 0 {
		t.Errorf("%d keys answered, %d conflicts, %d broken connections: not what this test is about", len(final), conflicts, g.broken)
	}
	if !porcupine.CheckOperations(keyRegister(false), g.history) {
		t.Error("no order of these requests explains what was answered")
	}
	t.Logf("%d requests, %d conflicts, %d broken", len(g.history), conflicts, g.broken)
}

// The checker itself: each of these histories breaks the promise.
func TestKeyRegisterRefuses(t *testing.T) {
	t.Parallel()
	at := func(call, back int64, body string, out heard) porcupine.Operation {
		return porcupine.Operation{Input: asked{"k", body}, Output: out, Call: call, Return: back}
	}
	yes, no, conflict, lost, unsent := heard{final: "yes"}, heard{final: "no"}, heard{conflict: true}, heard{}, heard{untaken: true}
	const never = int64(1) << 62
	for _, row := range []struct {
		name      string
		holds     bool
		history   []porcupine.Operation
		givesBack bool
	}{
		{"the same answer", true, []porcupine.Operation{at(1, 2, "a", yes), at(3, 4, "a", yes)}, false},
		{"two answers", false, []porcupine.Operation{at(1, 2, "a", yes), at(3, 4, "a", no)}, false},
		{"two bodies answered", false, []porcupine.Operation{at(1, 2, "a", yes), at(3, 4, "b", yes)}, false},
		{"a conflict after it", true, []porcupine.Operation{at(1, 2, "a", yes), at(3, 4, "b", conflict)}, false},
		{"a conflict before anybody", false, []porcupine.Operation{at(1, 2, "b", conflict), at(3, 4, "a", yes)}, false},
		{"a conflict with itself", false, []porcupine.Operation{at(1, 2, "a", yes), at(3, 4, "a", conflict)}, false},
		{"a conflict with one that was lost", true, []porcupine.Operation{at(1, never, "a", lost), at(3, 4, "b", conflict)}, false},
		{"lost, and then not taken", true, []porcupine.Operation{at(1, never, "a", lost), at(3, 4, "b", yes)}, false},
		{"lost, then both", false, []porcupine.Operation{at(1, never, "a", lost), at(3, 4, "b", yes), at(5, 6, "a", yes)}, false},
		{"the conflict that was answered", false, []porcupine.Operation{at(1, 2, "b", conflict), at(1, 9, "a", lost), at(3, 4, "b", yes)}, false},
		{"at once", true, []porcupine.Operation{at(1, 9, "a", yes), at(1, 9, "b", conflict), at(1, 9, "a", yes)}, false},
		{"told that nothing was sent, and a conflict meanwhile", false, []porcupine.Operation{at(1, 9, "a", unsent), at(2, 8, "b", conflict), at(10, 11, "a", yes)}, false},
		{"it held the key for a while", true, []porcupine.Operation{at(1, 9, "a", unsent), at(2, 8, "b", conflict), at(10, 11, "a", yes)}, true},
		{"and another body takes it then", true, []porcupine.Operation{at(1, never, "a", lost), at(2, 3, "b", conflict), at(10, 11, "b", yes)}, true},
		{"an answered key is not given back", false, []porcupine.Operation{at(1, 2, "a", yes), at(3, 4, "b", yes)}, true},
		{"nor has it two answers", false, []porcupine.Operation{at(1, 2, "a", lost), at(3, 4, "a", yes), at(5, 6, "a", no)}, true},
		{"nobody held it", false, []porcupine.Operation{at(1, 2, "b", conflict), at(3, 4, "a", yes)}, true},
		{"a conflict with oneself", false, []porcupine.Operation{at(1, 2, "a", lost), at(3, 4, "a", conflict)}, true},
	} {
		if porcupine.CheckOperations(keyRegister(row.givesBack), slices.Clone(row.history)) != row.holds {
			t.Errorf("%s: judged %v", row.name, !row.holds)
		}
	}
}
