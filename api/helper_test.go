package api

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp/fasthttputil"

	"authswitch/card"
	"authswitch/merchant"
	"authswitch/payment"
	"authswitch/query"
)

const (
	testKey      = "ask_test-key-of-the-parcels-gateway"
	otherKey     = "ask_test-key-of-another-gateway"
	slowKey      = "ask_test-key-that-is-limited"
	adminKey     = "ask_admin"
	testNumber   = "4111111111111111"
	testIdemKey  = "7f0c-0001"
	goodCard     = `"card":{"number":"4111111111111111","expiry":"3012","cvv":"123"}`
	goodBody     = `{"merchant":"parcels","reference":"ORDER-42","amount":{"value":1051,"currency":"EUR"},"channel":"ecommerce",` + goodCard + `}`
	testInstant  = payment.Instant(1_795_406_757_000_000_000) // 2026-11-23T04:05:57Z
	testIDText   = "auth_019ab0e3a5007000800000004b1d0001"
	missingID    = "auth_019ab0e3a5007000800000004b1d0002"
	foreignID    = "auth_019ab0e3a5007000800000004b1d0003"
	problemMedia = "application/problem+json"
)

// fakes stands for all that the door talks to. The functions may be replaced
// before a request is made.
type fakes struct {
	authorize func(a *payment.Authorization, out *payment.Payment) error
	reverse   func(c *payment.Cancellation) (payment.Cancelled, error)
	payments  map[payment.ID]payment.Payment
	history   map[payment.ID][]payment.Entry
	broken    error
	links     []Link

	operate    func(o *payment.Operation, until payment.Instant) (payment.Operation, error)
	operations map[payment.ID]payment.Operation
	cards      map[payment.ID]payment.StoredCard
	merchants  fakeMerchants
	payLinks   fakeLinks
}

func (f *fakes) Operate(o *payment.Operation, until payment.Instant) (payment.Operation, error) {
	return f.operate(o, until)
}

func (f *fakes) StoredCard(token payment.ID) (payment.StoredCard, error) {
	k, ok := f.cards[token]
	if !ok {
		return k, payment.ErrNotFound
	}
	return k, f.broken
}

func (f *fakes) ChangeCard(x *payment.CardChange, expiry *card.Expiry) (payment.StoredCard, error) {
	k := f.cards[x.Token]
	if x.Delete {
		k.Status = payment.CardDeleted
	}
	if expiry.Present() {
		copy(k.Expiry[:], expiry.RevealExpiry())
	}
	if x.Holds {
		k.Holder = bytes.Clone(x.Holder)
	}
	f.cards[x.Token] = k
	return k, f.broken
}

func (f *fakes) Operation(id payment.ID) (payment.Operation, error) {
	o, ok := f.operations[id]
	if !ok {
		return o, payment.ErrNotFound
	}
	return o, f.broken
}

func (f *fakes) Authorize(a *payment.Authorization, out *payment.Payment) error {
	return f.authorize(a, out)
}

func (f *fakes) Reverse(c *payment.Cancellation) (payment.Cancelled, error) { return f.reverse(c) }

func (f *fakes) Payment(id payment.ID) (payment.Payment, error) {
	p, ok := f.payments[id]
	if f.broken != nil {
		return p, f.broken
	}
	if !ok {
		return p, payment.ErrNotFound
	}
	return p, nil
}

func (f *fakes) History(id payment.ID) ([]payment.Entry, error) { return f.history[id], f.broken }

func (f *fakes) ByKey(m payment.MerchantID, key []byte) (payment.ID, error) {
	for id, p := range f.payments {
		if p.Intent.Merchant == m && bytes.Equal(p.Intent.Key, key) {
			return id, f.broken
		}
	}
	return payment.ID{}, payment.ErrNotFound
}

func (f *fakes) ByReference(m payment.MerchantID, reference []byte) ([]payment.ID, error) {
	for id, p := range f.payments {
		if p.Intent.Merchant == m && bytes.Equal(p.Intent.Reference, reference) {
			return []payment.ID{id}, f.broken
		}
	}
	return nil, f.broken
}

func (f *fakes) List(m payment.MerchantID, before payment.ID, limit int) ([]payment.ID, bool, error) {
	id := testID()
	if m != "parcels" || !before.IsZero() {
		return nil, false, f.broken
	}
	return []payment.ID{id}, limit == 1, f.broken
}

func testID() payment.ID {
	id, err := payment.ParseID(testIDText, payment.AuthorizationPrefix)
	if err != nil {
		panic(err)
	}
	return id
}

// testPayment is an approved payment as switching returns it.
func testPayment(a *payment.Authorization) payment.Payment {
	p := payment.Payment{State: payment.StateApproved}
	p.Intent = payment.Intent{
		ID: testID(), Attempt: 1, Merchant: "parcels", Gateway: "shop", Key: []byte(testIdemKey), Reference: []byte("ORDER-42"),
		Amount: payment.Amount{Value: 1051, Currency: 978}, Channel: payment.Ecommerce, Scheme: payment.Visa, Link: "visa-a",
		Dialect: "visa", MTI: 0x0100, STAN: 17, RRN: payment.MakeRRN(testInstant, 17), Transmitted: payment.TransmittedAt(testInstant),
		BIN: []byte("41111111"), Last4: [4]byte{'1', '1', '1', '1'}, ReceivedAt: testInstant,
	}
	if a != nil {
		p.Intent.Amount = a.Amount
	}
	p.Outcome = payment.Outcome{
		ID: testID(), Attempt: 1, Event: payment.EventApproved, Status: payment.StatusApproved, Amount: p.Intent.Amount,
		ProcessingMS: 38, At: testInstant, Encoder: payment.EncoderVersion,
		Response: payment.Response{
			Code: payment.MakeResponseCode([]byte("00")), ApprovalCode: payment.ApprovalCode{'A', '1', '2', '3', '4', '5'}, CVVResult: 'M',
			Verdict: payment.Verdict{Action: payment.ActionApprove, Reason: payment.ReasonApproved},
		},
	}
	return p
}

