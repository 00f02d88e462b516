package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A token whose disk is full: hsmd says what is wrong and what cures it, leaves
// nothing half made behind, and works once there is room. The disk is a real one,
// of 256 KiB, in a mount namespace of the test's own.
func TestTokenFull(t *testing.T) {
	p := newPlace(t, softConfig)
	p.write("softhsm2.conf", "directories.tokendir = "+filepath.Join(p.dir, "tokens")+"\nobjectstore.backend = file\nlog.level = ERROR\n")
	if err := os.Mkdir(filepath.Join(p.dir, "tokens"), 0o700); err != nil {
		t.Fatal(err)
	}
	p.write("second.yaml", softConfig+"audit: {key: 2}\n")
	p.write("script", `set -e
mount -t tmpfs -o size=256k,mode=0700 none tokens
"$HSMD" init --config hsmd.yaml
head -c 1000000 /dev/zero > tokens/fill 2>/dev/null || true
echo "== full"
"$HSMD" init --config second.yaml && echo "== it was made" || echo "== exit $?"
rm tokens/fill
"$HSMD" init --config second.yaml
"$HSMD" init --config hsmd.yaml
`)
	cmd := exec.Command("unshare", "--user", "--map-root-user", "--mount", "sh", "script")
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), "HSMD="+p.exe)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, after, _ := strings.Cut(string(out), "== full\n")
	full, mended, ok := strings.Cut(after, "== exit 1\n")
	if !ok || !strings.Contains(full, "token") || !strings.Contains(full, "room") {
		t.Errorf("the token full: %s", after)
	}
	if strings.Count(mended, "root of trust: SoftHSM project") != 2 || !strings.Contains(mended, "audit/2") {
		t.Errorf("with room again: %s", mended)
	}
}
