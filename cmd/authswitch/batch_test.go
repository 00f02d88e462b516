package main_test

import (
	"encoding/csv"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
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

// sold is a captured payment.
type sold struct{ id, order, card string }

// sell makes captured payments of 10.00 with a tag, many at a time, on the
// schemes' cards in turn.
func (d *instance) sell(count int, tag string) []sold {
	d.t.Helper()
	cards := []string{visaCard, cbCard, mastercardCard, amexCard}
	all := make([]sold, count)
	var running sync.WaitGroup
	const lanes = 24
	failed := make(chan string, lanes)
	for lane := range lanes {
		running.Go(func() {
			for n := lane; n < count; n += lanes {
				s := sold{order: fmt.Sprintf("%s-%05d", tag, n), card: cards[n%len(cards)]}
				body := fmt.Sprintf(`{"merchant":%q,"reference":%q,"amount":{"value":1000,"currency":"EUR"},"channel":"ecommerce","capture":"automatic","tags":[%q],"card":{"number":%q,"expiry":"3012","cvv":"937"}}`,
					d.info.Merchant, s.order, tag, s.card)
				a, err := d.tryAsk(http.MethodPost, "/v1/authorizations", s.order, body)
				if err != nil || a.field("status") != "approved" {
					failed <- fmt.Sprintf("%s: %v %d %s", s.order, err, a.status, a.body)
					return
				}
				s.id = a.field("id")
				all[n] = s
			}
		})
	}
	running.Wait()
	select {
	case why := <-failed:
		d.t.Fatal(why)
	default:
	}
	return all
}

// write makes a file and returns its path.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// batch runs `authswitch batch` with the gateway's key.
func (d *instance) batch(words ...string) (stdout, stderr string, code int) {
	d.t.Helper()
	return run(d.t, append(append([]string{"batch"}, words...), "--api", d.info.API, "--key", d.info.Key)...)
}

// batchAs runs it as a named operator.
func (d *instance) batchAs(name string, words ...string) (stdout, stderr string, code int) {
	d.t.Helper()
	return run(d.t, append(append([]string{"batch"}, words...), "--api", d.info.API, "--operator", name, "--secret-file", filepath.Join(d.dir, name+".secret"))...)
}

// hire adds operators, whose credentials come to lie in the instance's folder.
func (d *instance) hire(names ...string) {
	d.t.Helper()
	for _, name := range names {
		if out, errs, code := d.operate("operator", "add", name, "--reason", "back office", "--secret-file", filepath.Join(d.dir, name+".secret")); code != 0 {
			d.t.Fatalf("add %s: %s%s", name, out, errs)
		}
	}
}

// progress is how far a batch has come.
type progress struct {
	ID, Status string
	Lines      int
	Progress   struct{ Started, Approved, Declined, Failed, Refused, Exceptions int }
}

func (d *instance) progressOf(id string) progress {
	d.t.Helper()
	var p progress
	a, err := d.tryAsk(http.MethodGet, "/v1/refund-batches/"+id, "", "")
	if err == nil {
		_ = json.Unmarshal([]byte(a.body), &p)
	}
	return p
}

// upload takes a file in and returns its batch.
func (d *instance) upload(path string, words ...string) progress {
	d.t.Helper()
	out, errs, code := d.batch(append([]string{"upload", path, "--json"}, words...)...)
	var p progress
	if err := json.Unmarshal([]byte(out), &p); code != 0 || err != nil {
		d.t.Fatalf("upload: %d %s%s", code, out, errs)
	}
	return p
}

// results reads a batch's result file.
func (d *instance) results(id string) [][]string {
	d.t.Helper()
	out, errs, code := d.batch("result", id)
	if code != 0 {
		d.t.Fatalf("result: %s", errs)
	}
	rows, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil {
		d.t.Fatal(err)
	}
	return rows[1:]
}

// verified holds journal and ledgers to each other.
func (d *instance) verified() {
	d.t.Helper()
	if out, errs, code := run(d.t, "bench", "verify", "--api", d.info.API, "--key", d.info.Key, "--settle", "90s"); code != 0 {
		d.t.Errorf("bench verify: %s%s", out, errs)
		if at := strings.Index(out, "auth_"); at >= 0 && len(out) >= at+37 { // what happened to the first
			d.t.Logf("%s", d.ask(http.MethodGet, "/v1/payments/"+out[at:at+37]+"/events", "", "").body)
			d.t.Logf("%s", d.ask(http.MethodGet, "/v1/authorizations/"+out[at:at+37], "", "").body)
		}
	}
}

// refundsIn counts the refunds that stand with the simulators: an attempt whose
// answer was lost is reversed before there is another.
func (d *instance) refundsIn() (count int) {
	d.t.Helper()
	for _, l := range d.info.Links {
		b, err := os.ReadFile(l.Ledger)
		if err != nil {
			d.t.Fatal(err)
		}
		count += strings.Count(string(b), `"decision":"refunded"`) - strings.Count(string(b), `"decision":"reversed"`)
	}
	return count
}

// killNode ends the node as a crash would; dev starts it again.
func (d *instance) killNode() {
	d.t.Helper()
	if err := syscall.Kill(d.pid(), syscall.SIGKILL); err != nil {
		d.t.Fatal(err)
	}
}

// batchLines is how many refunds TestBatchKilled's file has: 30000 is what the
// largest files of payment platforms have, and takes some minutes.
var batchLines = flag.Int("batch.lines", 2000, "lines of the batch that TestBatchKilled kills the node in")

// TestBatchKilled: a batch of thousands, the node killed at random lines, every
// line refunded once.
func TestBatchKilled(t *testing.T) {
	d := startDev(t)
	count := *batchLines
	payments := d.sell(count, "killed")
	var file strings.Builder
	file.WriteString("payment,amount,currency,order,comment\n")
	for _, s := range payments {
		fmt.Fprintf(&file, "%s,1000,EUR,%s,cancelled\n", s.id, s.order)
	}
	fmt.Fprintf(&file, "#end,%d,%d\n", count, 1000*count)
	path := write(t, "refunds.csv", file.String())

	d.hire("ana", "bo")
	began := time.Now()
	b := d.upload(path)
	if b.Status != "held" || b.Lines != count {
		t.Fatalf("%+v", b)
	}
	t.Logf("%d lines checked and written down in %s", count, time.Since(began).Round(time.Millisecond))
	if _, errs, code := d.batch("release", b.ID); code != 1 || !strings.Contains(errs, "operators_needed") {
		t.Errorf("a gateway's key above the limit: %d %s", code, errs)
	}
	if out, errs, code := d.batchAs("ana", "release", b.ID); code != 0 || !strings.Contains(out, "held") {
		t.Fatalf("first release: %s%s", out, errs)
	}
	if _, errs, code := d.batchAs("ana", "release", b.ID); code != 1 || !strings.Contains(errs, "same_operator") {
		t.Errorf("the same operator: %d %s", code, errs)
	}
	if out, errs, code := d.batchAs("bo", "release", b.ID); code != 0 || !strings.Contains(out, "released") {
		t.Fatalf("second release: %s%s", out, errs)
	}
	began = time.Now()
	seed := uint64(began.UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 2 {
		at := d.progressOf(b.ID).Progress.Started + 1 + random.IntN(count/4)
		eventually(t, 60*time.Second, fmt.Sprintf("line %d", at), func() bool { return d.progressOf(b.ID).Progress.Started >= min(at, count) })
		t.Logf("killed at line %d", d.progressOf(b.ID).Progress.Started)
		d.killNode()
	}
	eventually(t, 120*time.Second, "the end of the batch", func() bool { return d.progressOf(b.ID).Status == "done" })
	t.Logf("every line has its end after %s", time.Since(began).Round(time.Millisecond))
	if p := d.progressOf(b.ID).Progress; p.Approved != count {
		t.Errorf("%+v", p)
	}
	rows := d.results(b.ID)
	if len(rows) != count {
		t.Fatalf("%d lines of results", len(rows))
	}
	for n, row := range rows {
		if row[0] != strconv.Itoa(n+2) || row[1] != "approved" || row[2] != "1000" || row[4] != payments[n].order {
			t.Fatalf("line %d: %v", n+2, row)
		}
	}
	if got := d.refundsIn(); got != count {
		t.Errorf("%d refunds stand, not %d", got, count)
	}
	d.verified()
	if _, errs, code := d.batch("upload", path); code != 1 || !strings.Contains(errs, "duplicate_batch") || !strings.Contains(errs, b.ID) {
		t.Errorf("the same file again: %d %s", code, errs)
	}
}

// TestMassRefund: a cancelled performance, refunded by its tag while one acquirer
// is down in the middle.
func TestMassRefund(t *testing.T) {
	d := startDev(t)
	const count = 400
	payments := d.sell(count, "show-1")
	d.sell(8, "show-2")
	open := d.ask(http.MethodPost, "/v1/authorizations", "open", strings.Replace(d.body(visaCard, 1000), `"channel"`, `"tags":["show-1"],"channel"`, 1))
	if open.field("status") != "approved" {
		t.Fatal(open.body)
	}
	preview, errs, code := d.batch("by-tag", "show-1", "--merchant", d.info.Merchant, "--preview")
	if code != 0 || !strings.Contains(preview, `"payments": 401`) || !strings.Contains(preview, `"lines": 400`) || !strings.Contains(preview, `"not_captured": 1`) || !strings.Contains(preview, open.field("id")) {
		t.Fatalf("preview: %s%s", preview, errs)
	}
	d.hire("ana")
	out, errs, code := d.batch("by-tag", "show-1", "--merchant", d.info.Merchant, "--reason", "cancelled", "--json", "--request", "show-1")
	var b progress
	if err := json.Unmarshal([]byte(out), &b); code != 0 || err != nil || b.Lines != count {
		t.Fatalf("by-tag: %s%s", out, errs)
	}
	if again, _, _ := d.batch("by-tag", "show-1", "--merchant", d.info.Merchant, "--reason", "cancelled", "--json", "--request", "show-1"); again != out {
		t.Errorf("the same request: %s\n%s", again, out)
	}
	if _, errs, code := d.batch("by-tag", "show-1", "--merchant", d.info.Merchant); code != 1 || !strings.Contains(errs, "duplicate_batch") {
		t.Errorf("another request for the same: %d %s", code, errs)
	}
	stop := d.stopSimulator("visa-a")
	if out, errs, code := d.batchAs("ana", "release", b.ID); code != 0 || !strings.Contains(out, "released") { // under the limit one is enough
		t.Fatalf("release: %s%s", out, errs)
	}
	eventually(t, 60*time.Second, "the refunds of the others", func() bool { return d.progressOf(b.ID).Progress.Approved >= count*3/4 })
	stop()
	eventually(t, 120*time.Second, "the end of the batch", func() bool { return d.progressOf(b.ID).Status == "done" })
	if p := d.progressOf(b.ID).Progress; p.Approved != count {
		t.Errorf("%+v", p)
	}
	if got := d.refundsIn(); got != count {
		t.Errorf("%d refunds stand, not %d", got, count)
	}
	item := d.ask(http.MethodGet, "/v1/authorizations/"+payments[0].id, "", "")
	if !strings.Contains(item.body, `"tags":["show-1"]`) || !strings.Contains(item.body, `"refunded":1000`) {
		t.Errorf("%s", item.body)
	}
	if _, errs, code := d.batch("by-tag", "show-1", "--merchant", d.info.Merchant); code != 1 || !strings.Contains(errs, "nothing_to_refund") {
		t.Errorf("once all is refunded: %d %s", code, errs)
	}
	d.verified()
}

// stopSimulator stops one acquirer's process; what it returns lets it go on.
func (d *instance) stopSimulator(link string) (goOn func()) {
	d.t.Helper()
	pid := 0
	entries, err := os.ReadDir("/proc")
	if err != nil {
		d.t.Fatal(err)
	}
	scenario := filepath.Join(d.info.DataDir, link+".yaml")
	for _, e := range entries {
		words, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err == nil && slices.Contains(strings.Split(string(words), "\x00"), scenario) {
			pid, _ = strconv.Atoi(e.Name())
		}
	}
	if pid == 0 {
		d.t.Fatalf("no process has %s", scenario)
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		d.t.Fatal(err)
	}
	return func() {
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
			d.t.Error(err)
		}
	}
}

// TestBatchBadFiles: one line per file; each is refused by name, with nothing
// done, and no answer holds a card number.
func TestBatchBadFiles(t *testing.T) {
	d := startDev(t)
	sales := d.sell(5, "bad")
	const header = "payment,amount,currency,card,order,comment\n"
	line := func(n int, amount string) string {
		return sales[n].id + "," + amount + ",EUR," + sales[n].card + "," + sales[n].order + ",ok\n"
	}
	good := header + line(0, "100") + line(1, "1000")
	for _, c := range []struct {
		name, file, says string
		words            string
	}{
		{"nothing", "", "empty_file", ""},
		{"a header only", header, "empty_file", "--lines 1"},
		{"unknown column", "payment,amount,currency,colour\n", "wrong_header: column 4", ""},
		{"column twice", "payment,amount,amount,currency\n", "names amount twice", ""},
		{"no amount", "payment,currency\n", "no column amount", ""},
		{"nothing to refund by", "amount,currency\n", "neither payment nor order", ""},
		{"no length", good, "length_undeclared", ""},
		{"fewer lines", good, "file_cut: 3 lines", "--lines 3"},
		{"trailer of another", good + "#end,3\n", "file_cut: line 4", ""},
		{"trailer's sum", good + "#end,2,1099\n", "file_cut: line 4", ""},
		{"lines behind the trailer", header + line(0, "100") + "#end,1\n" + line(1, "100"), "file_cut: line 4", ""},
		{"cut in a line", good[:len(good)-20], "file_cut: line 3", "--lines 2"},
		{"checksum", good, "checksum_mismatch", "--sha256 " + strings.Repeat("0", 64)},
		{"over the captured", header + line(0, "1001") + line(1, "1"), "line 2, amount: amount_too_large", "--lines 2"},
		{"over it together", header + line(0, "600") + line(0, "401"), "line 3, amount: amount_too_large: refunds, those in doubt and in this file counted, must not pass what was captured: at most 400", "--lines 2"},
		{"another currency", header + strings.Replace(line(0, "1"), "EUR", "USD", 1), "line 2, currency: currency_mismatch", "--lines 1"},
		{"no currency", header + strings.Replace(line(0, "1"), "EUR", "EU", 1), "line 2, currency: unknown_currency", "--lines 1"},
		{"amounts", header + line(0, "1.5") + line(0, "-1") + line(0, "0") + line(0, "") + line(0, "9999999999999"), "line 6, amount: too_large", "--lines 5"},
		{"another's card", header + strings.Replace(line(0, "1"), visaCard, mastercardCard, 1), "line 2, card: card_mismatch", "--lines 1"},
		{"no card", header + strings.Replace(line(0, "1"), visaCard, "4111111111111112", 1), "line 2, card: invalid_value", "--lines 1"},
		{"another order", header + strings.Replace(line(0, "1"), sales[0].order, sales[1].order, 1), "line 2, order: order_mismatch", "--lines 1"},
		{"nobody's payment", header + strings.Replace(line(0, "1"), sales[0].id, "auth_00000000000000000000000000000000", 1), "line 2, payment: not_found", "--lines 1"},
		{"no payment", header + strings.Replace(line(0, "1"), sales[0].id, "x", 1), "line 2, payment: invalid_value", "--lines 1"},
		{"a card in the comment", header + strings.Replace(line(0, "1"), ",ok", ","+mastercardCard, 1), "line 2, comment: card_data", "--lines 1"},
		{"columns", header + "a,b\n" + line(0, "1"), "line 2: wrong_columns", "--lines 2"},
		{"quotes", header + "\"a,b\n" + line(0, "1"), "line 2: malformed", "--lines 2"},
		{"platform: operation", "1000;EUR;VISA;" + visaCard + ";1230;" + sales[0].order + ";c;n;;debit\n#end;1\n", "line 1, operation: unsupported_operation", ""},
		{"platform: brand", "1000;EUR;CB;" + visaCard + ";1230;" + sales[0].order + ";c;n;;refund\n#end;1\n", "line 1, brand: brand_mismatch", ""},
	} {
		out, errs, code := d.batch(append([]string{"upload", write(t, "bad.csv", c.file)}, strings.Fields(c.words)...)...)
		if code != 1 || !strings.Contains(errs, c.says) {
			t.Errorf("%s: %d %s%s", c.name, code, out, errs)
		}
		for _, card := range []string{visaCard, mastercardCard, "4111111111111112"} {
			if strings.Contains(errs, card) {
				t.Errorf("%s: the answer holds a card number: %s", c.name, errs)
			}
		}
	}
	if list, _, _ := d.batch("list"); list != "" {
		t.Errorf("something was taken: %s", list)
	}
	// Every bad line is named.
	_, errs, _ := d.batch("upload", write(t, "bad.csv", header+line(0, "0")+line(1, "x")+line(2, "5")+line(3, "2000")), "--lines", "4")
	for _, says := range []string{"3 of 4 lines", "line 2,", "line 3,", "line 5,"} {
		if !strings.Contains(errs, says) {
			t.Errorf("%q is not said: %s", says, errs)
		}
	}
	batchWithinLimit(t, d, sales)
}

// batchWithinLimit: the layout of payment platforms, checked, taken and released
// by its gateway.
func batchWithinLimit(t *testing.T, d *instance, sales []sold) {
	platform := ""
	for n, s := range sales {
		card := s.card
		if n == 1 {
			card = card[:6] + "XXXXXX" + card[12:]
		}
		platform += "100;EUR;;" + card + ";1230;" + s.order + ";\"a \"\"fine\"\" day; cancelled\";A. B\u00e9;;refund\n"
	}
	path := write(t, "platform.csv", platform+"#end;5;500\n")
	if out, errs, code := d.batch("upload", path, "--dry-run"); code != 0 || !strings.Contains(out, "5 lines, 500 EUR") {
		t.Fatalf("dry run: %s%s", out, errs)
	}
	if list, _, _ := d.batch("list"); list != "" {
		t.Errorf("a dry run left %s", list)
	}
	b := d.upload(path)
	if out, errs, code := d.batch("release", b.ID); code != 0 || !strings.Contains(out, "released") {
		t.Fatalf("release: %s%s", out, errs)
	}
	if out, errs, code := d.batch("show", b.ID, "--wait", "30s"); code != 0 || !strings.Contains(out, "approved 5") {
		t.Fatalf("%s%s", out, errs)
	}
	for n, row := range d.results(b.ID) {
		if row[0] != strconv.Itoa(n+1) || row[1] != "approved" || row[10] != `a "fine" day; cancelled` || !strings.HasPrefix(row[6], "ref_") {
			t.Errorf("%v", row)
		}
	}
	d.verified()
	if d.contains(visaCard) || d.contains(mastercardCard) {
		t.Error("a card number of the file is on disk")
	}
}

// contains says whether any file of the instance holds a text.
func (d *instance) contains(text string) (found bool) {
	d.t.Helper()
	err := filepath.WalkDir(d.dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || !e.Type().IsRegular() {
			return nil //nolint:nilerr // files come and go beside a running node
		}
		b, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(b), text) {
			d.t.Logf("%s holds it", path)
			found = true
		}
		return nil
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return found
}

// TestBatchOverLeaders: the leader of three is killed in the middle; the next one
// goes on where it was.
func TestBatchOverLeaders(t *testing.T) {
	d := startDev(t, "--nodes", "3")
	const count = 600
	payments := d.sell(count, "leaders")
	var file strings.Builder
	file.WriteString("order,amount,currency\n")
	for _, s := range payments {
		fmt.Fprintf(&file, "%s,1000,EUR\n", s.order)
	}
	d.hire("ana")
	b := d.upload(write(t, "refunds.csv", file.String()), "--lines", strconv.Itoa(count))
	if out, errs, code := d.batchAs("ana", "release", b.ID); code != 0 {
		t.Fatalf("release: %s%s", out, errs)
	}
	eventually(t, 60*time.Second, "its first lines", func() bool { return d.progressOf(b.ID).Progress.Started > 0 })
	killed := ""
	for _, n := range d.info.Nodes {
		if leads, err := get(n.Admin + "/metrics"); err == nil && strings.Contains(leads, "\nraft_leader 1") {
			pid, err := os.ReadFile(filepath.Join(n.DataDir, "pid"))
			if err != nil {
				t.Fatal(err)
			}
			id, _ := strconv.Atoi(strings.TrimSpace(string(pid)))
			killed = n.ID
			if err := syscall.Kill(id, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("killed %s at line %d", killed, d.progressOf(b.ID).Progress.Started)
	if killed == "" {
		t.Fatal("no node says that it leads")
	}
	eventually(t, 120*time.Second, "the end of the batch", func() bool { return d.progressOf(b.ID).Status == "done" })
	if p := d.progressOf(b.ID).Progress; p.Approved != count {
		t.Errorf("%+v", p)
	}
	if got := d.refundsIn(); got != count {
		t.Errorf("%d refunds stand, not %d", got, count)
	}
	d.verified()
}

// get reads a page.
func get(url string) (string, error) {
	response, err := http.Get(url)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	return string(b), err
}
