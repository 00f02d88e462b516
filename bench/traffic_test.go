package bench

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fastjson"
)

// What is built by hand must be what a parser reads.
func TestRequestsAreWellFormed(t *testing.T) {
	targets, err := parseTargets([]string{"http://127.0.0.1:8080/"})
	if err != nil {
		t.Fatal(err)
	}
	tp := newTemplate(targets[0], "secret", `par"cels`, "EUR", "bench-0a", defaultCards())
	for card, want := range testCards() {
		for _, amount := range []int64{1, 1000, 99_999_900} {
			raw := tp.append(nil, &job{number: 42, amount: amount, card: uint8(card)})
			var r fasthttp.Request
			if err := r.Read(bufio.NewReader(bytes.NewReader(raw))); err != nil {
				t.Fatal(err)
			}
			if string(r.Header.Peek("Idempotency-Key")) != "bench-0a-42" || string(r.Header.Peek("Authorization")) != "Bearer secret" ||
				string(r.URI().Path()) != "/v1/authorizations" || string(r.Host()) != "127.0.0.1:8080" {
				t.Errorf("headers: %s", r.Header.String())
			}
			var body struct {
				Merchant, Reference, Channel, Brand, Capture string
				Amount                                       struct {
					Value    int64
					Currency string
				}
				Card struct{ Number, Expiry, CVV string }
			}
			d := json.NewDecoder(bytes.NewReader(r.Body()))
			d.DisallowUnknownFields()
			if err := d.Decode(&body); err != nil {
				t.Fatalf("%v in a body of %d bytes", err, len(r.Body()))
			}
			if body.Merchant != `par"cels` || body.Reference != "bench-0a-42" || body.Channel != "ecommerce" || body.Capture != "manual" ||
				body.Amount.Value != amount || body.Amount.Currency != "EUR" || body.Card.Number != want.number || body.Card.CVV != want.cvv ||
				body.Brand != want.brand {
				t.Errorf("card %d, amount %d: the body says something else", card, amount)
			}
		}
	}
}

