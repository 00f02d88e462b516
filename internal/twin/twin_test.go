//go:debug randseednop=0

// Package twin shows that security codes and PINs leave no trace: the same run, with
// injected clock and randomness, repeated with other codes, or with other PINs,
// leaves the same bytes on disk, in logs, in ledgers and in metrics. Three digits
// cannot be searched for; two runs can be compared.
//
// It holds only tests. What it runs is the node as cmd puts it together —
// store, vault, links, switch, outbox, and simulators at the other end — below
// the HTTP door, which writes nothing.
package twin_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"authswitch/card"
	"authswitch/payment"
)

// wallet is what the run's cardholders type.
type wallet [4]struct {
	number, code string
	pin, wrong   string // what is typed at the counter, and what is typed by mistake
}

// evidence is every byte that a run leaves behind, by its place.
type evidence map[string][]byte

// attempts is how often two runs may differ by the scheduler alone, as when a
// loaded machine interrupts one in the middle of Raft's start. A trace of a
// code would be there each time.
const attempts = 5

func TestSecurityCodesLeaveNoTrace(t *testing.T) {
	if raceDetector {
		withoutRaceDetector(t)
		return
	}
	// On one processor goroutines that become ready together run in the same
	// order each time: Raft's draw in turn from one generator.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))

	first := wallet{
		{"4970100000000154", "937", "1234", "0000"}, {"4111111111111111", "618", "8642", "1111"}, {"5555555555554444", "274", "90909", "2222"}, {"378282246310005", "5093", "123456", "3333"},
	}
	for what, other := range map[string]wallet{
		"other codes": {
			{"4970100000000154", "000", "1234", "0000"}, {"4111111111111111", "999", "8642", "1111"}, {"5555555555554444", "731", "90909", "2222"}, {"378282246310005", "1234", "123456", "3333"},
		},
		"other PINs": {
			{"4970100000000154", "937", "9876", "1234"}, {"4111111111111111", "618", "0000", "8642"}, {"5555555555554444", "274", "000000000001", "90909"}, {"378282246310005", "5093", "654321", "4444"},
		},
	} {
		same(t, what, first, other)
	}
	// Where nothing could differ, nothing would be shown.
	number := first
	number[1].number = "4012888888881881"
	left, _ := observe(t, first)
	with, _ := observe(t, number)
	differing := strings.Join(compare(left, with), "\n")
	for _, place := range []string{"data/log/", "data/state/", "visa-a.jsonl"} {
		if !strings.Contains(differing, place) {
			t.Errorf("another card number leaves no trace in %s:\n%s", place, differing)
		}
	}
}

// same lives through both runs, and names what they left that differs.
func same(t *testing.T, what string, first, other wallet) {
	t.Helper()
	var differences []string
	for range attempts {
		left, sent := observe(t, first)
		with, alsoSent := observe(t, other)
		if differences = compare(left, with); len(differences) == 0 || t.Failed() {
			// What left for the acquirers did differ, or nothing was tried.
			if pins := first[0].pin != other[0].pin; len(sent) < 20 || pins == slices.EqualFunc(sent, alsoSent, bytes.Equal) {
				t.Errorf("%s: %d PIN blocks left, the same in both runs: %v", what, len(sent), !pins)
			}
			break
		}
	}
	for _, difference := range differences {
		t.Errorf("%s: %s", what, difference)
	}
}

// withoutRaceDetector runs this test in a program of its own: with the
// detector the scheduler, and Pebble with its own checks on, draw lots.
func withoutRaceDetector(t *testing.T) {
	out, err := exec.Command("go", "test", "-count=1", "-run", "^"+t.Name()+"$", ".").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "ok") {
		t.Errorf("%v\n%s", err, out)
	}
}

