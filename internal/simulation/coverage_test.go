package simulation_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"authswitch/journal"
	"authswitch/payment"
)

// coverage counts which commands a run committed, and which states it entered.
type coverage struct {
	kinds      [256]int
	payments   [payment.States]int
	operations map[string]int // kind by means: state
	batches    [2][8]int      // of files and of uploads
	blocked    int            // stored cards
}

func (v *coverage) operation(o *payment.Operation) {
	if v.operations == nil {
		v.operations = map[string]int{}
	}
	kind := o.Kind.String()
	if o.Kind == payment.OpRefund && o.Parent.IsZero() {
		kind = "credit"
	}
	v.operations[kind+" by "+o.Means.String()+": "+o.State.String()]++
}

func (v *coverage) add(x *coverage) {
	for i, n := range x.kinds {
		v.kinds[i] += n
	}
	for i, n := range x.payments {
		v.payments[i] += n
	}
	if v.operations == nil {
		v.operations = map[string]int{}
	}
	for name, n := range x.operations {
		v.operations[name] += n
	}
	for i := range x.batches {
		for s, n := range x.batches[i] {
			v.batches[i][s] += n
		}
	}
	v.blocked += x.blocked
}

// all is what there is to enter, with how often it was.
func (v *coverage) all() map[string]int {
	all := map[string]int{"stored card: blocked": v.blocked}
	for k := range v.kinds {
		if name := journal.Kind(k).String(); name != "unknown" {
			all["command "+name] = v.kinds[k]
		}
	}
	for s := payment.StateOpen; int(s) < payment.States; s++ {
		all["payment "+s.String()] = v.payments[s]
	}
	maps.Copy(all, v.operations)
	for s := payment.ClearingClosed; s <= payment.ClearingUnbalanced; s++ {
		if s != payment.ClearingUploaded && s != payment.ClearingUnbalanced {
			all["file "+s.String()] = v.batches[0][s]
		}
		if s != payment.ClearingWritten {
			all["upload "+s.String()] = v.batches[1][s]
		}
	}
	return all
}

// elsewhere are the commands that no seed enters, and where they are run instead:
// the cluster's own, which need the store; configuration, which moves no money.
var elsewhere = map[string]string{
	"command card-reseal": "journal, vault", "command merchant": "journal, cmd/authswitch", "command person": "journal, people",
	"command key-put": "zone", "command key-advance": "zone", "command key-rewrap": "zone", "command key-sweep": "zone", "command key-mark": "zone",
	"command forget-node": "store", "command release": "store", "command marks": "store", "command share": "store/bubble",
	"command forget": "journal: TestMetamorphic", "command batch-sweep": "journal",
}

// rare may be missing in the few seeds of TestCoverage: a person decides, a node
// dies between a correction and its charge.
var rare = []string{
	"command write-off", "command abandon", "payment exception", "payment written_off", "payment not_sent", "upload out_of_balance", "stored card: blocked",
}

// wanted are operations that must have been in these states.
var wanted = []string{
	"capture by advice: done", "capture by file: owed", "capture by file: done", "capture by file: withdrawn", "capture by online: done", "capture by sale: done",
	"capture by upload: owed", "capture by upload: waiting", "capture by upload: done", "capture by upload: withdrawn", "capture by advice: undone",
	"refund by advice: done", "refund by online: done", "refund by online: reversing", "refund by online: declined", "refund by online: waiting", "refund by file: done", "refund by upload: done",
	"credit by online: done", "credit by online: reversing", "credit by online: declined",
	"increment by online: done", "release by reversal: done", "void by reversal: done", "correction by payment: done", "correction by none: done",
}

// TestCoverage counts what a few seeds enter: each command and state, but those
// that others run and those that are rare. With -v it prints them all.
func TestCoverage(t *testing.T) {
	from, count := uint64(1), uint64(80)
	var v coverage
	for seed := from; seed < from+count; seed++ {
		w := newWorld(seed, false)
		if broken := w.live(); len(broken) > 0 {
			report(t, seed, w, broken)
			return
		}
		v.add(&w.check.cover)
	}
	all := v.all()
	for _, name := range wanted {
		all[name] += 0
	}
	var names, never []string
	for name, n := range all {
		names = append(names, fmt.Sprintf("%8d  %s", n, name))
		switch _, other := elsewhere[name]; {
		case n > 0 && other:
			t.Errorf("%s is entered: take it out of the list of those that are not", name)
		case n == 0 && !other && !slices.Contains(rare, name):
			t.Errorf("no seed of %d to %d enters %s", from, from+count-1, name)
		case n == 0:
			never = append(never, name+" ("+elsewhere[name]+")")
		}
	}
	slices.Sort(names)
	slices.Sort(never)
	t.Logf("seeds %d to %d:\n%s\nnever: %s", from, from+count-1, strings.Join(names, "\n"), strings.Join(never, ", "))
}