// A payment at a counter leaves as its line says, and nothing that the run
// itself says can come from a line.
func TestReadCards(t *testing.T) {
	counter := `{"channel":"card_present","card":{"entry":"chip","track2":"4970100000000154=30122011000000000","pin":{"block":"0011223344556677","format":"iso0","key":"terminals"}}}`
	cards, err := ReadCards(strings.NewReader(" " + counter + "\n\n{\"channel\":\"moto\", \"card\":{}, \"brand\":\"cb\"} \n"))
	if err != nil || len(cards) != 2 {
		t.Fatalf("%d cards, %v", len(cards), err)
	}
	tp := newTemplate(target{host: "h"}, "secret", "parcels", "EUR", "bench-0a", cards)
	raw := tp.append(nil, &job{number: 7, amount: 1000, card: 0})
	_, body, _ := strings.Cut(string(raw), "\r\n\r\n")
	want := `{"merchant":"parcels","reference":"bench-0a-7","amount":{"value":1000,"currency":"EUR"},` + counter[1:len(counter)-1] + `,"capture":"manual"}`
	if body != want || !strings.Contains(string(raw), "Content-Length: "+strconv.Itoa(len(want))+"\r\n") {
		t.Errorf("%s\nwant\n%s", body, want)
	}
	sale := newTemplate(target{host: "h"}, "secret", "parcels", "EUR", "bench-0a", []Card{`"channel":"moto","card":{},"capture":"automatic"`})
	if raw := string(sale.append(nil, &job{number: 7, amount: 1000})); !strings.HasSuffix(raw, `"card":{},"capture":"automatic"}`) || strings.Count(raw, `"capture"`) != 1 {
		t.Errorf("a line that says how it is captured: %s", raw)
	}
	for name, bad := range map[string]string{
		"nothing": "", "no object": "[1]", "no card": `{"channel":"moto"}`, "no channel": `{"card":{}}`, "an amount": `{"channel":"moto","card":{},"amount":{}}`,
		"too many": strings.Repeat("{\"channel\":\"moto\",\"card\":{}}\n", 256), "half": counter[:40],
	} {
		if _, err := ReadCards(strings.NewReader(bad)); !errors.Is(err, ErrCards) || strings.Contains(err.Error(), "4970") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseAmountsAndMix(t *testing.T) {
	for given, want := range map[string]int{"1000": 1, "1000,2500": 2, "1000-9900": 90, "": 90, "100-100": 1} {
		if got, err := ParseAmounts(given); err != nil || len(got) != want {
			t.Errorf("amounts %q: %d, %v", given, len(got), err)
		}
	}
	for _, given := range []string{"0", "-5", "x", "1000-", "2000-1000", "1-99999999999", "1000,,"} {
		if _, err := ParseAmounts(given); !errors.Is(err, ErrAmounts) {
			t.Errorf("amounts %q: %v", given, err)
		}
	}
	if m, err := ParseMix("declined=5,silent=1%"); err != nil || m != (Mix{Declined: 5, Silent: 1}) {
		t.Errorf("%+v %v", m, err)
	}
	for _, given := range []string{"declined", "other=1", "declined=x", "declined=60,silent=60", "declined=-1", "declined=NaN"} {
		if _, err := ParseMix(given); !errors.Is(err, ErrMix) {
			t.Errorf("mix %q: %v", given, err)
		}
	}
}

func TestParseTargetsAndKey(t *testing.T) {
	got, err := parseTargets([]string{"http://a:1", " https://b/ "})
	if err != nil || len(got) != 2 || got[1].address != "b:443" || !got[1].secure || got[0].address != "a:1" {
		t.Errorf("%+v %v", got, err)
	}
	for _, bad := range []string{"a:1", "ftp://a", "http://", "http://a/v1"} {
		if _, err := parseTargets([]string{bad}); !errors.Is(err, ErrAddress) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := parseTargets(nil); !errors.Is(err, ErrNoAPI) {
		t.Errorf("none: %v", err)
	}
	name := t.TempDir() + "/key"
	if err := os.WriteFile(name, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if key, err := Key("@" + name); key != "secret" || err != nil {
		t.Errorf("%q %v", key, err)
	}
	for _, bad := range []string{"", " ", "a\nb"} {
		if _, err := Key(bad); !errors.Is(err, ErrEmptyKey) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := Key("@" + name + ".missing"); err == nil {
		t.Error("a missing key file passed")
	}
}

func TestArrivalsKeepTheirRate(t *testing.T) {
	for _, poisson := range []bool{false, true} {
		a := arrivals{gap: float64(time.Second) / 1000, poisson: poisson, random: rand.New(rand.NewPCG(1, 0))}
		n, sum, squares, last := 0, 0.0, 0.0, time.Duration(0)
		for a.due() < 100*time.Second {
			a.advance()
			gap := (a.due() - last).Seconds()
			last = a.due()
			sum, squares, n = sum+gap, squares+gap*gap, n+1
		}
		mean := sum / float64(n)
		deviation := math.Sqrt(max(0, squares/float64(n)-mean*mean)) / mean
		if want := map[bool]float64{false: 0, true: 1}[poisson]; math.Abs(mean-0.001) > 1e-5 || math.Abs(deviation-want) > 0.02 {
			t.Errorf("poisson %v: mean gap %v, relative deviation %v", poisson, mean, deviation)
		}
	}
}

func TestReadAnswer(t *testing.T) {
	var p fastjson.Parser
	for _, c := range []struct {
		status         int
		body           string
		final, decided bool
		outcome        string
	}{
		{201, `{"status":"approved","final":true}`, true, true, "approved"},
		{201, `{"status":"declined","final":true}`, true, true, "declined"},
		{201, `{"status":"partially_approved"}`, true, true, "partially_approved"},
		{201, `{}`, false, false, ""},
		{201, `<html>`, false, false, "http_201"},
		{504, `{"code":"acquirer_timeout","final":true}`, true, true, "acquirer_timeout"},
		{504, `<html>`, false, false, "http_504"},
		{503, `{"code":"outcome_pending","final":false}`, false, false, "outcome_pending"},
		{503, `{"type":"urn:authswitch:problem:no_route","final":false}`, false, false, "no_route"},
		{503, `{"type":"about:blank"}`, false, false, "http_503"},
		{409, `{"code":"in_progress","final":false}`, false, false, "in_progress"},
		{409, `{"code":"reversed","final":true}`, true, true, "reversed"},
		{409, `{"code":"other"}`, false, false, "other"},
		{429, `{"code":"limited"}`, false, false, "limited"},
		{422, `{"code":"invalid","final":true}`, true, false, "invalid"},
		{422, `{"code":"invalid_request","final":false}`, true, false, "invalid_request"},
		{401, `{"code":"unauthorized"}`, true, false, "unauthorized"},
		{400, ``, true, false, "http_400"},
		{500, `{}`, false, false, "http_500"},
		{502, ``, false, false, "http_502"},
	} {
		a := readAnswer(&p, c.status, []byte(c.body))
		if a.final != c.final || a.decided() != c.decided || a.outcome != c.outcome {
			t.Errorf("%d %s: final %v, decided %v, %q", c.status, c.body, a.final, a.decided(), a.outcome)
		}
	}
}

func TestAnswersFileEscapes(t *testing.T) {
	var out sink
	f := newAnswersFile(&out, `m"`, "EUR")
	f.add([]byte("k"), &job{attempt: 2, amount: 5}, &answer{status: http.StatusCreated, outcome: "a\\\x01\"é", id: []byte("x")}, []byte("body"), time.Unix(0, 0))
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	if got["merchant"] != `m"` || got["outcome"] != "a\\\x01\"é" || got["at"] != "1970-01-01T00:00:00.000000Z" || got["attempt"] != 2.0 {
		t.Errorf("%v", got)
	}
}

func TestStagesAreReadFromMetrics(t *testing.T) {
	read := func(text string) stageSums {
		s := stageSums{}
		s.read(strings.NewReader(text))
		return s
	}
	before := read(`authorization_stage_seconds_sum{link="a",stage="open"} 1
authorization_stage_seconds_count{link="a",stage="open"} 100`)
	after := read(`# HELP x
authorization_stage_seconds_bucket{link="a",stage="open",le="1"} 9
authorization_stage_seconds_sum{link="a",stage="open"} 2
authorization_stage_seconds_count{link="a",stage="open"} 300
authorization_stage_seconds_sum{link="b",stage="open"} 1
authorization_stage_seconds_count{link="b",stage="open"} 200
other_seconds_sum{link="a"} 4
raft_leader 1`)
	if got := after.since(before); len(got) != 1 || math.Abs(got["open"]-5000) > 1e-6 {
		t.Errorf("%v, want open 5000 µs", got)
	}
}

func TestProcesses(t *testing.T) {
	got, err := ParseProcesses("node=1, 22")
	if err != nil || len(got) != 2 || got[0] != (Process{"node", 1}) || got[1] != (Process{"pid_22", 22}) {
		t.Errorf("%v %v", got, err)
	}
	for _, bad := range []string{"node", "a=0", "a=-1", "a=b"} {
		if _, err := ParseProcesses(bad); !errors.Is(err, ErrProcess) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if spent := readCPU([]Process{{"self", os.Getpid()}, {"gone", 1 << 30}}); len(spent) != 2 {
		t.Errorf("%v", spent)
	}
}