// compare names what is not the same in two runs.
func compare(a, b evidence) []string {
	var differences []string
	places := slices.Sorted(maps.Keys(a))
	for place := range b {
		if _, ok := a[place]; !ok {
			differences = append(differences, place+" is only in the second run")
		}
	}
	for _, place := range places {
		other, ok := b[place]
		switch {
		case !ok:
			differences = append(differences, place+" is only in the first run")
		case !bytes.Equal(a[place], other):
			at := 0
			for at < min(len(a[place]), len(other)) && a[place][at] == other[at] {
				at++
			}
			from := max(0, at-40)
			differences = append(differences, fmt.Sprintf("%s, byte %d of %d and %d: %q and %q", place, at, len(a[place]), len(other),
				a[place][from:min(at+40, len(a[place]))], other[from:min(at+40, len(other))]))
		}
	}
	return differences
}

// observe lives through two lives of a node in a bubble and collects what is
// left.
func observe(t *testing.T, cards wallet) (left evidence, sent [][]byte) {
	t.Helper()
	dir, bank := t.TempDir(), t.TempDir()
	left = evidence{}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir, bank, cards)
		n := w.start(1)
		n.traffic(cards, "first")
		n.end()
		n = w.start(2)
		n.repeats(cards, "first")
		n.traffic(cards, "second")
		n.end()
		w.end()
		w.collect(left)
		sent = w.module.sent
	})
	return left, sent
}

// collect takes every byte that is left.
func (w *world) collect(left evidence) {
	left["log"], left["metrics"] = w.log.Bytes(), bytes.Clone(w.metrics.Bytes())
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range entries {
		if left[e.Name()], err = os.ReadFile(w.path(e.Name())); err != nil {
			w.t.Fatal(err)
		}
	}
	w.collectFrom(left, "data")
	if len(left) < 20 || len(left["log"]) == 0 || len(left["metrics"]) < 1000 || len(left["visa-a.jsonl"]) == 0 {
		w.t.Errorf("too little is left: %v", slices.Sorted(maps.Keys(left)))
	}
}

func (w *world) collectFrom(left evidence, path string) {
	info, err := w.fs.Stat(path)
	if err != nil {
		w.t.Fatal(err)
	}
	if info.IsDir() {
		names, err := w.fs.List(path)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, name := range names {
			w.collectFrom(left, w.fs.PathJoin(path, name))
		}
		return
	}
	f, err := w.fs.Open(path)
	if err != nil {
		w.t.Fatal(err)
	}
	b := make([]byte, info.Size())
	if _, err := f.ReadAt(b, 0); err != nil && len(b) > 0 {
		w.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		w.t.Fatal(err)
	}
	left[path] = b
}

// amounts choose what the acquirers do: approve, approve in part, decline, ask
// for authentication, keep silent, answer late, twice, with rubbish, hang up,
// answer with another amount, reject, doubt the security code, lose answers.
var amounts = []int64{1000, 1010, 1051, 1065, 1068, 1069, 1070, 1072, 1074, 1075, 1079, 1082, 1084, 1085}

// traffic asks for one thing after the other, and reverses one approval.
func (n *node) traffic(cards wallet, name string) {
	for i := range cards {
		for _, amount := range amounts {
			n.authorize(cards, i, amount, name)
		}
		for _, amount := range atCounter {
			n.present(cards[i].number, cards[i].pin, amount, keyOf(name+"-counter", i, amount))
		}
		n.present(cards[i].number, cards[i].wrong, mistyped, keyOf(name+"-counter", i, mistyped))
		c := payment.Cancellation{
			Merchant: "parcels", Gateway: "g1", RequestKey: fmt.Appendf(nil, "undo-%s-%d", name, i), Key: keyOf(name, i, 1000), Reason: payment.ReversalCustomer,
		}
		if _, err := n.core.Reverse(&c); err != nil {
			n.t.Error(err)
		}
		n.settle()
	}
}

// atCounter are amounts of payments with a PIN: approved, declined, unanswered.
// The mistyped one would be approved with the right PIN.
var atCounter = []int64{1100, 1155, 1168}

const mistyped = 1200

