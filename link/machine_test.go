package link

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"authswitch/payment"
)

var rewrite = flag.Bool("rewrite", false, "write golden files instead of comparing")

// golden compares text with a file of testdata, or writes it.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *rewrite {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got == string(want) {
		return
	}
	g, w := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range max(len(g), len(w)) {
		if i >= len(g) || i >= len(w) || g[i] != w[i] {
			t.Fatalf("%s:%d differs\n got: %s\nwant: %s", path, i+1, at(g, i), at(w, i))
		}
	}
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(end)"
}

var eventNames = [events]string{
	"timer", "enabled", "disabled", "dialed", "dial-failed", "lost", "sign-on-accepted", "sign-on-refused", "sign-off-answered",
	"echo-answered", "idle", "standing", "peer-sign-on", "peer-sign-off", "peer-echo", "peer-cut-over", "peer-other",
}

var effectNames = map[effectKind]string{
	effectDial: "dial", effectSend: "send", effectAnswer: "answer", effectFinish: "finish", effectAbort: "abort",
	effectAlarm: "ALARM", effectCutOver: "cut-over",
}

var functionNames = map[payment.NetworkFunction]string{
	payment.SignOn: "sign-on", payment.SignOff: "sign-off", payment.Echo: "echo", payment.CutOver: "cut-over", payment.KeyExchange: "key-exchange",
}

// machineConfig has durations that differ from each other.
func machineConfig() *Config {
	c := Config{
		SignOnTimeout: 10 * time.Second, EchoEvery: 30 * time.Second, EchoUnderLoad: 60 * time.Second, EchoTimeout: 5 * time.Second,
		EchoMisses: 2, DrainTimeout: 20 * time.Second,
	}.WithDefaults()
	return &c
}

const start = moment(100 * time.Second)

// situations are the states, with what else a machine remembers.
func situations() []struct {
	name string
	m    machine
} {
	make := func(s State, change func(m *machine)) machine {
		m := machine{
			cfg: machineConfig(), can: capabilities{signOn: true, signOff: true, echo: true}, random: func() uint64 { return 0 },
			state: s, enabled: true, heard: start - moment(30*time.Second), lastEcho: start - moment(40*time.Second), deadline: start,
		}
		if change != nil {
			change(&m)
		}
		return m
	}
	out := func(misses int) func(m *machine) {
		return func(m *machine) {
			m.echoAt, m.lastEcho, m.misses = start-moment(5*time.Second), start-moment(5*time.Second), misses
		}
	}
	return []struct {
		name string
		m    machine
	}{
		{"down:waiting", make(Down, nil)},
		{"down:dialing", make(Down, func(m *machine) { m.dialing, m.deadline = true, 0 })},
		{"down:closing", make(Down, func(m *machine) { m.closing, m.deadline = true, 0 })},
		{"down:disabled", make(Down, func(m *machine) { m.enabled, m.deadline = false, 0 })},
		{"down:disabled-dialing", make(Down, func(m *machine) { m.enabled, m.dialing, m.deadline = false, true, 0 })},
		{"connected", make(Connected, nil)},
		{"connected:another-signs-on", make(Connected, func(m *machine) { m.deadline, m.manners = 0, manners{waits: true} })},
		{"connected:another-signed-on", make(Connected, func(m *machine) { m.deadline, m.manners = 0, manners{signedOn: true} })},
		{"connected:became-keeper", make(Connected, func(m *machine) { m.deadline = 0 })},
		{"ready", make(Ready, nil)},
		{"ready:others-stay", make(Ready, func(m *machine) { m.manners = manners{stays: true} })},
		{"ready:echo-out", make(Ready, out(0))},
		{"ready:echo-missed", make(Ready, out(1))},
		{"ready:echo-out-but-heard", make(Ready, func(m *machine) { out(1)(m); m.heard = start - 1 })},
		{"suspect", make(Suspect, out(2))},
		{"suspect:last-miss", make(Suspect, out(3))},
		{"suspect:heard", make(Suspect, func(m *machine) { out(3)(m); m.heard = start - 1 })},
		{"draining:ours", make(Draining, func(m *machine) { m.enabled = false })},
		{"draining:ours-idle", make(Draining, func(m *machine) { m.enabled, m.idle = false, true })},
		{"draining:ours-left", make(Draining, func(m *machine) { m.enabled, m.left = false, true })},
		{"draining:theirs", make(Draining, func(m *machine) { m.left = true })},
	}
}

