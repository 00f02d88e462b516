package sim

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

func withFaults(faults ...Fault) func(*Config) { return func(c *Config) { c.Faults = faults } }

func TestScriptedFaults(t *testing.T) {
	t.Run("at the second request, twice", func(t *testing.T) {
		b := start(t, withFaults(Fault{Fault: "silence", At: 2, Times: 2}))
		for i := range 4 {
			b.send(authorization(fmt.Sprintf("%06d", i+1), 1000))
		}
		if first, second := b.receive(), b.receive(); first[11] != "000001" || second[11] != "000004" {
			t.Errorf("answers %v and %v", first, second)
		}
		b.wantDecisions("000001 approved 00 1000; 000002 silent  1000; 000003 silent  1000; 000004 approved 00 1000")
	})
	t.Run("for an amount", func(t *testing.T) {
		b := start(t, withFaults(Fault{Fault: faultAnswer, Code: "91", Amount: 1000}))
		if m := b.ask(authorization("000001", 1000)); m[39] != "91" {
			t.Errorf("answer %v", m)
		}
		if m := b.ask(authorization("000002", 1100)); m[39] != "00" {
			t.Errorf("answer %v", m)
		}
	})
	t.Run("with a probability, the same for a seed", func(t *testing.T) {
		run := func(seed uint64) string {
			b := start(t, func(c *Config) {
				c.Faults, c.Seed = []Fault{{Fault: faultAnswer, Code: "05", Probability: 0.5}}, seed
			})
			var codes strings.Builder
			for i := range 40 {
				codes.WriteString(b.ask(authorization(fmt.Sprintf("%06d", i+1), 1000))[39])
			}
			return codes.String()
		}
		one := run(1)
		if one != run(1) {
			t.Error("the same seed gave another run")
		}
		if n := strings.Count(one, "05"); n < 5 || n > 35 {
			t.Errorf("%d of 40 fired", n)
		}
	})
	t.Run("sign-on refused once", func(t *testing.T) {
		b := start(t, withFaults(Fault{Fault: faultRefuseSignOn, Times: 1}))
		if m := b.ask(networkRequest("001")); m[0] != "0810" || m[39] != "05" || m[70] != "001" {
			t.Errorf("first sign-on %v", m)
		}
		if m := b.ask(networkRequest("001")); m[39] != "00" {
			t.Errorf("second sign-on %v", m)
		}
	})
	t.Run("no 0810", func(t *testing.T) {
		b := start(t, withFaults(Fault{Fault: faultNo0810, Times: 1}))
		b.send(networkRequest("001"))
		b.quiet()
		if m := b.ask(networkRequest("001")); m[39] != "00" {
			t.Errorf("second sign-on %v", m)
		}
	})
	t.Run("signs off", func(t *testing.T) {
		b := start(t, func(c *Config) {
			c.Faults, c.RequireSignOn = []Fault{{Fault: faultSignOff, At: 1}}, true
		})
		b.ask(networkRequest("001"))
		if m := b.ask(authorization("000001", 1000)); m[39] != "00" {
			t.Errorf("answer %v", m)
		}
		if m := b.receive(); m[0] != "0800" || m[70] != "002" || m[7] != "0314101500" || len(m[11]) != 6 {
			t.Errorf("sign-off %v", m)
		}
		b.send(text87("0810", 7, "0314101500", 11, "000001", 39, "00", 70, "002")) // is not answered
		if m := b.ask(authorization("000002", 1000)); m[39] != "58" {
			t.Errorf("after the sign-off: %v", m)
		}
	})
	t.Run("slow reader", func(t *testing.T) {
		const pause = 60 * time.Millisecond
		b := start(t, withFaults(Fault{Fault: faultSlowReader, At: 1, For: pause}))
		b.ask(authorization("000001", 1000)) // answered, then the host stops reading
		begin := time.Now()
		b.quiet()
		if waited := time.Since(begin); waited < pause/2 {
			t.Errorf("the next was read after %s", waited)
		}
	})
	t.Run("closes before deciding", func(t *testing.T) {
		b := start(t, withFaults(Fault{Fault: faultClose, At: 1}))
		b.send(authorization("000001", 1000))
		b.closed()
		b.wantDecisions("")
		b.quiet()
	})
	t.Run("loses the answer to a reversal", func(t *testing.T) {
		b := start(t, withFaults(Fault{Fault: faultLose, At: 1}))
		b.ask(authorization("000001", 1000))
		b.send(reversal("0420", "000001", 1000))
		b.quiet()
		b.wantDecisions("000001 approved 00 1000; 000001 reversed 00 1000")
		if m := b.ask(reversal("0421", "000001", 1000)); m[0] != "0430" || m[39] != "00" {
			t.Errorf("repeat %v", m)
		}
		b.wantDecisions("000001 approved 00 1000; 000001 reversed 00 1000")
	})
	t.Run("answers reversals 91 three times", func(t *testing.T) {
		b := start(t, withFaults(Fault{Fault: faultAnswer, On: "reversal", Code: "91", Times: 3}))
		b.ask(authorization("000001", 1000))
		for _, want := range []string{"91", "91", "91", "00"} {
			if m := b.ask(reversal("0421", "000001", 1000)); m[39] != want {
				t.Errorf("got %s, want %s", m[39], want)
			}
		}
		b.wantDecisions("000001 approved 00 1000; 000001 reversed 00 1000")
	})
	t.Run("forgets originals", func(t *testing.T) {
		b := start(t, withFaults(Fault{Fault: faultForget, Times: 1}))
		b.ask(authorization("000001", 1000))
		if m := b.ask(reversal("0420", "000001", 1000)); m[39] != "25" {
			t.Errorf("answer %v", m)
		}
		b.wantDecisions("000001 approved 00 1000; 000001 unknown_original 25 1000")
	})
	t.Run("a reversal's answer twice, garbled, dropped", func(t *testing.T) {
		b := start(t, withFaults(Fault{Fault: "twice", On: "reversal", At: 1}, Fault{Fault: "wrong_stan", On: "reversal", At: 2}, Fault{Fault: "drop", On: "reversal", At: 3}))
		b.ask(authorization("000001", 1000))
		b.send(reversal("0420", "000001", 1000))
		if first, second := b.receive(), b.receive(); first[39] != "00" || second[39] != "00" {
			t.Errorf("answers %v and %v", first, second)
		}
		if m := b.ask(reversal("0421", "000001", 1000)); m[11] != "900002" {
			t.Errorf("answer %v", m)
		}
		b.send(reversal("0421", "000001", 1000))
		b.closed()
		b.wantDecisions("000001 approved 00 1000; 000001 reversed 00 1000")
	})
	t.Run("advice refused", func(t *testing.T) {
		b := start(t, withFaults(Fault{Fault: faultAnswer, On: "advice", Code: "96", At: 1}))
		advice := text87("0220", 2, "16"+visaCard, 3, "000000", 4, "000000001000", 7, "0314101500", 11, "000001", 32, "0512345", 37, "632700000001", 41, "TERM0001", 49, "978")
		if m := b.ask(advice); m[39] != "96" {
			t.Errorf("answer %v", m)
		}
		b.wantDecisions("")
		if m := b.ask(advice); m[39] != "00" {
			t.Errorf("answer %v", m)
		}
	})
}

