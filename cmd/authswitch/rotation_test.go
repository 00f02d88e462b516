package main_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"authswitch/cmd/authswitch/hsmcmd"
	"authswitch/hsm"
)

// One round is part of `make test`; `make soak-keys` runs twenty.
var rotateRounds = flag.Int("rotate.rounds", 1, "rounds of key rotations under load")

// keyLine is a key as `hsm keys list -o json` and `show` print it.
type keyLine struct {
	ID, Link, Usage, State, Letters, KCV, Block string
	Version                                     uint32
	Master                                      int `json:"lmk"`
	Officers                                    []string
	Cards                                       int `json:"stored_cards"`
}

// TestRotationUnderLoad rotates the data key, the local master key, and the PIN
// and MAC keys of a link with a simulator that holds the other end, by the 0800
// exchange of that link, while authorizations run, every fifth of them with a
// PIN and MACs on that link: none is declined, and no MAC is bad.
func TestRotationUnderLoad(t *testing.T) {
	hsmd(t)
	d := startDev(t)
	cards := d.mixedCards(t)
	admin, stop, err := hsmcmd.Connect(t.Context(), hsm.Config{Endpoints: []hsm.EndpointConfig{{Unix: filepath.Join(d.dir, "hsm", "admin.sock")}}, Timeout: 20 * time.Second}.WithDefaults())
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	for round := range *rotateRounds {
		started := time.Now()
		report := rotateRound(t, d, admin, cards, round)
		t.Logf("round %d: %s, %.1f s", round+1, report, time.Since(started).Seconds())
		if t.Failed() {
			return
		}
	}
}

