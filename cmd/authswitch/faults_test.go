package main_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"authswitch/iso8583/dialects"
	"authswitch/merchant"
	"authswitch/sim"
	"authswitch/vault"
)

// misbehaviour is one way in which an acquirer fails, and what must come of it.
type misbehaviour struct {
	name   string
	amount int
	script []sim.Fault
	answer string // status, then the answer's status, or the problem's cause; with "or" where the dialect decides
	ends   string // the payment's state, for good
}

// misbehaviours has a row for every amount and every scripted fault of
// docs/simulators.md. A row of the documentation without one here fails.
var misbehaviours = []misbehaviour{
	{"partial", 1010, nil, "201 declined", "reversed"}, // the merchant cannot take a part
	{"soft_decline", 1065, nil, "201 declined", "declined"},
	{"silence", 1068, nil, "504 timeout", "reversed"},
	{"late", 1069, nil, "504 timeout", "reversed"},
	{"twice", 1070, nil, "201 approved", "approved"},
	{"wrong_stan", 1071, nil, "504 timeout", "reversed"},
	{"garbage", 1072, nil, "504 timeout", "reversed"},
	{"half_frame", 1073, nil, "504 link_lost", "reversed"},
	{"drop", 1074, nil, "504 link_lost", "reversed"},
	{"wrong_amount", 1075, nil, "504 amount_mismatch", "reversed"},
	{"wrong_terminal", 1076, nil, "504 timeout", "reversed"},
	{"byte_at_a_time", 1077, nil, "201 approved", "approved"},
	// Whether the part that can be read says whose answer it is depends on the layout.
	{"lying_bitmap", 1078, nil, "504 timeout or 504 unparsable_answer", "reversed"},
	{"reject", 1079, nil, "504 rejected", "reversed"},
	{"decline_then_approve", 1080, nil, "201 declined", "reversed"}, // the second answer changes no outcome, but what it approves
	{"wrong_mti", 1081, nil, "504 timeout", "reversed"},
	{"cvv_mismatch", 1082, nil, "201 approved", "approved"},
	{"after_reversal", 1083, nil, "504 timeout", "reversed"},
	{"approve_unanswered", 1084, nil, "504 timeout", "reversed"},
	{"lose_reversal_answer", 1085, nil, "504 timeout", "reversed"},
	{"reversal_91_twice", 1086, nil, "504 timeout", "reversed"},
	{"forget_reversals", 1087, nil, "504 timeout", "reversed"},
	{"reversal_format_error", 1088, nil, "504 timeout", "exception"},
	// Where a frame of length zero is no heartbeat, the peer has lost the framing.
	{"zero_length", 1089, nil, "504 timeout or 504 link_lost", "reversed"},
	{"oversize_length", 1090, nil, "504 link_lost", "reversed"},
	{"maximum_length", 1097, nil, "504 timeout", "reversed"},

	{"script: silence", 1000, []sim.Fault{{Fault: "silence", At: 1}}, "504 timeout", "reversed"},
	{"script: lose_answer", 1000, []sim.Fault{{Fault: "lose_answer", On: "request", At: 1}}, "504 timeout", "reversed"},
	{"script: answer", 1000, []sim.Fault{{Fault: "answer", Code: "05", At: 1}}, "201 declined", "declined"},
	{"script: close", 1000, []sim.Fault{{Fault: "close", At: 1}}, "504 link_lost", "reversed"},
	{"script: sign_off", 1000, []sim.Fault{{Fault: "sign_off", At: 1}}, "201 approved", "approved"},
	{"script: slow_reader", 1000, []sim.Fault{{Fault: "slow_reader", At: 1, For: 3 * time.Second}}, "201 approved", "approved"},
	{"script: refuse_sign_on", 1000, []sim.Fault{{Fault: "refuse_sign_on", Times: 2}}, "201 approved", "approved"},
	{"script: no_0810", 1000, []sim.Fault{{Fault: "no_0810", Times: 1}}, "201 approved", "approved"},
	{"script: silence on reversal", 1084, []sim.Fault{{Fault: "silence", On: "reversal", Times: 1}}, "504 timeout", "reversed"},
	{"script: lose_answer on reversal", 1068, []sim.Fault{{Fault: "lose_answer", Times: 1}}, "504 timeout", "reversed"},
	{"script: forget", 1084, []sim.Fault{{Fault: "forget", Times: 1}}, "504 timeout", "reversed"},
	{"script: answer 91 on reversal", 1068, []sim.Fault{{Fault: "answer", On: "reversal", Code: "91", Times: 1}}, "504 timeout", "reversed"},
	{"script: close on reversal", 1084, []sim.Fault{{Fault: "close", On: "reversal", Times: 1}}, "504 timeout", "reversed"},
	{"script: half_frame on reversal", 1084, []sim.Fault{{Fault: "half_frame", On: "reversal", Times: 1}}, "504 timeout", "reversed"},
	{"script: garbage on reversal", 1084, []sim.Fault{{Fault: "garbage", On: "reversal", Times: 1}}, "504 timeout", "reversed"},
	{"script: wrong_stan on reversal", 1084, []sim.Fault{{Fault: "wrong_stan", On: "reversal", Times: 1}}, "504 timeout", "reversed"},
}

