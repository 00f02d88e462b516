package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestThreeNodesExample holds the example of deploy/three-nodes against the
// program, with the files that docs/operations.md makes.
func TestThreeNodesExample(t *testing.T) {
	dir := t.TempDir()
	if out, errs, code := run(t, "cluster", "certificates", filepath.Join(dir, "tls"), "n1", "n2", "n3"); code != 0 {
		t.Fatalf("certificates: %d %s%s", code, out, errs)
	}
	if out, errs, code := run(t, "cluster", "certificates", filepath.Join(dir, "tls"), "n4"); code != 0 {
		t.Fatalf("one more: %d %s%s", code, out, errs)
	}
	if out, errs, code := run(t, "config", "secrets", dir); code != 0 {
		t.Fatalf("secrets: %d %s%s", code, out, errs)
	}
	for from, to := range map[string]string{
		"n1.pem": "api.pem", "n1.key": "api.key", "ca.pem": "tls/hsm-ca.pem", "n2.pem": "tls/hsm-client.pem", "n2.key": "tls/hsm-client.key",
	} {
		content, err := os.ReadFile(filepath.Join(dir, "tls", from))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, to), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	example, err := os.ReadFile("../../deploy/three-nodes/node.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for n, name := range []string{"n1", "n2", "n3"} {
		node := strings.ReplaceAll(string(example), "/etc/authswitch", dir)
		node = strings.ReplaceAll(node, "/var/lib/authswitch", filepath.Join(dir, name))
		node = strings.NewReplacer("id: n1  ", "id: "+name+"  ", "address: 10.0.0.1:8082", "address: 10.0.0."+string(rune('1'+n))+":8082", "n1.pem", name+".pem", "n1.key", name+".key").Replace(node)
		file := filepath.Join(dir, name+".yaml")
		if err := os.WriteFile(file, []byte(node), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, errs, code := run(t, "config", "check", "--config", file); code != 0 {
			t.Errorf("%s: %d %s%s", name, code, out, errs)
		}
	}
}
