package payment

import (
	"os"
	"strings"
	"testing"
)

// rows reads a file of fields separated by blanks; '#' begins a comment line.
func rows(t *testing.T, path string) [][]string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all [][]string
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 0 && fields[0] != "#" {
			all = append(all, fields)
		}
	}
	return all
}

// Every state × every event, against the table in testdata. A pair without a
// row, or with two, fails; so does a row of an unknown name.
func TestLifecycle(t *testing.T) {
	want := map[[2]string]string{}
	for _, row := range rows(t, "testdata/lifecycle.txt") {
		if len(row) != 3 {
			t.Fatalf("%q: want state, event, state", row)
		}
		pair := [2]string{row[0], row[1]}
		if _, twice := want[pair]; twice {
			t.Errorf("two rows for %s, %s", row[0], row[1])
		}
		want[pair] = row[2]
	}
	for s := range State(States) {
		for e := range Event(Events) {
			pair := [2]string{s.String(), e.String()}
			expected, found := want[pair]
			delete(want, pair)
			if !found {
				t.Errorf("no row for %s, %s", s, e)
				continue
			}
			next, ok := Step(s, e)
			got := next.String()
			if !ok {
				got = "-"
			}
			if got != expected {
				t.Errorf("%s, %s: %s, want %s", s, e, got, expected)
			}
		}
	}
	for pair := range want {
		t.Errorf("row for %s, %s, which do not exist", pair[0], pair[1])
	}
}

func TestStepOutOfRange(t *testing.T) {
	for _, c := range []struct {
		s State
		e Event
	}{{StateOpen, Event(Events)}, {State(States), EventOpened}, {255, 255}, {refused, EventApproved}} {
		if next, ok := Step(c.s, c.e); ok || next == StateOpen && c.s != StateOpen {
			t.Errorf("%d, %d: %v", c.s, c.e, next)
		}
	}
}

// What the rules of the trade say about every path, whatever the table says
// row by row.
func TestLifecycleRules(t *testing.T) {
	reached := map[State]bool{StateNone: true}
	for grew := true; grew; {
		grew = false
		for s := range State(States) {
			for e := range Event(Events) {
				next, ok := Step(s, e)
				if !ok || !reached[s] {
					continue
				}
				if !reached[next] {
					reached[next], grew = true, true
				}
				if next == StateApproved && s != StateOpen && s != StateApproved {
					t.Errorf("%s, %s: approved after the outcome was decided", s, e)
				}
				if next == StateOpen && s != StateNone && s != StateOpen && s != StateNotSent {
					t.Errorf("%s, %s: open again", s, e)
				}
				if next == StateReversed && e != EventReversalAcknowledged && e != EventOriginalNotFound && s != StateReversed {
					t.Errorf("%s, %s: a reversal ended without an acknowledgement", s, e)
				}
				if e == EventLateApproval && s != StateApproved && s != StateVerified && next != StateReversing { // nothing is held by a verification
					t.Errorf("%s, %s: the acquirer holds money and nothing reverses it", s, e)
				}
				if s == StateReversing && next != StateReversing && next != StateReversed && next != StateException {
					t.Errorf("%s, %s: a reversal is forgotten", s, e)
				}
			}
		}
	}
	for s := range State(States) {
		if !reached[s] {
			t.Errorf("%s is never reached", s)
		}
	}
}