// Every way in which an acquirer misbehaves, each on a link and a simulator of
// its own: what the gateway is told, how it ends, that the link recovers, and
// that journal and ledgers agree after it.
func TestMisbehavingAcquirers(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	for i, m := range misbehaviours {
		for _, dialect := range [2][]string{{"visa", "amex"}, {"cb", "mastercard"}}[i%2] {
			b.add(m, dialect)
		}
	}
	d := b.start()
	var rows sync.WaitGroup
	for i := range b.rows {
		rows.Go(func() { b.rows[i].play(t, d) })
	}
	rows.Wait()

	verifyMisbehaviour(t, d)
}

// verifyMisbehaviour holds the journal against all ledgers. One host keeps an
// approval that the switch cannot know of: it answers a reversal with "original
// unknown", though it has it. One decides twice on one request, which its ledger
// shows, though what it approved is reversed. Their ledgers must be named, and
// nothing else.
func verifyMisbehaviour(t *testing.T, d *instance) {
	t.Helper()
	out, errs, code := run(t, "bench", "verify", "--api", d.info.API, "--key", d.info.Key, "--settle", "1s")
	kept := map[string]int{} // by misbehaviour and invariant
	for line := range strings.Lines(out) {
		rest, ok := strings.CutPrefix(line, "difference ")
		if !ok {
			continue
		}
		invariant, text, _ := strings.Cut(rest, ": ")
		switch {
		case strings.Contains(text, "forget-reversals-"):
			kept["forget "+invariant]++
		case strings.Contains(text, "decline-then-approve-"):
			kept["decline "+invariant]++
		default:
			t.Error(line)
		}
	}
	// I14 because a ledger cannot say who of the two did something twice.
	if want := map[string]int{"forget I2": 2, "decline I14": 2}; code != 1 || !maps.Equal(kept, want) {
		t.Errorf("verify: exit %d, %v, not %v\n%s%s", code, kept, want, tail(out, 3000), errs)
	}
}

// Each amount and each fault that the documentation names has its row.
func TestEveryMisbehaviourHasItsRow(t *testing.T) {
	raw, err := os.ReadFile("../../docs/simulators.md")
	if err != nil {
		t.Fatal(err)
	}
	// These need a link with keys: TestHostSpoilsMAC of sim has them, and link's
	// TestBadMACDecidesNothing what becomes of them.
	amounts, faults := map[string]bool{"00": true}, map[string]bool{"bad_mac": true, "wrong_key": true}
	for _, m := range misbehaviours {
		amounts[fmt.Sprintf("%02d", m.amount%100)] = true
		for _, f := range m.script {
			faults[f.Fault] = true
		}
	}
	named := 0
	for _, row := range regexp.MustCompile(`(?m)^\| xx\.(\d\d) \|`).FindAllStringSubmatch(string(raw), -1) {
		named++
		if !amounts[row[1]] {
			t.Errorf("no row for amount xx.%s", row[1])
		}
	}
	_, script, _ := strings.Cut(string(raw), "| fault | on (default first) |")
	script, _, _ = strings.Cut(script, "\n## ")
	for _, row := range regexp.MustCompile("(?m)^\\| (`[^|]*)\\|").FindAllStringSubmatch(script, -1) {
		for _, name := range regexp.MustCompile("`([a-z_0-9]+)`").FindAllStringSubmatch(row[1], -1) {
			named++
			if name[1] != "code" && name[1] != "for" && !faults[name[1]] {
				t.Errorf("no row for fault %s", name[1])
			}
		}
	}
	if named < 35 {
		t.Errorf("only %d amounts and faults were read from the documentation", named)
	}
}

