package sim

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// restart stops a simulator and starts it again on its ledger, after the file
// was changed as a crash might leave it.
func (b *bench) restart(change func(raw []byte) []byte) *bench {
	b.t.Helper()
	if err := b.stop(); err != nil {
		b.t.Fatal(err)
	}
	if change != nil {
		raw, err := os.ReadFile(b.config.Ledger)
		if err == nil {
			err = os.WriteFile(b.config.Ledger, change(raw), 0o600)
		}
		if err != nil {
			b.t.Fatal(err)
		}
	}
	return startWith(b.t, b.config)
}

func TestRestartRemembers(t *testing.T) {
	b := start(t, func(c *Config) { c.RememberReversals, c.LedgerSync = true, SyncGroup })
	approvedThen := b.ask(authorization("000001", 1000))
	b.ask(authorization("000002", 2010))    // in part
	b.send(authorization("000003", 1068))   // silence
	b.ask(authorization("000004", 1051))    // declined
	b.ask(authorization("000005", 1000))    // reversed below
	b.ask(authorization("000006", 1000))    // reversed in part below
	b.ask(reversal("0420", "000005", 1000)) //
	b.ask(reversal("0420", "000007", 1000)) // before its original
	const keep300 = "000000000300" + "000000000000" + "C00000000" + "C00000000"
	b.ask(reversalOf("0420", "0100"+"000006"+"0314101500"+"00000012345"+"00000000000", 1000, "TERM0001", keep300))
	before := b.decisions()

	b = b.restart(nil)
	b.wantDecisions(before)
	if m := b.ask(payment87("0101", "000001", "0314101500", 1000)); m[39] != "00" || m[38] != approvedThen[38] {
		t.Errorf("repeat of an approval: %v", m)
	}
	if m := b.ask(payment87("0101", "000002", "0314101500", 2010)); m[39] != "10" || m[4] != "000000001005" {
		t.Errorf("repeat of a partial approval: %v", m)
	}
	b.send(payment87("0101", "000003", "0314101500", 1068))
	b.quiet()
	if m := b.ask(payment87("0101", "000004", "0314101500", 1051)); m[39] != "51" {
		t.Errorf("repeat of a decline: %v", m)
	}
	if m := b.ask(authorization("000007", 1000)); m[39] != "12" {
		t.Errorf("an original after its reversal: %v", m)
	}
	before = b.decisions()
	// Undone already: acknowledged, no new line.
	if m := b.ask(reversal("0421", "000005", 1000)); m[39] != "00" {
		t.Errorf("repeat of a reversal: %v", m)
	}
	b.wantDecisions(before)
	for _, stan := range []string{"000001", "000002", "000003", "000004", "000006"} {
		if m := b.ask(reversal("0420", stan, 1000)); m[39] != "00" {
			t.Errorf("reversal of %s: %v", stan, m)
		}
	}
	b.wantDecisions(before + "; 000001 reversed 00 1000; 000002 reversed 00 1005; 000003 reversed 00 1000; 000004 reversed 00 1000; 000006 reversed 00 300")
}

func TestTornLineIsCutOff(t *testing.T) {
	b := start(t, nil)
	b.ask(authorization("000001", 1000))
	b.ask(authorization("000002", 1000))
	b = b.restart(func(raw []byte) []byte { return raw[:len(raw)-30] })
	if m := b.ask(reversal("0420", "000002", 1000)); m[39] != "25" {
		t.Errorf("what was never whole on disk is known: %v", m)
	}
	b.wantDecisions("000001 approved 00 1000; 000002 unknown_original 25 1000")
}

func TestForeignLedgerIsRefused(t *testing.T) {
	for _, text := range []string{"not json\n", "{}\n", `{"mti":"0100","decision":"guessed"}` + "\n", `{"mti":"0420","decision":"reversed"}` + "\n"} {
		path := filepath.Join(t.TempDir(), "ledger.jsonl")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		replay := replayer{book: newBook(10, false), profile: profile87()}
		if l, err := openLedger(path, true, replay.line); err == nil {
			l.close()
			t.Errorf("%q was taken", text)
		} else if !strings.Contains(err.Error(), "line 1") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// Whoever waits sees its own line on disk, whoever wrote it.
func TestGroupCommit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.jsonl")
	l, err := openLedger(path, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	const writers, each = 8, 50
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for i := range each {
				text := fmt.Sprintf("line %d %d.", w, i)
				if err := l.wait(l.append([]byte(text))); err != nil {
					t.Error(err)
				}
				raw, err := os.ReadFile(path)
				if err != nil || !strings.Contains(string(raw), text+"\n") {
					t.Errorf("%q is not in the file (%v)", text, err)
					return
				}
			}
		})
	}
	group.Wait()
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	if raw, _ := os.ReadFile(path); strings.Count(string(raw), "\n") != writers*each {
		t.Errorf("%d lines", strings.Count(string(raw), "\n"))
	}
}

// A simulator whose ledger cannot be written stops; nothing is answered.
func TestLostLedgerStops(t *testing.T) {
	b := start(t, func(c *Config) { c.LedgerSync = SyncGroup })
	b.quiet()
	if err := b.sim.ledger.file.Close(); err != nil {
		t.Fatal(err)
	}
	b.send(authorization("000001", 1000))
	b.closedWithoutRedial()
	if err := b.stop(); err == nil || !strings.Contains(err.Error(), errLedger.Error()) {
		t.Errorf("Run: %v", err)
	}
}

func TestLineEscapesWhatTheWireMayHold(t *testing.T) {
	l := line{
		at: testNow, mti: [4]byte{'0', '1', '0', '0'}, stan: []byte("000001"), terminal: []byte("A\"\\\n\xE9"), acquirer: []byte("1"),
		amount: 1, currency: []byte("978"), card: []byte("123456789012"), decision: approved, code: "00",
	}
	got := string(l.appendTo(nil))
	for _, want := range []string{`"terminal":"A\"\\\u000a\u00e9"`, `"card":"************"`} {
		if !strings.Contains(got, want) {
			t.Errorf("%s has no %s", got, want)
		}
	}
	replay := replayer{book: newBook(10, false), profile: profile87()}
	if err := replay.line([]byte(got)); err != nil {
		t.Error(err)
	}
}

func TestFullBookDeclines(t *testing.T) {
	b := start(t, func(c *Config) { c.MaxDecisions = 2 })
	for i, want := range []string{"00", "00", "96"} {
		if m := b.ask(payment87("0100", fmt.Sprintf("%06d", i+1), "0314101500", 1000)); m[39] != want {
			t.Errorf("request %d: %v", i+1, m)
		}
	}
}

func (b *bench) closedWithoutRedial() {
	b.t.Helper()
	if m, err := b.read(); err == nil {
		b.t.Errorf("answered %q", m)
	}
	if err := b.conn.SetDeadline(time.Now()); err != nil {
		b.t.Log(err)
	}
}
