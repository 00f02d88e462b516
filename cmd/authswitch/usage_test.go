package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Every tool ends with 0 done, 1 failed or 2 usage. A mistake is said on
// standard error and leaves standard output, which scripts read, empty.
func TestExitCodes(t *testing.T) {
	config := writeConfig(t, goodConfig)
	secrets := t.TempDir()
	broken := writeConfig(t, strings.Replace(goodConfig, "id: n1", "idd: n1", 1))
	dir := t.TempDir()
	notes := filepath.Join(dir, "notes.txt")
	if err := os.WriteFile(notes, []byte("not what any tool reads"), 0o600); err != nil {
		t.Fatal(err)
	}
	none := filepath.Join(dir, "none")
	const nobody = "http://127.0.0.1:1" // nothing listens on port 1
	for _, c := range []struct {
		words string
		code  int
		says  string
	}{
		{"", 0, "Usage:"},
		{"--help", 0, "Exit codes: 0 done, 1 failed, 2"},
		{"help dialect lint", 0, "Usage:"},
		{"nonsense", 2, "no such command; there are "},
		{"confg", 2, "did you mean config?"},
		{"--nonsense", 2, "unknown flag"},
		{"version", 0, "authswitch "},
		{"version now", 2, "authswitch version"},
		{"completion bash", 0, "bash completion"},
		{"completion klingon", 2, "there are bash, fish, powershell, zsh"},
		{"completion bash please", 2, "authswitch completion bash"},
		{"config", 0, "Available Commands:"},
		{"config mend", 2, "there are api-key, check, reload, secrets, show"},
		{"config reload", 2, "--token-file is needed"},
		{"config reload --token-file " + none, 1, "no such file"},
		{"top --admin " + nobody, 1, "refused"},
		{"top now", 2, "authswitch top"},
		{"link drain", 2, "authswitch link drain LINK"},
		{"link drain cb-a", 2, "--token-file is needed"},
		{"transaction write-off auth_1 --reason x", 2, "--token-file is needed"},
		{"transaction tail", 2, "merchant"},
		{"message from-pcap " + notes, 1, "not a pcap"},
		{"message to-pcap " + notes, 2, "out"},
		{"config check --config " + config, 0, "ok"},
		{"config check --config " + broken, 1, `unknown key "idd"`},
		{"config check --config " + none, 1, "no such file"},
		{"config check here", 2, "authswitch config check"},
		{"config show --config " + config, 0, "data_dir:"},
		{"config show --config " + none, 1, "no such file"},
		{"config secrets " + secrets, 0, "vault.pepper_file: "},
		{"config secrets " + secrets, 1, "exists"},
		{"config api-key", 2, "pepper-file"},
		{"config api-key --pepper-file " + secrets + "/pepper", 0, "gateways[].key_hashes: "},
		{"serve --config " + none, 1, "no such file"},
		{"serve --config " + broken, 1, `unknown key "idd"`},
		{"serve now", 2, "authswitch serve"},
		{"dev --port-base 80", 2, "ports must lie between"},
		{"dev --port-base many", 2, "invalid argument"},
		{"dev --sim-codec jpos", 2, "fast or moov"},
		{"dialect list", 0, "visa"},
		{"dialect list all", 2, "authswitch dialect list"},
		{"dialect lint visa", 0, "nothing found"},
		{"dialect lint klingon", 1, "1 findings"},
		{"dialect doc cb", 0, "DE"},
		{"dialect doc klingon", 1, "klingon"},
		{"dialect doc", 2, "NAME|FILE"},
		{"dialect speak", 2, "there are doc, lint, list"},
		{"message view " + notes, 1, ""},
		{"message view " + none, 1, "no such file"},
		{"message view a b", 2, "authswitch message view"},
		{"message diff a", 2, "FILE FILE"},
		{"message validate --dialect klingon " + notes, 1, "klingon"},
		{"message validate " + notes, 1, ""},
		{"message translate", 2, "there are diff, from-pcap, to-pcap, validate, view"},
		{"route table --config " + config, 0, "parcels"},
		{"route table --config " + broken, 1, `unknown key "idd"`},
		{"route table", 2, "--config is needed"},
		{"route explain --config " + config, 2, "--merchant"},
		{"route guess", 2, "there are table and explain"},
		{"sim run " + none, 1, "no such file"},
		{"sim run " + notes, 1, "scenario"},
		{"sim run", 2, "SCENARIO"},
		{"sim stop", 2, "there are run"},
		{"bench run", 2, "--api is required"},
		{"bench run --api " + nobody + " --key k --answers " + none + "/x", 1, "no such file"},
		{"bench run --rate fast", 2, "invalid argument"},
		{"bench verify", 2, "--api is required"},
		{"bench verify --api " + nobody + " --key k --answers " + none, 1, "no such file"},
		{"bench report", 2, ""},
		{"bench report " + none, 1, "no such file"},
		{"bench compare " + none, 2, ""},
		{"bench compare " + none + " " + none, 1, "no such file"},
		{"bench ramp --from x", 2, "invalid argument"},
		{"bench mark", 2, "there are run, ramp,"},
		{"link list", 2, "--key is needed"},
		{"link list --key k --api " + nobody, 1, "connection refused"},
		{"link list --key @" + none, 1, "no such file"},
		{"link cut", 2, "there are drain, echo, enable, exchange-keys, list, show, sign-off, sign-on"},
		{"authorize --merchant m", 2, `"amount" not set`},
		{"authorize --merchant m --amount 1000 --key k", 2, "standard input: a line with card number"},
		{"authorize 1000", 2, "authswitch authorize"},
		{"transaction list --key k", 2, `"merchant" not set`},
		{"transaction list --merchant m", 2, "--key is needed"},
		{"transaction list --merchant m --key k --api " + nobody, 1, "connection refused"},
		{"transaction show", 2, "authswitch transaction show ID"},
		{"transaction show x --key k --api " + nobody, 1, "connection refused"},
		{"transaction reverse", 2, "authswitch transaction reverse ID"},
		{"transaction reverse x --key k --api " + nobody, 1, "connection refused"},
		{"transaction export --merchant m --key k --api " + nobody, 1, "connection refused"},
		{"transaction export --key k", 2, `"merchant" not set`},
		{"transaction refund", 2, "there are export, list, reverse, show"},
	} {
		out, errs, code := run(t, strings.Fields(c.words)...)
		said, silent := out, errs
		if c.code != 0 {
			said, silent = errs, out
		}
		if code != c.code || !strings.Contains(said, c.says) || said == "" {
			t.Errorf("authswitch %s: exit %d, want %d and %q:\n%s%s", c.words, code, c.code, c.says, out, errs)
		}
		if silent != "" && !strings.HasPrefix(c.words, "dialect lint") && !strings.HasPrefix(c.words, "message v") {
			t.Errorf("authswitch %s: the other stream says %q", c.words, silent)
		}
	}
}