// door is a served door and a client of it.
type door struct {
	t      *testing.T
	server *Server
	fakes  *fakes
	dial   func() (net.Conn, error)
	client *http.Client
	log    *bytes.Buffer
	spec   *contract
}

func newFakes() *fakes {
	f := &fakes{payments: map[payment.ID]payment.Payment{}, history: map[payment.ID][]payment.Entry{}}
	f.authorize = func(a *payment.Authorization, out *payment.Payment) error {
		*out = testPayment(a)
		return nil
	}
	f.reverse = func(c *payment.Cancellation) (payment.Cancelled, error) {
		return payment.Cancelled{Found: true, ID: testID(), Before: payment.StateApproved, State: payment.StateReversing}, nil
	}
	p := testPayment(nil)
	f.payments[p.Intent.ID] = p
	f.history[p.Intent.ID] = []payment.Entry{
		{At: testInstant, State: payment.StateOpen, Event: payment.EventOpened, Kind: payment.EntryIntent, Intent: &p.Intent},
		{At: testInstant, State: payment.StateApproved, Event: payment.EventApproved, Kind: payment.EntryOutcome, Outcome: &p.Outcome},
	}
	foreign := testPayment(nil)
	foreign.Intent.ID, _ = payment.ParseID(foreignID, payment.AuthorizationPrefix)
	foreign.Intent.Merchant, foreign.Intent.Key, foreign.Intent.Reference = "books", []byte("theirs"), []byte("THEIRS")
	f.payments[foreign.Intent.ID] = foreign
	return f
}

func testDirectory(t testing.TB) *merchant.Directory {
	t.Helper()
	hasher, err := merchant.NewHasher(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	gateway := func(id payment.GatewayID, key string, m payment.MerchantID, rate float64) merchant.GatewayConfig {
		return merchant.GatewayConfig{
			ID: id, KeyHashes: []string{hasher.Hash([]byte(key)).String()}, Merchants: []payment.MerchantID{m}, RatePerSecond: rate, Burst: 1,
		}
	}
	d, err := merchant.New([]merchant.Config{{ID: "parcels"}, {ID: "books"}}, []merchant.GatewayConfig{
		gateway("shop", testKey, "parcels", 0), gateway("library", otherKey, "books", 0), gateway("slow", slowKey, "parcels", 0.001),
	}, []merchant.AdministratorConfig{{ID: "anna", KeyHashes: []string{hasher.Hash([]byte(adminKey)).String()}}}, hasher)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func testDeps(t testing.TB, f *fakes, log io.Writer) Deps {
	reader, directory := query.New(f, f), testDirectory(t)
	return Deps{
		Now: func() payment.Instant { return testInstant }, Authorizer: f, Reverser: f, Operator: f, Cards: f, Gateways: directory, Administrators: directory, Merchants: &f.merchants, PaymentLinks: &f.payLinks,
		Reader: reader, Finder: reader, Links: func() []Link { return f.links },
		Log: slog.New(slog.NewTextHandler(log, nil)), Registerer: prometheus.NewRegistry(),
	}
}

// openDoor serves a door in memory until the test ends.
func openDoor(t *testing.T, cfg Config) *door {
	t.Helper()
	f, log := newFakes(), &bytes.Buffer{}
	return serveDoor(t, cfg, f, testDeps(t, f, log), log)
}

// serveDoor serves one with other surroundings.
func serveDoor(t *testing.T, cfg Config, f *fakes, deps Deps, log *bytes.Buffer) *door {
	t.Helper()
	d := &door{t: t, fakes: f, log: log}
	server, err := New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	d.server = server
	ln := fasthttputil.NewInmemoryListener()
	d.dial = ln.Dial
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	d.client = &http.Client{
		Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return ln.Dial() }},
		Timeout:   20 * time.Second,
	}
	d.spec = openContract(t)
	t.Cleanup(func() {
		d.client.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return d
}

// answer is what the door said.
type answer struct {
	status int
	header http.Header
	text   string
	json   map[string]any
}

// ask makes a request with the test's key and holds the answer to the contract.
// Headers are "Name: value"; "Name:" takes one of the usual ones away.
func (d *door) ask(method, path, body string, headers ...string) answer {
	d.t.Helper()
	request, err := http.NewRequest(method, "http://door"+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+testKey)
	if method == http.MethodPost {
		request.Header.Set("Idempotency-Key", testIdemKey)
		request.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		name, v, _ := strings.Cut(h, ":")
		if v = strings.TrimSpace(v); v == "" {
			request.Header.Del(name)
		} else {
			request.Header.Set(name, v)
		}
	}
	response, err := d.client.Do(request)
	if err != nil {
		d.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	a := answer{response.StatusCode, response.Header, string(content), nil}
	if err := json.Unmarshal(content, &a.json); err != nil && !strings.HasPrefix(response.Header.Get("Content-Type"), "text/csv") {
		d.t.Fatalf("%s %s: %d %q: %v", method, path, a.status, content, err)
	}
	if strings.Contains(a.text, testNumber) {
		d.t.Errorf("%s %s: the answer holds the card number: %s", method, path, a.text)
	}
	d.spec.hold(d.t, request, response, content)
	return a
}

// onceConn gives one text to its reader.
type onceConn struct {
	net.Conn
	give string
}

func (c *onceConn) Read(p []byte) (int, error) { return copy(p, c.give), nil }