// row is a misbehaviour on one dialect.
type row struct {
	misbehaviour
	link string
}

// play asks for what goes wrong, sees how it ends, and that a payment after it
// is approved.
func (r *row) play(t *testing.T, d *instance) {
	fail := func(format string, args ...any) { t.Errorf(r.link+": "+format, args...) }
	authorize := func(key string, amount int) answer {
		a, err := d.tryAsk(http.MethodPost, "/v1/authorizations", key, r.body(amount))
		if err != nil {
			fail("%v", err)
		}
		return a
	}
	var a answer
	if !wait(15*time.Second, func() bool { a = authorize("first", r.amount); return a.field("code") != "no_route" }) {
		fail("no route")
		return
	}
	told := fmt.Sprint(a.status, " ", a.field("status"))
	if a.status == http.StatusGatewayTimeout {
		told = fmt.Sprint(a.status, " ", a.field("cause"))
	}
	if !slices.Contains(strings.Split(r.answer, " or "), told) || a.field("final") != "true" {
		fail("answered %s, not %s: %s", told, r.answer, a.body)
	}
	if !wait(10*time.Second, func() bool { return authorizeApproved(authorize) }) {
		fail("no payment is approved after it")
	}
	state := ""
	look := func() string {
		return d.ask(http.MethodGet, "/v1/authorizations/"+a.field("id"), "", "").field("state")
	}
	if !wait(20*time.Second, func() bool { state = look(); return state == r.ends }) {
		fail("ends %s, not %s", state, r.ends)
	}
	if again := authorize("first", r.amount); again.body != a.body {
		fail("told otherwise later:\n%s\n%s", a.body, again.body)
	}
}

func authorizeApproved(authorize func(string, int) answer) bool {
	return authorize(rand.Text(), 1000).field("status") == "approved"
}

// wait polls another process.
func wait(within time.Duration, done func() bool) bool {
	for deadline := time.Now().Add(within); !done(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

func (r *row) body(amount int) string {
	return fmt.Sprintf(`{"merchant":%q,"reference":"R","amount":{"value":%d,"currency":"EUR"},"channel":"ecommerce","card":{"number":%q,"expiry":"3012","cvv":"937"}}`,
		r.link, amount, visaCard)
}

// bank is a node whose links each have a simulator and a merchant of their
// own. The simulators run in this process, the node in its own.
type bank struct {
	t         *testing.T
	dir       string
	rows      []row
	links     []map[string]any
	merchants []map[string]any
	scope     []string
	gateways  [][]string     // their merchants; none: one gateway for all
	keys      []string       // theirs
	api       map[string]any // limits of the door; none: its own
	node      map[string]any // more of the node's own section
	store     map[string]any // of the journal's
	log       *lockedBuffer
}

func newBank(t *testing.T) *bank { return &bank{t: t, dir: t.TempDir(), log: &lockedBuffer{}} }

// Timers of these links. An original can live until 5 s after its request.
const (
	bankAnswer = 2 * time.Second
	bankLate   = 3 * time.Second
)

func (b *bank) add(m misbehaviour, dialect string) {
	name := strings.NewReplacer(" ", "-", ":", "", "_", "-").Replace(m.name) + "-" + dialect
	ledger := b.ledger(name)
	address := b.simulate(sim.Config{
		Name: name, Dialect: dialect, Listen: "127.0.0.1:0", Ledger: ledger, Codec: sim.CodecMoov, LateAfter: bankLate, Faults: m.script,
	})
	b.rows = append(b.rows, row{m, name})
	b.links = append(b.links, map[string]any{
		"name": name, "scheme": "visa", "dialect": dialect, "address": address, "simulator_ledger": ledger,
		"answer_timeout": bankAnswer.String(), "send_within": "1s", "user_timeout": "1s", "max_original_life": "3s", "sign_on_timeout": "1s", "backoff_longest": "500ms",
	})
	b.merchants = append(b.merchants, map[string]any{"id": name, "name": name, "contracts": []map[string]any{{
		"scheme": "visa", "links": []string{name}, "terminal": "TERM0001", "acceptor": "PARCELS00000001", "acceptor_name": "PARCELS/PARIS/FR",
		"mcc": "9402", "acquirer": "497010", "country": "250", "currencies": []string{"EUR"},
	}}})
	b.scope = append(b.scope, name)
}

func (b *bank) ledger(link string) string { return filepath.Join(b.dir, link+".jsonl") }

// simulate runs a simulator until the test ends and returns where it listens.
func (b *bank) simulate(config sim.Config) string {
	address := make(chan net.Addr, 1)
	s, err := sim.New(config, sim.Deps{
		Now: time.Now, Listen: (&net.ListenConfig{}).Listen, Dialects: dialects.FS, Log: slog.New(slog.NewTextHandler(b.log, nil)),
		Listening: func(a net.Addr) { address <- a },
	})
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	b.t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			b.t.Error(err)
		}
	})
	select {
	case a := <-address:
		return a.String()
	case err := <-ended:
		b.t.Fatal(err)
		return ""
	}
}

