package bench

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// sink is an answers file in memory.
type sink struct{ bytes.Buffer }

func (*sink) Close() error { return nil }

// loaded is a stub after a run with every kind of outcome, and its answers.
func loaded(t *testing.T) (*stub, string) {
	t.Helper()
	s := newStub(t)
	o := options(s)
	o.Duration = 100 * time.Millisecond
	o.Mix = Mix{Declined: 25, Silent: 25}
	var answers sink
	o.Answers = &answers
	if _, err := Run(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	s.writeLedger(t, s.ledger, s.lines)
	return s, answers.String()
}

func verify(t *testing.T, s *stub, answers string, ledgers ...string) *Findings {
	t.Helper()
	var r io.Reader
	if answers != "" {
		r = strings.NewReader(answers)
	}
	found, err := Verify(context.Background(), VerifyOptions{
		API: []string{s.url}, Key: "secret", Ledgers: ledgers, Answers: r, Now: clock, Dial: (&net.Dialer{}).DialContext,
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// indexOf finds the first line with all of the parts.
func indexOf(t *testing.T, lines []string, parts ...string) int {
	t.Helper()
	at := slices.IndexFunc(lines, func(l string) bool {
		for _, p := range parts {
			if !strings.Contains(l, p) {
				return false
			}
		}
		return true
	})
	if at < 0 {
		t.Fatalf("no line with %q", parts)
	}
	return at
}

func TestVerifyAgrees(t *testing.T) {
	s, answers := loaded(t)
	found := verify(t, s, answers)
	if found.Count != 0 || found.OpenCount != 0 {
		t.Errorf("%+v", found)
	}
	if found.Payments != 40 || found.Decided != 40 || found.LedgerLines != int64(len(s.lines)) {
		t.Errorf("compared %d payments, %d answers, %d ledger lines; want 40, 40, %d", found.Payments, found.Decided, found.LedgerLines, len(s.lines))
	}
	if found.States["approved"] == 0 || found.States["declined"] == 0 || found.States["reversed"] == 0 {
		t.Errorf("not every outcome is in the run: %v", found.States)
	}
}

// Every way in which a side may be wrong must be named, with its invariant.
func TestVerifyNamesEachDifference(t *testing.T) {
	approvedIn := func(t *testing.T, s *stub) (int, map[string]any) {
		t.Helper()
		i := slices.IndexFunc(s.journal, func(r map[string]any) bool { return r["state"] == "approved" })
		if i < 0 {
			t.Fatal("nothing approved")
		}
		return indexOf(t, s.lines, `"stan":"`+s.journal[i]["stan"].(string), `"approved"`), s.journal[i]
	}
	for _, c := range []struct {
		name, invariant, text string
		change                func(t *testing.T, s *stub, answers string) string
	}{
		{"approval removed from the ledger", "I3", "has no approval", func(t *testing.T, s *stub, a string) string {
			i, _ := approvedIn(t, s)
			s.lines = slices.Delete(s.lines, i, i+1)
			return a
		}},
		{"answer flipped to declined", "I3", "was told declined", func(_ *testing.T, _ *stub, a string) string {
			return strings.Replace(a, `"outcome":"approved"`, `"outcome":"declined"`, 1)
		}},
		{"answer flipped to approved", "I3", "was told approved", func(_ *testing.T, _ *stub, a string) string {
			return strings.Replace(a, `"outcome":"declined"`, `"outcome":"approved"`, 1)
		}},
		{"two answers for one key", "I1", "answered in two ways", func(_ *testing.T, _ *stub, a string) string {
			first, _, _ := strings.Cut(a, "\n")
			at := strings.Index(first, `"body_sha256":"`) + len(`"body_sha256":"`)
			return a + first[:at] + strings.Repeat("0", 64) + first[at+64:] + "\n"
		}},
		{"answer for a payment that is not journalled", "I3", "does not know it", func(_ *testing.T, _ *stub, a string) string {
			first, _, _ := strings.Cut(a, "\n")
			return a + strings.Replace(first, `"key":"bench-`, `"key":"other-`, 1) + "\n"
		}},
		{"another amount answered", "I1", "was asked for", func(_ *testing.T, _ *stub, a string) string {
			return strings.Replace(a, `"amount":`, `"amount":9`, 1)
		}},
		{"orphan approval", "I2", "never reversed", func(t *testing.T, s *stub, a string) string {
			i, _ := approvedIn(t, s)
			s.lines = append(s.lines, strings.Replace(s.lines[i], `"transmitted":"11`, `"transmitted":"12`, 1))
			return a
		}},
		{"a message without its intent", "I7", "arrived", func(t *testing.T, s *stub, a string) string {
			i := indexOf(t, s.lines, `"declined"`)
			s.lines = append(s.lines, strings.Replace(s.lines[i], `"transmitted":"11`, `"transmitted":"12`, 1))
			return a
		}},
		{"a reversal of nothing", "I7", "names an original", func(t *testing.T, s *stub, a string) string {
			i := indexOf(t, s.lines, `"0420"`)
			s.lines = append(s.lines, strings.Replace(s.lines[i], `"original":{"mti":"0100","stan":"0`, `"original":{"mti":"0100","stan":"8`, 1))
			return a
		}},
		{"approved, journal says declined", "I2", "nobody reversed it", func(t *testing.T, s *stub, _ string) string {
			_, r := approvedIn(t, s)
			r["state"], r["status"] = "declined", "declined"
			return ""
		}},
		{"approved, and reversed without an order", "I3", "no gateway asked", func(t *testing.T, s *stub, a string) string {
			i := indexOf(t, s.lines, `"0420"`)
			_, r := approvedIn(t, s)
			_, rest, _ := strings.Cut(s.lines[i], `"original":{"mti":"0100","stan":"`)
			s.lines = append(s.lines, strings.Replace(s.lines[i], `"original":{"mti":"0100","stan":"`+rest[:6], `"original":{"mti":"0100","stan":"`+r["stan"].(string), 1))
			return a
		}},
		{"reversal never sent", "I9", "has no reversal", func(t *testing.T, s *stub, a string) string {
			i := indexOf(t, s.lines, `"0420"`)
			s.lines = slices.Delete(s.lines, i, i+1)
			return a
		}},
		{"sent twice", "I14", "came twice", func(t *testing.T, s *stub, a string) string {
			i, _ := approvedIn(t, s)
			s.lines = append(s.lines, s.lines[i])
			return a
		}},
		{"another RRN on the wire", "I14", "RRN", func(t *testing.T, s *stub, a string) string {
			i, _ := approvedIn(t, s)
			s.lines[i] = strings.Replace(s.lines[i], `"rrn":"6327`, `"rrn":"6328`, 1)
			return a
		}},
		{"STAN given twice", "I14", "share STAN", func(_ *testing.T, s *stub, a string) string {
			s.journal[1]["attempts"] = append(s.journal[1]["attempts"].([]any), s.journal[0]["attempts"].([]any)...)
			return a
		}},
		{"another amount approved", "I10", "the ledger of cb-a", func(t *testing.T, s *stub, a string) string {
			i, _ := approvedIn(t, s)
			s.lines[i] = strings.Replace(s.lines[i], `"amount":`, `"amount":9`, 1)
			return a
		}},
		{"two live approvals", "I5", "2 live approvals", func(t *testing.T, s *stub, a string) string {
			i, r := approvedIn(t, s)
			stan := r["stan"].(string)
			s.lines = append(s.lines, strings.Replace(s.lines[i], `"stan":"`+stan, `"stan":"700000`, 1))
			r["attempts"] = append(r["attempts"].([]any), map[string]any{
				"link": "cb-a", "stan": "700000", "rrn": r["rrn"], "transmitted": "1123040506", "mti": "0100", "result": "unknown",
			})
			return a
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, answers := loaded(t)
			answers = c.change(t, s, answers)
			s.writeLedger(t, s.ledger, s.lines)
			found := verify(t, s, answers)
			if !slices.ContainsFunc(found.Differences, func(d Difference) bool {
				return d.Invariant == c.invariant && strings.Contains(d.Text, c.text)
			}) {
				t.Errorf("%s %q is not among %v", c.invariant, c.text, found.Differences)
			}
		})
	}
}

func TestVerifySaysWhatIsOpen(t *testing.T) {
	s, answers := loaded(t)
	i := slices.IndexFunc(s.journal, func(r map[string]any) bool { return r["state"] == "reversed" })
	s.journal[i]["state"] = "reversing"
	at := indexOf(t, s.lines, `"0420"`, `"stan":"`+s.journal[i]["stan"].(string)) // not yet there
	s.lines = slices.Delete(s.lines, at, at+1)
	s.writeLedger(t, s.ledger, s.lines)
	s.owed = 1
	found := verify(t, s, answers)
	if found.Count != 0 || found.OpenCount != 1 || !strings.Contains(found.Open[0], "reversing") {
		t.Errorf("%+v", found)
	}
}

// In 1993 and 2003 a reversal names its original without DE 7; a host that never
// saw that one shows its local time, which may be another second.
func TestVerifyFindsAnOriginalByItsRRN(t *testing.T) {
	for _, shown := range []string{"", "1123050507"} {
		verifyByRRN(t, `","transmitted":"`+shown+`","local":"261123050507","acquirer"`)
	}
}

func verifyByRRN(t *testing.T, named string) {
	t.Helper()
	s, answers := loaded(t)
	i := indexOf(t, s.lines, `"0420"`)
	s.lines[i] = strings.Replace(s.lines[i], `","transmitted":"1123040506","acquirer"`, named, 1)
	s.writeLedger(t, s.ledger, s.lines)
	if found := verify(t, s, answers); found.Count != 0 {
		t.Errorf("%v", found.Differences)
	}
	s.lines[i] = strings.Replace(s.lines[i], `"rrn":"6327`, `"rrn":"6999`, 1)
	s.writeLedger(t, s.ledger, s.lines)
	if found := verify(t, s, answers); found.Count == 0 {
		t.Error("a reversal that names another RRN passed")
	}
}

// A gateway's own reversal is no difference, nor is a half-written last line.
func TestVerifyAcceptsWhatIsRight(t *testing.T) {
	s, answers := loaded(t)
	i := slices.IndexFunc(s.journal, func(r map[string]any) bool { return r["state"] == "approved" })
	s.journal[i]["state"] = "reversed"
	stan := s.journal[i]["stan"].(string)
	s.lines = append(s.lines, `{"mti":"0401","stan":"800000","transmitted":"1123040509","decision":"reversed","original":{"mti":"0100","stan":"`+stan+`","transmitted":"1123040506","acquirer":"1"}}`)
	s.writeLedger(t, s.ledger, s.lines)
	f, err := os.OpenFile(s.ledger, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"mti":"01`); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if found := verify(t, s, answers); found.Count != 0 {
		t.Errorf("%v", found.Differences)
	}
}

func TestVerifyRecognisesACopiedLedger(t *testing.T) {
	s, answers := loaded(t)
	name := filepath.Join(t.TempDir(), "tampered.jsonl")
	i := indexOf(t, s.lines, `"approved"`)
	s.writeLedger(t, name, slices.Delete(slices.Clone(s.lines), i, i+1))
	found := verify(t, s, answers, name)
	if found.Count != 1 || found.Differences[0].Invariant != "I3" {
		t.Errorf("%+v", found)
	}
}

// A key that a payment gave back belongs to the next payment, whichever of the
// two the list names first.
func TestKeyGivenBack(t *testing.T) {
	freed := listedAuthorization{ID: "auth_1", Key: "k", Status: "not_sent", State: stateNotSent}
	next := listedAuthorization{ID: "auth_2", Key: "k", Status: "approved", State: "approved"}
	for _, order := range [][]listedAuthorization{{freed, next}, {next, freed}, {next, freed, next}} {
		side := newJournalSide(nil, &Findings{})
		for i := range order {
			side.add("m", &order[i])
		}
		if r := side.records[side.byKey["m\x00k"]]; r.id != "auth_2" {
			t.Errorf("the key is looked up at %s", r.id)
		}
	}
}
