package main_test

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"math/bits"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Five seconds after payments at the counter have ended and nothing is owed, no
// card number, no track, no PIN block, as it came or as it left, and no clear key
// of a zone, a PIN, a MAC, a terminal or an issuer stands in the switch's memory.
// The node is then ended in the middle of a payment as a fault of the program
// would end it: it leaves no core. Then everything is killed, and nothing of it
// stands in what is on disk or was said.
func TestMarkersLeaveMemory(t *testing.T) {
	hsmd(t)
	if _, err := binary(); err != nil { // before the directory changes
		t.Fatal(err)
	}
	cores := coresAllowed(t)
	d := startDev(t)
	said := &lockedBuffer{}
	s := &search{}
	s.card(cbCard)
	s.traceback(cbCard)

	track := cbCard + "=30122011000000123"
	s.text("track 2", track)
	for round := range 2 { // under the keys of the start, and under those that an exchange brought
		if round == 1 {
			d.door(http.MethodPost, "/operate/links/cb-b/exchange-keys", nil, nil)
		}
		d.addKeys(t, s, round)
		d.markerTraffic(t, s, track, round, said)
	}
	eventually(t, 20*time.Second, "nothing is owed", func() bool { return d.metric("reversals_owed") == 0 })
	_, _ = io.WriteString(said, d.metrics())
	time.Sleep(5 * time.Second) // what the requirement gives the switch
	if len(s.needles) < 200 {
		t.Fatalf("only %d things to look for", len(s.needles))
	}
	s.memory(t, d.pid(), "node")
	control := &search{}
	control.text("merchant", d.info.Merchant)
	control.memory(t, d.pid(), "node")
	if len(control.found) == 0 || control.bytes < 1<<20 {
		t.Errorf("the search of memory finds nothing at all in %d bytes", control.bytes)
	}
	// The keys are where they belong, and the search finds them there.
	keys := &search{}
	d.addKeys(t, keys, 1)
	for _, file := range d.keyFiles(t) {
		before := len(keys.found)
		if keys.look(filepath.Base(file), mustRead(t, file)); len(keys.found) == before {
			t.Errorf("the search does not find the key in %s", file)
		}
	}

	d.crashMidway(t, cores)
	d.killAll(t)
	if err := s.treeBut(d.dir, d.keyFiles(t)); err != nil {
		t.Fatal(err)
	}
	if err := s.tree(cores); err != nil {
		t.Fatal(err)
	}
	if s.rows < 100 {
		t.Errorf("only %d rows were searched", s.rows)
	}
	s.look("logs", []byte(d.logs.String()))
	s.look("answers and metrics", []byte(said.String()))
	for _, f := range s.found {
		t.Error(f)
	}
}

// dukptCard is what a terminal with DUKPT sends, format 4 under AES.
func (d *instance) dukptCard(t *testing.T) string {
	t.Helper()
	line, stderr, code := run(t, "sim", "terminal", filepath.Join(d.dir, "hsm", "terminals.b0"), "--ksn", "123456789012345600000001")
	if code != 0 {
		t.Fatal(stderr)
	}
	return line
}

// markerTraffic pays at the counter, with a PIN under a zone key and under DUKPT:
// approved, declined, unanswered.
func (d *instance) markerTraffic(t *testing.T, s *search, track string, round int, said io.Writer) {
	t.Helper()
	var all sync.WaitGroup
	for name, card := range map[string]string{"zone": d.counterCard(t), "dukpt": d.dukptCard(t)} { // format 4 has a block of its own each time
		s.block("PIN block of a terminal, "+name, textAfter(card, `"block":"`))
		card = strings.Replace(card, cbCard+"=30122011000000000", track, 1)
		for i, amount := range []int{1000, 1051, 1068, 1000} {
			all.Go(func() {
				body := fmt.Sprintf(`{"merchant":%q,"reference":"TILL-1","amount":{"value":%d,"currency":"EUR"},%s`, d.info.Merchant, amount, card[1:])
				a, err := d.tryAsk(http.MethodPost, "/v1/authorizations", fmt.Sprintf("marker-%s-%d-%d", name, round, i), body)
				want := map[int]string{1000: "approved", 1051: "declined"}[amount]
				if err != nil || a.status == http.StatusCreated && a.field("status") != want || a.status != http.StatusCreated && (amount != 1068 || a.status != http.StatusGatewayTimeout) {
					t.Errorf("%s, %d: %d %s %v", name, amount, a.status, a.body, err)
				}
				_, _ = io.WriteString(said, a.body)
			})
		}
	}
	all.Wait()
}

