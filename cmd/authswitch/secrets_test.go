package main_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// After traffic of every kind, a kill and a restart, no card number and no
// security code stands anywhere that anybody can read later: data directory,
// ledgers, logs, metrics, error bodies.
func TestNoCardDataIsKept(t *testing.T) {
	t.Parallel()
	d := startDev(t, "--sim-codec", "moov")
	codes := map[string]string{visaCard: "937", cbCard: "618", mastercardCard: "274", amexCard: "5093"}
	said := &lockedBuffer{} // every body that the API answered with

	secretTraffic(t, d, codes, said, calm)
	secretTraffic(t, d, codes, said, violent)
	secretMistakes(d, codes, said)
	metrics := d.metrics()

	// Killed while payments are open, so that their reversals are of another life.
	eventually(t, 15*time.Second, "all links are back", d.ready)
	var cut sync.WaitGroup
	for pan, cvv := range codes {
		cut.Go(func() {
			_, _ = d.tryAsk(http.MethodPost, "/v1/authorizations", "cut-"+pan[:2], d.withCode(pan, cvv, 1168))
		})
	}
	eventually(t, 5*time.Second, "the simulators were asked", func() bool { return d.decisions(1168, "silent") == len(codes) })
	killed := d.pid()
	if err := syscall.Kill(killed, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	cut.Wait()
	eventually(t, 15*time.Second, "ready again", func() bool { return d.pid() != killed && d.ready() })
	secretTraffic(t, d, codes, said, calm) // the same keys: answered from the journal
	eventually(t, 30*time.Second, "nothing is owed", func() bool { return d.metric("reversals_owed") == 0 })
	metrics += d.metrics()
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}

	s := &search{}
	for pan, cvv := range codes {
		s.card(pan)
		s.code(pan, "3012", cvv)
	}
	s.codeNames()
	if err := s.tree(d.dir); err != nil {
		t.Fatal(err)
	}
	s.look("logs", []byte(d.logs.String()))
	s.look("metrics", []byte(metrics))
	s.look("answers", []byte(said.String()))
	for _, f := range s.found {
		t.Error(f)
	}
	s.proveItLooked(t, d, metrics, said.String())
}

// proveItLooked finds what must be where card data must not.
func (s *search) proveItLooked(t *testing.T, d *instance, metrics, said string) {
	if s.rows < 100 || s.bytes < 100_000 {
		t.Errorf("only %d rows and %d bytes were searched", s.rows, s.bytes)
	}
	control := &search{}
	control.text("merchant", d.info.Merchant)
	control.text("idempotency key", "secret-"+visaCard[:2]+"-1000")
	if err := control.tree(filepath.Join(d.info.Nodes[0].DataDir)); err != nil {
		t.Fatal(err)
	}
	found := strings.Join(control.found, "\n")
	for _, place := range []string{"log, row", "state, row", ".sst, unpacked", ": merchant", ": idempotency key"} {
		if !strings.Contains(found, place) {
			t.Errorf("the search read no %q:\n%s", place, tail(found, 1000))
		}
	}
	for what, has := range map[string]bool{
		"ledgers":  strings.Contains(d.ledgers(), "411111******1111"),
		"logs":     strings.Contains(d.logs.String(), "reversal acknowledged"),
		"metrics":  strings.Contains(metrics, "reversals_owed"),
		"approved": strings.Contains(said, `"last4":"1111"`),
		"problems": strings.Contains(said, `"pointer":"/card/number"`),
	} {
		if !has {
			t.Errorf("%s do not have what they should", what)
		}
	}
	keys := &search{}
	keys.text("the API key", d.info.Key)
	keys.look("logs", []byte(d.logs.String()))
	keys.look("metrics", []byte(metrics))
	keys.look("answers", []byte(said))
	if err := keys.tree(d.info.Nodes[0].DataDir); err != nil {
		t.Fatal(err)
	}
	for _, f := range keys.found {
		t.Error(f)
	}
}

// What simulators do to a connection ends what else is on it: first the amounts
// that leave it alone.
var (
	calm    = []int{1000, 1010, 1051, 1065, 1068, 1069, 1071, 1075, 1079, 1082, 1091}
	violent = []int{1072, 1073, 1074, 1078, 1090}
)