// Words that do not belong are not repeated: one may be a card number that was
// pasted into the wrong place.
func TestWordsAreNotRepeated(t *testing.T) {
	for _, words := range []string{
		"4970100000000154", "version 4970100000000154", "dialect 4970100000000154", "dialect list 4970100000000154", "config check 4970100000000154",
		"message view a 4970100000000154", "message 4970100000000154", "link 4970100000000154", "link list 4970100000000154", "transaction 4970100000000154",
		"transaction show a 4970100000000154", "sim 4970100000000154", "sim run a 4970100000000154", "bench 4970100000000154", "bench report a 4970100000000154",
		"bench run 4970100000000154", "route 4970100000000154", "route table 4970100000000154", "route explain 4970100000000154", "completion 4970100000000154",
		"serve 4970100000000154", "dev 4970100000000154", "authorize 4970100000000154",
	} {
		out, errs, code := run(t, strings.Fields(words)...)
		if code != 2 || strings.Contains(out+errs, "4970100000000154") {
			t.Errorf("authswitch %s: exit %d: %s%s", words, code, out, errs)
		}
	}
}

// The scripts are ones that shells take, and the program answers them.
func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		out, errs, code := run(t, "completion", shell)
		if code != 0 || !strings.Contains(out, "__complete") {
			t.Errorf("%s: exit %d: %s", shell, code, errs)
		}
	}
	script, _, _ := run(t, "completion", "bash")
	check := exec.Command("bash", "-n")
	check.Stdin = strings.NewReader(script)
	if said, err := check.CombinedOutput(); err != nil {
		t.Errorf("bash does not take the script: %v\n%s", err, said)
	}
	for _, c := range []struct{ words, want string }{
		{"", "serve dev config link transaction route dialect message sim bench version completion"},
		{"config|", "check show"},
		{"bench|", "run ramp report compare verify"},
		{"bench|run|--", "--rate --duration --json"},
	} {
		out, _, _ := run(t, append([]string{"__complete"}, strings.Split(c.words+"|", "|")[:strings.Count(c.words, "|")+1]...)...)
		for word := range strings.FieldsSeq(c.want) {
			if !strings.Contains("\n"+out, "\n"+word) {
				t.Errorf("after %q: %s is not offered:\n%s", c.words, word, out)
			}
		}
	}
}