// keyFiles are the files in which the other ends of dev's keys stand in clear:
// the simulators', the terminals', and the vault's key file.
func (d *instance) keyFiles(t *testing.T) []string {
	t.Helper()
	files := []string{filepath.Join(d.dir, "cb-b.keys"), filepath.Join(d.dir, "cb-b.kept"), filepath.Join(d.dir, "hsm", "terminals.p0"), filepath.Join(d.dir, "hsm", "terminals.b0")}
	for _, pattern := range []string{"*.k0", "*.k1"} {
		more, err := filepath.Glob(filepath.Join(d.dir, "hsm", pattern))
		if err != nil || len(more) != len(d.info.Links) {
			t.Fatalf("%s: %v %v", pattern, more, err)
		}
		files = append(files, more...)
	}
	return files
}

// addKeys adds every clear key that dev's files have, and the blocks that leave
// under the PIN key of now.
func (d *instance) addKeys(t *testing.T, s *search, round int) {
	t.Helper()
	for _, file := range d.keyFiles(t) {
		name, text := filepath.Base(file), string(mustRead(t, file))
		if !strings.HasPrefix(name, "cb-b.ke") {
			s.key(t, "key "+name, strings.TrimSpace(text))
			continue
		}
		for _, part := range []string{"zone", "chip", "pin", "mac"} {
			digits := textAfter("\n"+text, "\n"+part+`: "`)
			if digits == "" {
				continue
			}
			s.key(t, fmt.Sprintf("%s key of %s, %d", part, name, round), digits)
			if part != "pin" {
				continue
			}
			file := filepath.Join(t.TempDir(), "zone")
			if err := os.WriteFile(file, []byte(digits), 0o600); err != nil {
				t.Fatal(err)
			}
			line, stderr, code := run(t, "sim", "terminal", file)
			if code != 0 {
				t.Fatal(stderr)
			}
			s.block(fmt.Sprintf("PIN block that leaves, %d", round), textAfter(line, `"block":"`))
		}
	}
}

// key adds a key as bytes and as digits, and with the parity that a DES key
// would get.
func (s *search) key(t *testing.T, what, digits string) {
	t.Helper()
	raw, err := hex.DecodeString(digits)
	if err != nil || len(raw) < 16 {
		t.Fatalf("%s is no key", what)
	}
	odd := slices.Clone(raw)
	for i, b := range odd {
		odd[i] = b ^ byte(bits.OnesCount8(b)&1^1)
	}
	for _, k := range [][]byte{raw, odd, raw[:8], odd[:8]} {
		s.binary(what, k)
		s.text(what+" as digits", strings.ToUpper(hex.EncodeToString(k)))
		s.text(what+" as digits", hex.EncodeToString(k))
	}
}

// block adds a PIN block as bytes and as digits.
func (s *search) block(what, digits string) {
	raw, err := hex.DecodeString(digits)
	if err != nil {
		panic(err) // the program printed it
	}
	s.binary(what, raw)
	s.text(what+" as digits", digits)
}

// traceback adds a card number as the runtime would print it among a function's
// arguments, which are ten at most.
func (s *search) traceback(pan string) {
	words := make([]string, 9)
	for i := range words {
		words[i] = fmt.Sprintf("0x%x", pan[i])
	}
	s.add("card …"+pan[len(pan)-4:]+" in a traceback", []byte(strings.Join(words, ", ")))
}

// coresAllowed lets what is started from here on leave core files, where the
// system would put them: the test's own directory, which it changes to one that
// is empty. A program that is not ours shows that one is left.
func coresAllowed(t *testing.T) (dir string) {
	t.Helper()
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &before); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{Cur: before.Max, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	t.Chdir(dir)
	t.Setenv("GOTRACEBACK", "crash") // an end by a fault is an abort, as the kernel sees it
	t.Cleanup(func() { _ = syscall.Setrlimit(syscall.RLIMIT_CORE, &before) })
	return dir
}

