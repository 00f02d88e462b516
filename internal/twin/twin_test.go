//go:debug randseednop=0

// Package twin shows that security codes and PIN blocks leave no trace: the same run, with
// injected clock and randomness, repeated with other codes, leaves the same
// bytes on disk, in logs, in ledgers and in metrics. Three digits cannot be
// searched for; two runs can be compared.
//
// It holds only tests. What it runs is the node as cmd puts it together —
// store, vault, links, switch, outbox, and simulators at the other end — below
// the HTTP door, which writes nothing.
package twin_test

import (
	"bytes"
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
	"authswitch/iso8583"
	"authswitch/payment"
)

// wallet is what the run's cardholders type.
type wallet [4]struct{ number, code, pin string } // pin: the eight bytes of an encrypted block

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

	first := wallet{{"4970100000000154", "937", "pinpin01"}, {"4111111111111111", "618", "pinpin02"}, {"5555555555554444", "274", "pinpin03"}, {"378282246310005", "5093", "pinpin04"}}
	codes := wallet{{"4970100000000154", "000", "other-01"}, {"4111111111111111", "999", "other-02"}, {"5555555555554444", "731", "other-03"}, {"378282246310005", "1234", "other-04"}}
	var left evidence
	var differences []string
	for range attempts {
		left = observe(t, first)
		if differences = compare(left, observe(t, codes)); len(differences) == 0 || t.Failed() {
			break
		}
	}
	for _, difference := range differences {
		t.Errorf("other codes: %s", difference)
	}

	// Where nothing could differ, nothing would be shown.
	number := first
	number[1].number = "4012888888881881"
	differing := strings.Join(compare(left, observe(t, number)), "\n")
	for _, place := range []string{"data/log/", "data/state/", "visa-a.jsonl"} {
		if !strings.Contains(differing, place) {
			t.Errorf("another card number leaves no trace in %s:\n%s", place, differing)
		}
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
func observe(t *testing.T, cards wallet) evidence {
	t.Helper()
	dir := t.TempDir()
	left := evidence{}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir)
		n := w.start(1)
		n.traffic(cards, "first")
		n.end()
		n = w.start(2)
		n.repeats(cards, "first")
		n.traffic(cards, "second")
		n.end()
		w.end()
		w.collect(left)
	})
	return left
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
			n.present(cards, i, amount, name)
		}
		c := payment.Cancellation{
			Merchant: "parcels", Gateway: "g1", RequestKey: fmt.Appendf(nil, "undo-%s-%d", name, i), Key: key(name, i, 1000), Reason: payment.ReversalCustomer,
		}
		if _, err := n.core.Reverse(&c); err != nil {
			n.t.Error(err)
		}
		n.settle()
	}
}

// atCounter are amounts of payments with a PIN: approved, declined, unanswered.
var atCounter = []int64{1100, 1155, 1168}

// present asks for a payment at a counter, with a PIN block.
func (n *node) present(cards wallet, i int, amount int64, name string) {
	a := payment.Authorization{
		Gateway: "g1", Merchant: "parcels", Key: key(name+"-counter", i, amount), Reference: []byte("TILL-1"),
		Amount: payment.Amount{Value: amount, Currency: 978}, Channel: payment.CardPresent, Entry: payment.ChipRead,
		PIN:        payment.PIN{Format: payment.PINFormat0, Zone: "terminals"},
		ReceivedAt: wallClock(), Deadline: wallClock() + payment.Instant(8*time.Second),
	}
	var errs [3]error
	a.Card.PAN, errs[0] = card.ParsePAN([]byte(cards[i].number))
	a.Card.Expiry, errs[1] = card.ParseExpiry([]byte("3012"))
	a.PIN.Block, errs[2] = card.NewPINBlock([]byte(cards[i].pin))
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
	a.Card.Wipe()
	a.PIN.Wipe()
	n.settle()
}

// module stands for the security module: another key makes another block of it.
type module struct{}

func (module) TranslatePIN(a *payment.Authorization, _ payment.Instant) error {
	a.Card.PIN.Wipe()
	if !a.PIN.Present() {
		return nil
	}
	var block [8]byte
	for i, b := range a.PIN.Block.RevealPINBlock() {
		block[i] = b ^ 0x5A
	}
	var err error
	a.Card.PIN, err = card.NewPINBlock(block[:])
	return err
}

func (module) Protect(iso8583.MTI, []byte, payment.Instant) error { return nil }
func (module) PINAnswered(*payment.Response)                      {}

// repeats asks again what was asked before, with the same bodies.
func (n *node) repeats(cards wallet, name string) {
	for i := range cards {
		n.authorize(cards, i, 1000, name)
		n.authorize(cards, i, 1068, name)
	}
}

func key(name string, i int, amount int64) []byte {
	return fmt.Appendf(nil, "%s-%d-%d", name, i, amount)
}

func (n *node) authorize(cards wallet, i int, amount int64, name string) {
	a := payment.Authorization{
		Gateway: "g1", Merchant: "parcels", Key: key(name, i, amount), Reference: []byte("ORDER-42"),
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