// TestTransitions holds every state and event of iso8583-behaviour.md §2 to
// its row in testdata/transitions.txt. The file is the specification: a row
// that is missing there, or one too many, fails.
func TestTransitions(t *testing.T) {
	var b strings.Builder
	b.WriteString("# situation event -> state after | effects | deadline from now\n")
	for _, s := range situations() {
		for e := range events {
			m := s.m
			m.step(start, e)
			fmt.Fprintf(&b, "%s %s -> %s%s\n", s.name, eventNames[e], m.state, shown(&m))
		}
		b.WriteString("\n")
	}
	golden(t, "testdata/transitions.txt", b.String())
}

func shown(m *machine) string {
	var b strings.Builder
	for i, e := range m.effects {
		b.WriteString(map[bool]string{true: " | ", false: ", "}[i == 0])
		b.WriteString(effectNames[e.kind])
		if e.kind == effectSend {
			b.WriteString(" " + functionNames[e.function])
		}
		if e.reason != "" {
			b.WriteString(" (" + e.reason + ")")
		}
	}
	if m.deadline != 0 {
		fmt.Fprintf(&b, " | in %s", time.Duration(m.deadline-start))
	}
	return b.String()
}

// TestCapabilities: a dialect without a network message does without.
func TestCapabilities(t *testing.T) {
	m := machine{cfg: machineConfig(), random: func() uint64 { return 0 }, enabled: true, dialing: true}
	m.step(start, eventDialed)
	if m.state != Ready || len(m.effects) != 0 || m.deadline != 0 {
		t.Fatalf("without sign-on and echo: %s%s", m.state, shown(&m))
	}
	m.step(start, eventDisabled)
	m.step(start, eventIdle)
	if m.state != Down || !m.closing {
		t.Fatalf("without sign-off: %s%s", m.state, shown(&m))
	}
}

// TestBackoffOfMachine: failures in a row wait longer, a sign-on forgets them.
func TestBackoffOfMachine(t *testing.T) {
	m := machine{cfg: machineConfig(), can: capabilities{signOn: true}, random: func() uint64 { return 0 }}
	m.step(start, eventEnabled)
	now := start
	var waits []time.Duration
	for range 10 {
		m.step(m.deadline, eventTimer)
		m.step(now, eventDialFailed)
		waits = append(waits, time.Duration(m.deadline-now))
		now = m.deadline
	}
	want := "[200ms 400ms 800ms 1.6s 3.2s 6.4s 12.8s 25.6s 30s 30s]"
	if fmt.Sprint(waits) != want {
		t.Fatalf("got %v, want %s", waits, want)
	}
	m.step(m.deadline, eventTimer)
	m.step(now, eventDialed)
	if m.step(now, eventSignOnAccepted); m.state != Ready || m.failures != 0 {
		t.Fatalf("%s, %d failures", m.state, m.failures)
	}
	m.step(now, eventLost)
	if got := time.Duration(m.deadline - now); got != 200*time.Millisecond {
		t.Fatalf("after a good life it waits %s", got)
	}
}

func TestBackoffJitter(t *testing.T) {
	for failures := 1; failures < 2000; failures++ {
		for _, random := range []uint64{0, 1, 1 << 20, 1<<64 - 1} {
			if d := backoff(failures, 100*time.Millisecond, 30*time.Second, random); d < 100*time.Millisecond || d > 30*time.Second {
				t.Fatalf("backoff(%d, %d) = %s", failures, random, d)
			}
		}
	}
	seen := map[time.Duration]bool{}
	for random := range uint64(1000) {
		seen[backoff(1, 100*time.Millisecond, 30*time.Second, random*7919*7919)] = true
	}
	if len(seen) < 500 {
		t.Fatalf("1,000 draws give %d delays: connections that broke together come back together", len(seen))
	}
}
