package main_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"authswitch/merchant"
	"authswitch/vault"
)

// goodConfig is a whole configuration; the tables below break it one place at
// a time. Its hash is of no key.
const goodConfig = `node:
  id: n1
  data_dir: data
api:
  listen: 127.0.0.1:8080
admin:
  listen: 127.0.0.1:8081
vault:
  key_file: vault.key
  pepper_file: pepper
links:
  - name: cb-a
    scheme: cb
    dialect: cb
    address: 127.0.0.1:9001
  - name: visa-a
    scheme: visa
    dialect: visa
    address: 127.0.0.1:9002
    window: 512
merchants:
  - id: parcels
    name: Parcels
    time_zone: Europe/Paris
    contracts:
      - scheme: cb
        links: [cb-a]
        terminal: TERM0001
        acceptor: PARCELS00000001
        acceptor_name: PARCELS/PARIS/FR
        mcc: "9402"
        acquirer: "012345"
        country: "250"
        currencies: [EUR]
        channels: [ecommerce]
gateways:
  - id: shop
    key_hashes: [5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9]
    merchants: [parcels]
rules:
  - name: mornings
    channels: [ecommerce]
    prefer: [cb-a]
`

// pepper is the secret that the files of these tests hold.
const testPepper = "pepper-of-a-test-7b1f6c1e2d3a4958"