// mixedCards is a file of what to pay with: the four schemes in e-commerce, and a
// chip card at a counter, with its PIN.
func (d *instance) mixedCards(t *testing.T) string {
	t.Helper()
	counter := d.counterCard(t)
	lines := make([]string, 0, 5)
	for _, c := range []struct{ number, more string }{{cbCard, `,"brand":"cb"`}, {visaCard, ""}, {mastercardCard, ""}, {amexCard, ""}} {
		lines = append(lines, fmt.Sprintf(`{"channel":"ecommerce","card":{"number":%q,"expiry":"3012"}%s}`, c.number, c.more))
	}
	file := filepath.Join(t.TempDir(), "cards")
	if err := os.WriteFile(file, []byte(strings.Join(append(lines, counter), "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// counterCard is what a terminal of dev sends of the test card with its PIN.
func (d *instance) counterCard(t *testing.T) string {
	t.Helper()
	line, stderr, code := run(t, "sim", "terminal", filepath.Join(d.dir, "hsm", "terminals.p0"))
	if code != 0 {
		t.Fatal(stderr)
	}
	return line
}

// keysDoor asks the operators' door to the keys.
func (d *instance) keysDoor(method, path string, key map[string]any, v any) {
	d.t.Helper()
	d.door(method, "/operate/keys"+path, key, v)
}

// door asks the operators' door as the tools do, without the cost of a process
// for each question: the load must be what is busy.
func (d *instance) door(method, path string, key map[string]any, v any) {
	d.t.Helper()
	said := map[string]any{"operator": "ana", "reason": "rotation"}
	if key != nil {
		said["key"] = key
	}
	body, err := json.Marshal(said)
	if err != nil {
		d.t.Fatal(err)
	}
	request, err := http.NewRequest(method, d.info.Admin+path, bytes.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+string(mustRead(d.t, filepath.Join(d.info.Nodes[0].DataDir, "operator.token"))))
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		d.t.Error(err)
		return
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode == http.StatusOK && v != nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil || answer.StatusCode != http.StatusOK {
		d.t.Errorf("%s %s: %d %s %v", method, path, answer.StatusCode, b, err)
	}
}

// keys lists the keys that a filter lets through.
func (d *instance) keys(filter func(k *keyLine) bool) []keyLine {
	d.t.Helper()
	var all, kept []keyLine
	d.keysDoor(http.MethodGet, "", nil, &all)
	for i := range all {
		if filter(&all[i]) {
			kept = append(kept, all[i])
		}
	}
	return kept
}

// rotateRound rotates everything once under one load.
func rotateRound(t *testing.T, d *instance, admin *hsm.Client, cards string, round int) string {
	t.Helper()
	answers := filepath.Join(d.dir, fmt.Sprintf("rotated-%d.jsonl", round))
	wait := d.load(t, "--rate", fmt.Sprint(*soakRate), "--duration", "8s", "--poisson", "--cards", cards, "--answers", answers)
	time.Sleep(time.Second) // the load is under way

	was := d.activeKeys("cb-b")
	began := d.zoneCounters()
	d.door(http.MethodPost, "/operate/links/cb-b/exchange-keys", nil, nil)
	now := d.activeKeys("cb-b")
	for _, usage := range []string{"pin", "mac"} {
		if now[usage].ID == was[usage].ID || now[usage].Version <= was[usage].Version {
			t.Errorf("round %d: the %s key is still %s", round+1, usage, now[usage].ID)
		}
		if before := d.keys(func(k *keyLine) bool { return k.ID == was[usage].ID }); len(before) != 1 || before[0].State != "decrypt-only" {
			t.Errorf("round %d: no overlap: the %s key before is %+v", round+1, usage, before)
		}
	}
	var data keyLine
	d.keysDoor(http.MethodPost, "/rotate/data", nil, &data)
	master, err := admin.NewMaster(0)
	if err != nil {
		t.Fatalf("round %d: another local master key: %v", round+1, err)
	}
	var wrapped struct{ Wrapped int }
	d.keysDoor(http.MethodPost, "/rotate/lmk", nil, &wrapped)
	// Not the one before it: a message on its way may still have a block of the
	// ring as it was a moment ago.
	if master > 2 {
		if err := admin.RetireMaster(master-2, 0); err != nil {
			t.Errorf("round %d: destroy lmk/%d: %v", round+1, master-2, err)
		}
	}
	// Once more, with all that is on its way wrapped under the new master key.
	d.door(http.MethodPost, "/operate/links/cb-b/exchange-keys", nil, nil)
	result := wait()
	if late := d.keys(func(k *keyLine) bool { return k.State != "destroyed" && k.State != "retired" && k.Master != master }); len(late) != 0 {
		t.Errorf("round %d: not under lmk/%d: %+v", round+1, master, late)
	}
	if now := d.keys(func(k *keyLine) bool { return k.Link == "vault" && k.Usage == "data" && k.State == "active" }); len(now) != 1 || now[0].ID != data.ID {
		t.Errorf("round %d: sealed under %+v, not %s", round+1, now, data.ID)
	}
	if result.Answered != result.Sent || result.Approved == 0 || result.Declined != 0 || result.Errors["security_unavailable"]+result.Errors["pin_refused"] != 0 {
		t.Errorf("round %d: %+v", round+1, result)
	}
	used := d.zoneCounters().since(began)
	if used.bad != 0 || used.failed != 0 || used.exchanged != 4 || used.translated < float64(result.Sent)/10 || used.verified < used.translated {
		t.Errorf("round %d: %+v", round+1, used)
	}
	stdout, stderr, code := run(t, "bench", "verify", "--api", d.info.API, "--key", d.info.Key, "--answers", answers, "--settle", "60s")
	if code != 0 {
		t.Errorf("round %d: verify says\n%s%s", round+1, tail(stdout, 3000), tail(stderr, 1000))
	}
	return fmt.Sprintf("%d sent in 8 s, %d approved, %d declined, %d unknown, %d retried %v; lmk/%d; %.0f keys exchanged, %.0f PINs translated, %.0f MACs made, %.0f verified",
		result.Sent, result.Approved, result.Declined, result.Unknown, result.Retried, result.Errors, master, used.exchanged, used.translated, used.made, used.verified)
}

// loadResult is what `bench run --json` prints, as far as these tests look.
type loadResult struct {
	Offered, Sent, Answered, Approved, Declined, Unknown, Retried int
	Errors                                                        map[string]int
}

// load starts `bench run`; what it returns waits for its end.
func (d *instance) load(t *testing.T, args ...string) func() loadResult {
	t.Helper()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(program, append([]string{"bench", "run", "--api", d.info.API, "--key", d.info.Key, "--json"}, args...)...)
	var out, progress bytes.Buffer
	c.Stdout, c.Stderr = &out, &progress
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return func() (r loadResult) {
		t.Helper()
		if err := c.Wait(); err != nil {
			t.Fatalf("load: %v\n%s", err, tail(progress.String(), 2000))
		}
		if err := json.Unmarshal(out.Bytes(), &r); err != nil {
			t.Fatalf("load: %v in %q", err, out.String())
		}
		return r
	}
}

// zoneCounters is what a node has done with the keys of its links so far.
type zoneCounters struct{ translated, made, verified, failed, bad, exchanged float64 }

func (d *instance) zoneCounters() zoneCounters {
	metrics := d.metrics() // one reading: the load goes on
	of := func(operation, result string) float64 {
		return sumOf(d.t, metrics, "zone_operations_total", `operation="`+operation+`",result="`+result+`"`)
	}
	c := zoneCounters{
		translated: of("translate_pin", "ok"), made: of("generate_mac", "ok"), verified: of("verify_mac", "ok"),
		bad: sumOf(d.t, metrics, "link_bad_macs_total", ""), exchanged: sumOf(d.t, metrics, "zone_key_exchanges_total", `result="active"`),
	}
	for _, result := range []string{"refused", "unavailable", "failed"} {
		c.failed += sumOf(d.t, metrics, "zone_operations_total", `result="`+result+`"`)
	}
	return c
}

func (c zoneCounters) since(b zoneCounters) zoneCounters {
	return zoneCounters{c.translated - b.translated, c.made - b.made, c.verified - b.verified, c.failed - b.failed, c.bad - b.bad, c.exchanged - b.exchanged}
}

// activeKeys are a link's active keys by usage.
func (d *instance) activeKeys(link string) map[string]keyLine {
	out := map[string]keyLine{}
	for _, k := range d.keys(func(k *keyLine) bool { return k.Link == link && k.State == "active" }) {
		out[k.Usage] = k
	}
	return out
}