// secretTraffic asks on all schemes for everything that leaves another trace:
// approvals, declines, silences, broken answers, reversals.
func secretTraffic(t *testing.T, d *instance, codes map[string]string, said io.Writer, amounts []int) {
	t.Helper()
	var all sync.WaitGroup
	for pan, cvv := range codes {
		for _, amount := range amounts {
			all.Go(func() {
				key := "secret-" + pan[:2] + "-" + strconv.Itoa(amount)
				a, err := d.tryAsk(http.MethodPost, "/v1/authorizations", key, d.withCode(pan, cvv, amount))
				if err != nil || a.status != http.StatusCreated && a.status != http.StatusGatewayTimeout && a.status != http.StatusServiceUnavailable {
					t.Errorf("%d on %s: %d %s %v", amount, pan[:2], a.status, a.body, err)
				}
				_, _ = io.WriteString(said, a.body)
				if id := a.field("id"); id != "" {
					_, _ = io.WriteString(said, d.ask(http.MethodGet, "/v1/authorizations/"+id, "", "").body)
					_, _ = io.WriteString(said, d.ask(http.MethodGet, "/v1/payments/"+id+"/events", "", "").body)
				}
			})
		}
		all.Go(func() {
			key := "undone-" + pan[:2]
			_, _ = d.tryAsk(http.MethodPost, "/v1/authorizations", key, d.withCode(pan, cvv, 2000))
			a, err := d.tryAsk(http.MethodPost, "/v1/reversals", "undo-"+pan[:2], `{"merchant":"`+d.info.Merchant+`","idempotency_key":"`+key+`"}`)
			if err != nil || a.status != http.StatusCreated {
				t.Errorf("reversal on %s: %d %s %v", pan[:2], a.status, a.body, err)
			}
			_, _ = io.WriteString(said, a.body)
		})
	}
	all.Wait()
}

// secretMistakes puts card data where it does not belong.
func secretMistakes(d *instance, codes map[string]string, said io.Writer) {
	say := func(a answer) { _, _ = io.WriteString(said, a.body) }
	for pan, cvv := range codes {
		good := d.withCode(pan, cvv, 1000)
		for i, body := range []string{
			strings.Replace(good, pan, pan[:len(pan)-1]+"x", 1),
			strings.Replace(good, pan, pan+pan, 1),
			strings.Replace(good, `"cvv":"`+cvv, `"cvv":"`+pan, 1),
			strings.Replace(good, `"3012"`, `"`+pan+`"`, 1),
			strings.Replace(good, `"EUR"`, `"`+pan+`"`, 1),
			strings.Replace(good, `"ecommerce"`, `"`+pan+`"`, 1),
			strings.Replace(good, `"reference"`, `"`+pan+`"`, 1),
			strings.Replace(good, `"merchant":"`, `"merchant":"`+pan, 1),
			strings.Replace(good, `}}`, `}`, 1),
			strings.Replace(good, `"1000`, pan, 1) + pan,
			good[:len(good)/2],
			pan,
		} {
			say(d.ask(http.MethodPost, "/v1/authorizations", "mistake-"+pan[:2]+"-"+strconv.Itoa(i), body))
		}
		say(d.ask(http.MethodPost, "/v1/reversals", "mistake-"+pan[:2], `{"merchant":"`+pan+`","idempotency_key":"x"}`))
		for _, path := range []string{"/v1/authorizations/" + pan, "/v1/" + pan, "/v1/authorizations?merchant=" + pan, "/v1/authorizations?merchant=parcels&cursor=" + pan} {
			say(d.ask(http.MethodGet, path, "", ""))
		}
	}
}

// withCode is an authorization with its own security code.
func (d *instance) withCode(pan, cvv string, amount int) string {
	return strings.Replace(d.body(pan, amount), `"cvv":"937"`, `"cvv":"`+cvv+`"`, 1)
}

// metrics is what the admin port shows.
func (d *instance) metrics() string {
	response, err := http.Get(d.info.Admin + "/metrics")
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	b, _ := io.ReadAll(response.Body)
	return string(b)
}

// metric is one figure without labels, -1 when it is not there.
func (d *instance) metric(name string) float64 {
	for line := range strings.Lines(d.metrics()) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			if v, err := strconv.ParseFloat(strings.TrimSpace(value), 64); err == nil {
				return v
			}
		}
	}
	return -1
}

// ready says whether the node answers and all its links are signed on.
func (d *instance) ready() bool {
	response, err := http.Get(d.info.Admin + "/ready")
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// ledgers is everything that the simulators wrote.
func (d *instance) ledgers() string {
	var all strings.Builder
	for _, l := range d.info.Links {
		b, err := os.ReadFile(l.Ledger)
		if err != nil {
			d.t.Fatal(err)
		}
		all.Write(b)
	}
	return all.String()
}

// readLedger is what a bank's simulator wrote.
func (d *instance) readLedger(link string) string {
	b, err := os.ReadFile(filepath.Join(d.dir, link+".jsonl"))
	if err != nil {
		d.t.Fatal(err)
	}
	return string(b)
}

// decisions counts the ledgers' lines of one amount and decision.
func (d *instance) decisions(amount int, decision string) int {
	return countDecisions(d.ledgers(), amount, decision)
}

func countDecisions(ledger string, amount int, decision string) int {
	n := 0
	for line := range strings.Lines(ledger) {
		if strings.Contains(line, `"amount":`+strconv.Itoa(amount)+`,`) && strings.Contains(line, `"decision":"`+decision+`"`) {
			n++
		}
	}
	return n
}