// writeConfig lays a configuration out as an operator would.
func writeConfig(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := vault.CreateKeyFile(filepath.Join(dir, "vault.key"), bytes.NewReader(bytes.Repeat([]byte{7}, 64))); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "pepper"), []byte(testPepper), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "node.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A sound file is said to be.
func TestConfigCheck(t *testing.T) {
	out, errs, code := run(t, "config", "check", "--config", writeConfig(t, goodConfig))
	if code != 0 || out != "ok\n" {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
}

// Every fault has its line here: what is replaced, by what, and what is said.
func TestConfigFaults(t *testing.T) {
	for _, c := range []struct{ old, new, want string }{
		{"node:", "colour: blue\nnode:", `line 1: unknown key "colour"`},
		{"window: 512", "windows: 512", `line 20: unknown key "windows"`},
		{"mcc:", "merchant_category: \"1\"\n        mcc:", `line 31: unknown key "merchant_category"`},
		{"window: 512", "window: many", "line 20: not a whole number"},
		{"window: 512", "answer_timeout: soon", "line 20: not a duration such as 10s"},
		{"window: 512", "private_network: perhaps", "line 20: not true or false"},
		{"[cb-a]\n        terminal", "{a: b}\n        terminal", "line 27: not a list"},
		{"api:\n  listen: 127.0.0.1:8080", "api: 8080", "line 4: not a section of keys"},
		{"  id: n1", "  id: n1\n  id: n2", `line 3: mapping key "id" already defined at line 2`},
		{"node:", "node: [", "did not find expected"},
		{"rules:", "---\nrules:", "second document"},
		{"node:", "profile: test\nnode:", `profile: "test" is neither development nor production`},
		{"  id: n1\n", "", "node.id: needed"},
		{"  id: n1", "  id: " + strings.Repeat("n", 65), "store: node: a name of 1 to 64 bytes"},
		{"  data_dir: data\n", "", "node.data_dir: needed"},
		{"  key_file: vault.key\n", "", "vault.key_file: needed"},
		{"  pepper_file: pepper\n", "", "vault.pepper_file: needed"},
		{"key_file: vault.key", "key_file: none.key", "vault.key_file: "},
		{"pepper_file: pepper", "pepper_file: none", "vault.pepper_file: "},
		{"  listen: 127.0.0.1:8080", "  listen: here", "api.listen: address here: missing port"},
		{"  listen: 127.0.0.1:8081", "  listen: there", "admin.listen: address there: missing port"},
		{"  listen: 127.0.0.1:8080", "  body_bytes: -1", "api.body_bytes: must not be negative"},
		{"  listen: 127.0.0.1:8080", "  page_size: 5000", "api.page_size: is too large: at most 1000"},
		{"  listen: 127.0.0.1:8080", "  certificate_file: c.pem", "api.certificate_file, key_file: certificate and key go together"},
		{"  listen: 127.0.0.1:8080", "  certificate_file: c.pem\n  key_file: k.pem", "api.certificate_file, key_file: open"},
		{"  listen: 127.0.0.1:8080", "  budget: 2s", `link "cb-a": answer_timeout is 10s; the gateway, whose api.budget is 2s`},
		{"links:", "store:\n  key_retention: 1h\nlinks:", "store: key_retention: 1h0m0s is less than the 24h"},
		{"links:", "store:\n  queue_commands: -1\nlinks:", "store: queue_commands: -1 is negative"},
		{"name: cb-a", "name: \"\"", `link "": name is missing`},
		{"name: visa-a", "name: cb-a", `link "cb-a": named twice`},
		{"scheme: visa", "scheme: vista", `link "visa-a": scheme "vista" is unknown`},
		{"dialect: visa", "dialect: klingon", `link "visa-a": dialect: `},
		{"    dialect: visa\n", "", `link "visa-a": dialect is missing`},
		{"address: 127.0.0.1:9002", "address: nine", `link "visa-a": address: address nine: missing port`},
		{"window: 512", "window: 9000", `link "visa-a": window is 9000; it must be 1 to 8192`},
		{"window: 512", "echo_timeout: 1ms", `link "visa-a": echo_timeout is 1ms; it must be 10ms to 24h`},
		{"window: 512", "backoff_shortest: 1m", `link "visa-a": backoff_longest is under backoff_shortest`},
		{"window: 512", "tls: {min_version: \"1.1\"}", `link "visa-a": tls: min_version "1.1" is neither 1.2 nor 1.3`},
		{"window: 512", "tls: {ca_file: none.pem}", `link "visa-a": tls: ca_file: open`},
		{"id: parcels", "id: PARCELS", `merchant "PARCELS": id must be`},
		{"Europe/Paris", "Europe/Parys", `merchant "parcels": time_zone: unknown time zone Europe/Parys`},
		{"- scheme: cb", "- scheme: cbb", `merchant "parcels", scheme "cbb": unknown scheme`},
		{"links: [cb-a]", "links: [cb-z]", `merchant "parcels", scheme "cb": no link "cb-z"`},
		{"links: [cb-a]", "links: []", `merchant "parcels", scheme "cb": 0 links; 1 to `},
		{"terminal: TERM0001", "terminal: TERM000001", `merchant "parcels", scheme "cb": terminal "TERM000001" is not 1 to 8`},
		{"mcc: \"9402\"", "mcc: \"94\"", `mcc "94" is not 4 to 4 digits`},
		{"currencies: [EUR]", "currencies: [ECU]", `merchant "parcels", scheme "cb": currencies: "ECU"`},
		{"channels: [ecommerce]\ngateways", "channels: [fax]\ngateways", `merchant "parcels", scheme "cb": channels: "fax" is unknown`},
		{"country: \"250\"", "country: \"250\"\n        capture_by: fax", `merchant "parcels", scheme "cb": capture_by: "fax" is neither advice, file nor batch_upload`},
		{"country: \"250\"", "country: \"250\"\n        capture_by: batch_upload", `scheme "cb": capture_by: batch_upload: the dialect of link "cb-a" has no batch upload; take advice or file`},
		{"        acceptor_name: PARCELS/PARIS/FR\n", "", `merchant "parcels", scheme "cb": acceptor_name: the dialect of link "cb-a" needs it in every payment`},
		{"dialect: cb\n", "dialect: ifsf\n    cut_over: \"25:00\"\n", `link "cb-a": cut_over: "25:00" is not HH:MM`},
		{"country: \"250\"", "country: \"250\"\n        cvv: always", `cvv: "always" is none of optional, required, never`},
		{"country: \"250\"", "country: \"250\"\n        max_amount: -1", "max_amount -1 is not between 0 and"},
		{"5feceb66", "beef", `gateway "shop": key_hashes[0]: not a key hash`},
		{"    merchants: [parcels]", "    merchants: [letters]", `gateway "shop": merchant "letters": no such merchant`},
		{"    merchants: [parcels]", "    merchants: [parcels]\n    burst: -1", `gateway "shop": rate_per_second, burst: must not be negative`},
		{"prefer: [cb-a]", "prefer: [cb-z]", `rule "mornings": no contract uses link "cb-z"`},
		{"prefer: [cb-a]", "amount_to: 5", `rule "mornings": exactly one of prefer, avoid and deny`},
		{"rules:", "bins: none.csv\nrules:", "bins: open"},
		{"node:", "hsm: {}\nnode:", "hsm.endpoints: 0; 1 to 16 are needed"},
		{"node:", "hsm: {endpoints: [{unix: run.sock, address: h:1}]}\nnode:", "hsm.endpoints[0].unix: either this or address"},
		{"node:", "hsm: {endpoints: [{address: \"h:1\"}]}\nnode:", "hsm.endpoints[0].tls: needed"},
		{"node:", "hsm: {endpoints: [{address: h, tls: {ca_file: a, cert_file: b}}]}\nnode:", "hsm.endpoints[0].tls.key_file: needed"},
		{"node:", "hsm: {endpoints: [{unix: " + strings.Repeat("x", 120) + "}]}\nnode:", "a socket's path has at most 107"},
		{"node:", "hsm: {endpoints: [{unix: run.sock}], silence: 1ms}\nnode:", "hsm.silence: 1ms is not from"},
		{"node:", "hsm: {endpoints: [{unix: run.sock}], window: -1}\nnode:", "hsm.window: -1 is not from 1"},
		{"node:", "hsm: {endpoint: [{unix: run.sock}]}\nnode:", `unknown key "endpoint"`},
		{"node:", "profile: production\nnode:", `link "cb-a": neither tls nor private_network`},
		{"node:", "profile: production\nnode:", "hsm: needed; production seals cards under keys of a security module"},
		{"  listen: 127.0.0.1:8080\nadmin:", "  listen: 0.0.0.0:8080\nprofile: production\nadmin:", "api.listen: 0.0.0.0:8080 without tls"},
		{"  listen: 127.0.0.1:8081\n", "  listen: 0.0.0.0:8081\nprofile: production\n", "admin.listen: 0.0.0.0:8081; production keeps"},
		{"window: 512", "simulator_ledger: x.jsonl\nprofile: production", `link "visa-a": simulator_ledger: production has no simulators`},
	} {
		text := strings.Replace(goodConfig, c.old, c.new, 1)
		if text == goodConfig {
			t.Errorf("%q is not in the file", c.old)
			continue
		}
		out, errs, code := run(t, "config", "check", "--config", writeConfig(t, text))
		if code != 1 || out != "" || !strings.Contains(errs, c.want) {
			t.Errorf("%q for %q: exit %d, %q; want %q", c.new, c.old, code, errs, c.want)
		}
	}
}

// A file is mended once: everything that is wrong with it is said in one go,
// in the words of the file and never in those of a secret that slipped in.
func TestConfigFaultsAllAtOnce(t *testing.T) {
	text := strings.NewReplacer(
		"window: 512", "window: "+testPepper,
		"  pepper_file: pepper", "  pepper: "+testPepper,
		"name: cb-a", "name: \"\"",
		"Europe/Paris", "Mars",
		"- id: shop", "- id: SHOP",
	).Replace(goodConfig)
	_, errs, code := run(t, "config", "check", "--config", writeConfig(t, text))
	for _, want := range []string{
		"line 20: not a whole number", `line 10: unknown key "pepper"`, "vault.pepper_file: needed",
		`link "": name is missing`, `time_zone: unknown time zone Mars`, `no link "cb-a"`, `gateway "SHOP": id`,
	} {
		if !strings.Contains(errs, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if code != 1 || strings.Contains(errs, testPepper) {
		t.Errorf("exit %d: %s", code, errs)
	}
	if lines := strings.Count(strings.TrimSpace(errs), "\n"); lines != 7 {
		t.Errorf("%d lines for 7 faults:\n%s", lines, errs)
	}
}

// What serve would use is shown, defaults and absolute paths included; secrets
// are not.
func TestConfigShow(t *testing.T) {
	path := writeConfig(t, goodConfig)
	out, errs, code := run(t, "config", "show", "--config", path)
	if code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	dir := filepath.Dir(path)
	for _, want := range []string{
		"profile: development", "budget: 15s", "answer_timeout: 10s", "commit_timeout: 5s", "window: 256", "window: 512",
		"key_file: " + filepath.Join(dir, "vault.key"), "data_dir: " + filepath.Join(dir, "data"), `acquirer: "012345"`, "5feceb66…",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing", want)
		}
	}
	hasher, err := merchant.NewHasher([]byte(testPepper))
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{
		testPepper, "5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9", strings.Repeat("\a", 8), hasher.Hash([]byte("x")).String(),
	} {
		if strings.Contains(out, secret) {
			t.Errorf("a secret is shown:\n%s", out)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
}

// The unit calls the program in words that it takes: a file that is missing is
// a failure, and never a mistake in the words.
func TestUnit(t *testing.T) {
	unit, err := os.ReadFile("../../deploy/systemd/authswitch.service")
	if err != nil {
		t.Fatal(err)
	}
	calls := 0
	for line := range strings.SplitSeq(string(unit), "\n") {
		_, command, _ := strings.Cut(line, "=/usr/bin/authswitch ")
		if command == "" {
			continue
		}
		calls++
		command = strings.Replace(command, "/etc/authswitch/node.yaml", filepath.Join(t.TempDir(), "none.yaml"), 1)
		_, errs, code := run(t, strings.Fields(command)...)
		if code != 1 || !strings.Contains(errs, "none.yaml: no such file") {
			t.Errorf("authswitch %s: exit %d: %s", command, code, errs)
		}
	}
	if calls != 2 {
		t.Errorf("the unit calls the program %d times; check and serve were expected", calls)
	}
}