// present asks for a payment at a counter, with a PIN.
func (n *node) present(number, pin string, amount int64, key []byte) {
	a := payment.Authorization{
		Gateway: "g1", Merchant: "parcels", Key: key, Reference: []byte("TILL-1"),
		Amount: payment.Amount{Value: amount, Currency: 978}, Channel: payment.CardPresent, Entry: payment.ChipRead,
		PIN:        payment.PIN{Format: payment.PINFormat0, Zone: "terminals"},
		ReceivedAt: wallClock(), Deadline: wallClock() + payment.Instant(8*time.Second),
	}
	entered, err := n.terminal.Enter(number, pin)
	if err != nil {
		n.t.Fatal(err)
	}
	block, err := hex.DecodeString(entered.Block)
	if err != nil {
		n.t.Fatal(err)
	}
	var errs [3]error
	a.Card.PAN, errs[0] = card.ParsePAN([]byte(number))
	a.Card.Expiry, errs[1] = card.ParseExpiry([]byte("3012"))
	a.PIN.Block, errs[2] = card.NewPINBlock(block)
	if err := errors.Join(errs[:]...); err != nil {
		n.t.Fatal(err)
	}
	var out payment.Payment
	if err := n.core.Authorize(&a, &out); err != nil {
		n.t.Errorf("%s: %v", a.Key, err)
	}
	if approved := amount == 1100; approved != (out.Outcome.Status == payment.StatusApproved) {
		n.t.Errorf("%s: %v", a.Key, out.Outcome.Status)
	}
	if amount == mistyped && out.Outcome.Response.Verdict.Reason != payment.ReasonWrongPIN {
		n.t.Errorf("%s: a wrong PIN is %v", a.Key, out.Outcome.Response.Verdict.Reason)
	}
	a.Card.Wipe()
	a.PIN.Wipe()
	n.settle()
}

// repeats asks again what was asked before, with the same bodies.
func (n *node) repeats(cards wallet, name string) {
	for i := range cards {
		n.authorize(cards, i, 1000, name)
		n.authorize(cards, i, 1068, name)
	}
}

func keyOf(name string, i int, amount int64) []byte {
	return fmt.Appendf(nil, "%s-%d-%d", name, i, amount)
}

func (n *node) authorize(cards wallet, i int, amount int64, name string) {
	a := payment.Authorization{
		Gateway: "g1", Merchant: "parcels", Key: keyOf(name, i, amount), Reference: []byte("ORDER-42"),
		Amount: payment.Amount{Value: amount, Currency: 978}, Channel: payment.Ecommerce,
		ReceivedAt: wallClock(), Deadline: wallClock() + payment.Instant(8*time.Second),
	}
	var err error
	if a.Card.PAN, err = card.ParsePAN([]byte(cards[i].number)); err != nil {
		n.t.Fatal(err)
	}
	if a.Card.Expiry, err = card.ParseExpiry([]byte("3012")); err != nil {
		n.t.Fatal(err)
	}
	if a.Card.CVV, err = card.ParseCVV([]byte(cards[i].code)); err != nil {
		n.t.Fatal(err)
	}
	var out payment.Payment
	if err := n.core.Authorize(&a, &out); err != nil {
		n.t.Errorf("%s: %v", a.Key, err)
	}
	approved := slices.Contains([]int64{1000, 1070, 1082}, amount)
	if approved != (out.Outcome.Status == payment.StatusApproved) {
		n.t.Errorf("%s: %v", a.Key, out.Outcome.Status)
	}
	a.Card.Wipe()
	n.settle()
}

// settle lets everything that follows from a step happen before the next one:
// late answers, new connections, reversals and their repeats. What happens at
// the same moment happens in whichever order the scheduler likes, and two runs
// would differ by that alone.
func (n *node) settle() {
	for owed := true; owed; {
		time.Sleep(rest)
		synctest.Wait()
		owed = false
		for _, l := range lanes {
			count, _, _ := n.store.Owing(l.name)
			owed = owed || count > 0
		}
	}
}