func TestAmountOverridesAndCodes(t *testing.T) {
	b := start(t, func(c *Config) {
		c.Amounts = map[string]string{"00": "51", "51": "approve", "20": "silence", "21": "twice"}
		c.Codes = map[string]string{"51": "N4"}
	})
	if m := b.ask(authorization("000001", 1000)); m[39] != "N4" {
		t.Errorf(".00: %v", m)
	}
	if m := b.ask(authorization("000002", 1051)); m[39] != "00" {
		t.Errorf(".51: %v", m)
	}
	b.send(authorization("000003", 1020))
	b.quiet()
	b.send(authorization("000004", 1021))
	b.receive()
	b.receive()
}

func TestOwnEcho(t *testing.T) {
	b := start(t, func(c *Config) { c.EchoEvery = time.Millisecond })
	for _, stan := range []string{"500001", "500002"} {
		if m := b.receive(); m[0] != "0800" || m[70] != "301" || m[11] != stan {
			t.Errorf("echo %v", m)
		}
		b.send(text87("0810", 7, "0314101500", 11, stan, 39, "00", 70, "301"))
	}
}

func TestScenarioFaultsAreNamed(t *testing.T) {
	const good = "name: a\ndialect: ascii87\nlisten: 127.0.0.1:0\nledger: l.jsonl\n"
	if c, err := ParseConfig([]byte(good + "late_after: 3s\nlatency: {distribution: normal, mean: 5ms}\nfaults: [{fault: twice, at: 3}]\n")); err != nil {
		t.Fatal(err)
	} else if c.LateAfter != 3*time.Second || c.Latency.Mean != 5*time.Millisecond || c.Faults[0].At != 3 {
		t.Errorf("%+v", c)
	}
	for text, want := range map[string]string{
		"colour: red":                                      "line 5: field colour not found",
		"faults: [{fault: twice, when: 3}]":                "line 5: field when not found",
		"faults: [{fault: thrice}]":                        `fault "thrice" is not known`,
		"faults: [{fault: twice, on: tuesday}]":            `on: "tuesday"`,
		"faults: [{fault: twice, on: sign_on}]":            "no fault of sign_on",
		"faults: [{fault: no_0810, on: request}]":          "no_0810 is a fault of sign_on",
		"faults: [{fault: after_reversal, on: advice}]":    "after_reversal is a fault of request",
		"faults: [{fault: forget, on: request}]":           "forget is a fault of reversal",
		"faults: [{fault: twice, at: 1, amount: 5}]":       "exclude each other",
		"faults: [{fault: twice, probability: 1.5}]":       "out of range",
		"faults: [{fault: answer, code: ZZ}]":              `code "ZZ"`,
		"faults: [{fault: twice, code: \"91\"}]":           "twice has no code",
		"amounts: {\"7\": silence}":                        "not two digits",
		"amounts: {\"07\": explode}":                       `"explode" is neither`,
		"codes: {\"99\": \"05\"}":                          `"99" is no code`,
		"codes: {\"51\": \"TOOLONG\"}":                     "not 1 to 4 characters",
		"codec: slow":                                      `codec: "slow"`,
		"ledger_sync: maybe":                               `ledger_sync: "maybe"`,
		"late_after: -1s":                                  "late_after: negative",
		"latency: {distribution: normal}":                  "normal needs a mean",
		"latency: {distribution: odd, mean: 1s}":           `distribution "odd"`,
		"codec: slow\nledger_sync: maybe\nmax_delayed: -1": "max_delayed: negative",
	} {
		if _, err := ParseConfig([]byte(good + text)); !errors.Is(err, ErrScenario) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	for _, missing := range []string{"name", "dialect", "listen", "ledger"} {
		var kept []string
		for _, l := range strings.SplitAfter(good, "\n") {
			if !strings.HasPrefix(l, missing+":") {
				kept = append(kept, l)
			}
		}
		if _, err := ParseConfig([]byte(strings.Join(kept, ""))); err == nil || !strings.Contains(err.Error(), missing+": missing") {
			t.Errorf("without %s: %v", missing, err)
		}
	}
	if _, err := ReadConfig(t.TempDir() + "/absent.yaml"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent file: %v", err)
	}
}

func TestConnectionsAreLimited(t *testing.T) {
	b := start(t, func(c *Config) { c.MaxConnections = 1 })
	b.quiet()
	extra := b.dial()
	if _, err := io.ReadAll(extra); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("the second connection: %v", err)
	}
	b.quiet()
}
