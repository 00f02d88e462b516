package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"authswitch/card"
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
}

// TestRotationUnderLoad rotates the data key, the local master key, and a link's
// zone PIN and MAC keys while authorizations run: none is declined, and while a
// link's key changes every PIN is still translated and every MAC verified under
// the current key or the one before it.
func TestRotationUnderLoad(t *testing.T) {
	hsmd(t)
	d := startDev(t)
	zoneKeys(t, d, "cb-a")
	admin, stop, err := hsmcmd.Connect(t.Context(), hsm.Config{Endpoints: []hsm.EndpointConfig{{Unix: filepath.Join(d.dir, "hsm", "admin.sock")}}, Timeout: 20 * time.Second}.WithDefaults())
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	for round := range *rotateRounds {
		started := time.Now()
		report := rotateRound(t, d, admin, round)
		t.Logf("round %d: %s, %.1f s", round+1, report, time.Since(started).Seconds())
		if t.Failed() {
			return
		}
	}
}

// keysDoor asks the operators' door as the tools do, without the cost of a
// process for each question: the load must be what is busy.
func (d *instance) keysDoor(method, path string, key map[string]any, v any) {
	d.t.Helper()
	body, err := json.Marshal(map[string]any{"operator": "ana", "reason": "rotation", "key": key})
	if err != nil {
		d.t.Fatal(err)
	}
	request, err := http.NewRequest(method, d.info.Admin+"/operate/keys"+path, bytes.NewReader(body))
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
	if err == nil && answer.StatusCode == http.StatusOK {
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

// change runs one of the commands that answer with a key.
func (d *instance) change(words ...string) keyLine {
	d.t.Helper()
	out, stderr, code := d.operate(append(words, "-o", "json")...)
	var k keyLine
	if err := json.Unmarshal([]byte(out), &k); err != nil || code != 0 {
		d.t.Fatalf("%v: %v %s%s", words, err, out, stderr)
	}
	return k
}

// zoneKeys gives a link its key-encrypting keys, as a ceremony would, and first
// PIN and MAC keys.
func zoneKeys(t *testing.T, d *instance, link string) {
	t.Helper()
	have := d.keys(func(k *keyLine) bool { return k.Link == link && k.State == "active" })
	has := func(usage string) bool {
		for i := range have {
			if have[i].Usage == usage {
				return true
			}
		}
		return false
	}
	blocks := mustRead(t, filepath.Join(d.dir, "hsm", "test-keys.jsonl"))
	for line := range bytes.Lines(blocks) {
		var k struct{ Name, Attributes, KCV, Block string }
		if err := json.Unmarshal(line, &k); err != nil {
			t.Fatal(err)
		}
		usage := map[string]string{link + ".k0": "zone", link + ".k1": "zone-block"}[k.Name]
		if usage == "" || has(usage) {
			continue
		}
		file := filepath.Join(t.TempDir(), "block")
		if err := os.WriteFile(file, []byte(k.Block+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		in := d.change("hsm", "keys", "import", file, "--link", link, "--form", "stored", "--header", k.Attributes, "--kcv", k.KCV, "--second", "bruno")
		d.change("hsm", "keys", "activate", in.ID)
	}
	for usage, letters := range map[string]string{"pin": "P0TBE", "mac": "M3TCE"} {
		if !has(usage) {
			d.change("hsm", "keys", "activate", d.change("hsm", "keys", "generate", "--link", link, "--usage", usage, "--header", letters, "--bytes", "16").ID)
		}
	}
}

// rotateRound rotates everything once under one load.
func rotateRound(t *testing.T, d *instance, admin *hsm.Client, round int) string {
	t.Helper()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	answers := filepath.Join(d.dir, fmt.Sprintf("rotated-%d.jsonl", round))
	load := exec.Command(program, "bench", "run", "--api", d.info.API, "--key", d.info.Key, "--rate", fmt.Sprint(*soakRate),
		"--duration", "8s", "--poisson", "--answers", answers, "--json")
	var out, progress bytes.Buffer
	load.Stdout, load.Stderr = &out, &progress
	if err := load.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second) // the load is under way

	ctx, cancel := context.WithCancel(t.Context())
	traffic := zoneTraffic(ctx, t, d, "cb-a")
	var data keyLine
	d.keysDoor(http.MethodPost, "/rotate/data", nil, &data)
	for _, usage := range []string{"pin", "mac"} {
		var made keyLine
		d.keysDoor(http.MethodPost, "/generate", map[string]any{"link": "cb-a", "usage": usage}, &made)
		d.keysDoor(http.MethodPost, "/"+made.ID+"/activate", map[string]any{"overlap_seconds": 60}, &made)
	}
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
	if err := load.Wait(); err != nil {
		t.Fatalf("round %d: load: %v\n%s", round+1, err, tail(progress.String(), 2000))
	}
	cancel()
	operations := traffic()
	if late := d.keys(func(k *keyLine) bool { return k.State != "destroyed" && k.Master != master }); len(late) != 0 {
		t.Errorf("round %d: not under lmk/%d: %+v", round+1, master, late)
	}
	if now := d.keys(func(k *keyLine) bool { return k.Link == "vault" && k.Usage == "data" && k.State == "active" }); len(now) != 1 || now[0].ID != data.ID {
		t.Errorf("round %d: sealed under %+v, not %s", round+1, now, data.ID)
	}
	var result struct{ Sent, Answered, Approved, Declined, Unknown, Retried int }
	if err := json.Unmarshal(out.Bytes(), &result); err != nil {
		t.Fatalf("round %d: %v in %q", round+1, err, out.String())
	}
	if result.Answered != result.Sent || result.Approved == 0 || result.Declined != 0 {
		t.Errorf("round %d: %s", round+1, out.String())
	}
	stdout, stderr, code := run(t, "bench", "verify", "--api", d.info.API, "--key", d.info.Key, "--answers", answers, "--settle", "60s")
	if code != 0 {
		t.Errorf("round %d: verify says\n%s%s", round+1, tail(stdout, 3000), tail(stderr, 1000))
	}
	return fmt.Sprintf("%d sent, %d approved, %d declined, %d unknown, %d retried; lmk/%d; %d PINs and MACs", result.Sent, result.Approved, result.Declined, result.Unknown, result.Retried, master, operations)
}

// zoneTraffic translates PINs and makes and checks MACs under a link's keys as
// they are at each moment, until ctx ends; what it returns waits, and says how
// often.
func zoneTraffic(ctx context.Context, t *testing.T, d *instance, link string) func() int {
	t.Helper()
	module, stop, err := hsmcmd.Connect(t.Context(), hsm.Config{Endpoints: []hsm.EndpointConfig{{Unix: filepath.Join(d.dir, "hsm", "run.sock")}}, Timeout: 20 * time.Second}.WithDefaults())
	if err != nil {
		t.Fatal(err)
	}
	pan, err := card.ParsePAN([]byte("4111111111111111"))
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	count := 0
	done.Go(func() {
		defer stop()
		for ctx.Err() == nil {
			keys := d.blocks(link)
			pin, current := keys["pin active"], keys["mac active"]
			message, mac := []byte("a message that is on its way while the key changes"), make([]byte, 8)
			if err := module.GenerateMAC(mac, []byte(current.Block), hsm.PadZeros, 8, message, 0); err != nil {
				t.Errorf("MAC under %s: %v", current.ID, err)
			}
			// The acquirer's answer comes a little later: under the key of then, or before.
			later := d.blocks(link)
			var previous []byte
			if k, ok := later["mac decrypt-only"]; ok {
				previous = []byte(k.Block)
			}
			if err := module.VerifyMAC([]byte(later["mac active"].Block), previous, hsm.PadZeros, message, mac, 0); err != nil {
				t.Errorf("MAC under %s, checked under %s: %v", current.ID, later["mac active"].ID, err)
			}
			translated := make([]byte, 16)
			in := hsm.In{Key: []byte(pin.Block), Format: hsm.ISO0, Block: make([]byte, 8), PAN: &pan}
			if _, err := module.TranslatePIN(translated, in, hsm.Out{Key: []byte(pin.Block), Format: hsm.ISO0}, 0); err != nil && !strings.Contains(err.Error(), hsm.ErrRefused.Error()) {
				t.Errorf("PIN under %s: %v", pin.ID, err) // a block of zeros is no PIN: refused, and that is the key at work
			}
			count += 3
		}
	})
	return func() int { done.Wait(); return count }
}

// blocks are a link's keys by usage and state, the newest of each.
func (d *instance) blocks(link string) map[string]keyLine {
	out := map[string]keyLine{}
	for _, k := range d.keys(func(k *keyLine) bool { return k.Link == link }) {
		if was, ok := out[k.Usage+" "+k.State]; !ok || k.Version > was.Version {
			out[k.Usage+" "+k.State] = k
		}
	}
	return out
}