// crashMidway aborts the node while a payment waits for its acquirer.
func (d *instance) crashMidway(t *testing.T, cores string) {
	t.Helper()
	pid := d.pid()
	limits := string(mustRead(t, fmt.Sprintf("/proc/%d/limits", pid)))
	for line := range strings.Lines(limits) {
		if f := strings.Fields(line); strings.HasPrefix(line, "Max core file size") && (f[4] != "0" || f[5] != "0") {
			t.Errorf("the node may leave core files: %s", line)
		}
	}
	open := make(chan struct{})
	go func() {
		defer close(open)
		_, _ = d.tryAsk(http.MethodPost, "/v1/authorizations", "midway", d.atCounter(d.pinBlock(cbCard, "1234"), 1168))
	}()
	eventually(t, 10*time.Second, "the acquirer was asked", func() bool { return countDecisions(d.readLedger("cb-b"), 1168, "silent") == 1 })
	signal(t, pid, syscall.SIGABRT)
	<-open
	eventually(t, 20*time.Second, "ready again", func() bool { return d.pid() != pid && d.ready() })
	eventually(t, 30*time.Second, "nothing is owed", func() bool { return d.metric("reversals_owed") == 0 })
	if !strings.Contains(d.logs.String(), "SIGABRT: abort") {
		t.Error("the node was not aborted")
	}
	if left, err := filepath.Glob(filepath.Join(cores, "*")); err != nil || len(left) != 0 {
		t.Errorf("the abort left %v %v", left, err)
	}
	leavesCore(t, cores)
}

// leavesCore shows that a program without the node's care does leave a core
// here, where the system writes them as files.
func leavesCore(t *testing.T, dir string) {
	t.Helper()
	pattern := strings.TrimSpace(string(mustRead(t, "/proc/sys/kernel/core_pattern")))
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &limit); err != nil || limit.Cur == 0 || strings.HasPrefix(pattern, "|") || strings.HasPrefix(pattern, "/") {
		t.Logf("this system writes no core file here (pattern %q, limit %d): that the node may leave none was seen in its limits only", pattern, limit.Cur)
		return
	}
	process, err := os.StartProcess("/bin/sleep", []string{"sleep", "60"}, &os.ProcAttr{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	signal(t, process.Pid, syscall.SIGABRT)
	if _, err := process.Wait(); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "core*"))
	if err != nil || len(left) != 1 {
		t.Fatalf("another program left %v %v", left, err)
	}
	if err := os.Remove(left[0]); err != nil {
		t.Fatal(err)
	}
}

// killAll ends dev and all its children at once, with no chance to tidy up. dev
// is stopped before: it would start them again.
func (d *instance) killAll(t *testing.T) {
	t.Helper()
	signal(t, d.cmd.Process.Pid, syscall.SIGSTOP)
	children := 0
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range stats {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // it ended meanwhile
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		if f := strings.Fields(rest); len(f) < 2 || f[1] != strconv.Itoa(d.cmd.Process.Pid) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil {
			t.Fatal(err)
		}
		signal(t, pid, syscall.SIGKILL)
		children++
	}
	if want := len(d.info.Links) + len(d.info.Nodes) + 1; children != want {
		t.Errorf("%d processes were killed, not %d", children, want)
	}
	signal(t, d.cmd.Process.Pid, syscall.SIGKILL)
	_ = d.cmd.Wait() // says that it was killed
}

// memory searches what a process has mapped and may write to.
func (s *search) memory(t *testing.T, pid int, what string) {
	t.Helper()
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer maps.Close()
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		var from, to uint64
		var mode string
		if n, _ := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &mode); n != 3 || !strings.HasPrefix(mode, "rw") || to-from > 1<<30 {
			continue
		}
		b := make([]byte, to-from)
		n, _ := mem.ReadAt(b, int64(from)) // a part that is not there reads short
		s.look(fmt.Sprintf("memory of the %s, %x", what, from), b[:n])
	}
}