// start runs the node on what was added.
func (b *bank) start() *instance {
	program, err := binary()
	if err != nil {
		b.t.Fatal(err)
	}
	port := portBase()
	d := &instance{t: b.t, logs: b.log, dir: b.dir}
	d.info.API, d.info.Admin = fmt.Sprintf("http://127.0.0.1:%d", port), fmt.Sprintf("http://127.0.0.1:%d", port+1)
	door := map[string]any{"listen": strings.TrimPrefix(d.info.API, "http://"), "budget": "7s"}
	maps.Copy(door, b.api)
	node := map[string]any{"id": "n1", "data_dir": "n1"}
	maps.Copy(node, b.node)
	config := filepath.Join(b.dir, "n1.yaml")
	b.write(config, map[string]any{
		"node":      node,
		"store":     b.store,
		"api":       door,
		"admin":     map[string]any{"listen": strings.TrimPrefix(d.info.Admin, "http://")},
		"vault":     map[string]any{"key_file": "vault.key", "pepper_file": "pepper"},
		"links":     b.links,
		"merchants": b.merchants,
		"gateways":  b.secrets(),
	})
	d.info.Key = b.keys[0]
	d.cmd = exec.Command(program, "serve", "--config", config)
	d.cmd.Stderr = d.logs
	if err := d.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		_ = d.stop()
		if b.t.Failed() {
			b.t.Logf("the last of the logs:\n%s", tail(d.logs.String(), 8000))
		}
	})
	eventually(b.t, 20*time.Second, "the API answers", func() bool {
		response, err := http.Get(d.info.API + "/v1/links")
		if err == nil {
			response.Body.Close()
		}
		return err == nil
	})
	return d
}

// secrets makes the key files and the gateways' keys, and returns the gateways.
func (b *bank) secrets() []map[string]any {
	pepper := rand.Text() + rand.Text()
	hasher, err := merchant.NewHasher([]byte(pepper))
	if err == nil {
		err = os.WriteFile(filepath.Join(b.dir, "pepper"), []byte(pepper), 0o600)
	}
	if err == nil {
		err = vault.CreateKeyFile(filepath.Join(b.dir, "vault.key"), rand.Reader)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	if len(b.gateways) == 0 {
		b.gateways = [][]string{b.scope}
	}
	var all []map[string]any
	for i, scope := range b.gateways {
		key, err := merchant.NewKey(rand.Reader)
		if err != nil {
			b.t.Fatal(err)
		}
		b.keys = append(b.keys, key)
		all = append(all, map[string]any{"id": fmt.Sprint("g", i+1), "key_hashes": []string{hasher.Hash([]byte(key)).String()}, "merchants": scope})
	}
	return all
}

func (b *bank) write(path string, v any) {
	raw, err := yaml.Marshal(v)
	if err == nil {
		err = os.WriteFile(path, raw, 0o600)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}
