package api

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"authswitch/payment"
)

// neighbour is another node's door, without the wire between.
type neighbour struct {
	door  *door
	fail  error
	asked int
	raw   []byte // as it was handed on; wiped since
}

func (n *neighbour) Hand(link payment.LinkName, request []byte, within time.Duration) ([]byte, error) {
	n.asked++
	n.raw = request
	if n.fail != nil {
		return nil, n.fail
	}
	buffer := bytes.Clone(request)
	answer, taken := n.door.server.ServeHanded(link, buffer, within, nil)
	if !taken {
		return nil, payment.ErrNotSent
	}
	return answer, nil
}

// pair is a door whose link is down, and one that has it.
func pair(t *testing.T) (here *door, there *neighbour) {
	t.Helper()
	there = &neighbour{door: openDoor(t, Config{})}
	here = openDoor(t, Config{})
	here.server.deps.Others = there
	here.fakes.authorize = func(a *payment.Authorization, out *payment.Payment) error {
		if a.Here {
			*out = testPayment(a)
			out.Intent.Link = "visa-b"
			return nil
		}
		return &payment.Elsewhere{Link: "visa-a"}
	}
	return here, there
}

// The gateway gets the other node's answer byte for byte, whatever it is, and the
// other node gets the request as it came.
func TestHandedOver(t *testing.T) {
	refuse := func(r *payment.Refusal) func(*payment.Authorization, *payment.Payment) error {
		return func(*payment.Authorization, *payment.Payment) error { return r }
	}
	for _, c := range []struct {
		name, body string
		authorize  func(a *payment.Authorization, out *payment.Payment) error
	}{
		{"approved", goodBody, nil},
		{"escapes, which reading changes", strings.Replace(goodBody, "ORDER-42", `OR\u0044ER\u002d42`, 1), nil},
		{"no route", goodBody, refuse(&payment.Refusal{Kind: payment.RefusedNoRoute, Code: "no_route", Detail: "none", RetryAfter: 3 * time.Second})},
		{"key used before", goodBody, refuse(&payment.Refusal{Kind: payment.RefusedKeyConflict, Code: "idempotency_key_reused", Detail: "no"})},
		{"not transmissible", goodBody, refuse(&payment.Refusal{Kind: payment.RefusedInvalid, Pointer: "/reference", Code: "not_transmissible", Detail: "no"})},
	} {
		t.Run(c.name, func(t *testing.T) {
			here, there := pair(t)
			var got payment.Authorization
			inner := c.authorize
			if inner == nil {
				inner = there.door.fakes.authorize
			}
			there.door.fakes.authorize = func(a *payment.Authorization, out *payment.Payment) error {
				got = *a
				got.Reference, got.Key = bytes.Clone(a.Reference), bytes.Clone(a.Key)
				if string(a.Card.PAN.RevealPAN()) != testNumber {
					t.Error("another card came")
				}
				return inner(a, out)
			}
			want := there.door.ask(http.MethodPost, "/v1/authorizations", c.body)
			handed := here.ask(http.MethodPost, "/v1/authorizations", c.body)
			if handed.text != want.text || handed.status != want.status || handed.header.Get("Content-Type") != want.header.Get("Content-Type") || handed.header.Get("Retry-After") != want.header.Get("Retry-After") {
				t.Errorf("the gateway got %d %v %s, the other node says %d %v %s", handed.status, handed.header, handed.text, want.status, want.header, want.text)
			}
			if got.Handed != "visa-a" || string(got.Key) != testIdemKey || string(got.Reference) != "ORDER-42" || got.Deadline != testInstant+payment.Instant(there.door.server.cfg.Budget) {
				t.Errorf("handed for %q, key %q, reference %q, deadline %d", got.Handed, got.Key, got.Reference, got.Deadline)
			}
			if there.asked != 1 {
				t.Errorf("handed on %d times", there.asked)
			}
			if bytes.Contains(there.raw, []byte("4111")) {
				t.Error("the request is still in the sender's memory")
			}
		})
	}
}

func TestNotHandedOver(t *testing.T) {
	t.Run("the other node has lost the link: what is here", func(t *testing.T) {
		here, there := pair(t)
		there.door.fakes.authorize = func(a *payment.Authorization, _ *payment.Payment) error {
			return &payment.Elsewhere{Link: a.Handed}
		}
		body := strings.Replace(goodBody, "ORDER-42", `OR\u0044ER-42`, 1)
		if a := here.ask(http.MethodPost, "/v1/authorizations", body); a.status != http.StatusCreated || a.json["link"] != "visa-b" {
			t.Errorf("%d %s", a.status, a.text)
		}
		if there.asked != 1 {
			t.Errorf("handed on %d times", there.asked)
		}
	})
	t.Run("nobody took it, and nothing is here", func(t *testing.T) {
		here, there := pair(t)
		there.fail = fmt.Errorf("%w: all are gone", payment.ErrNotSent)
		here.fakes.authorize = func(*payment.Authorization, *payment.Payment) error { return &payment.Elsewhere{Link: "visa-a"} }
		a := here.ask(http.MethodPost, "/v1/authorizations", goodBody)
		if a.status != http.StatusServiceUnavailable || a.json["code"] != "no_route" || a.json["final"] != false || there.asked != 1 {
			t.Errorf("%d %s, handed on %d times", a.status, a.text, there.asked)
		}
	})
	t.Run("the other node fell silent: not final, and nothing is tried here", func(t *testing.T) {
		here, there := pair(t)
		there.fail = fmt.Errorf("%w: silent", payment.ErrUnknownOutcome)
		tried := 0
		here.fakes.authorize = func(*payment.Authorization, *payment.Payment) error {
			tried++
			return &payment.Elsewhere{Link: "visa-a"}
		}
		a := here.ask(http.MethodPost, "/v1/authorizations", goodBody)
		if a.status != http.StatusServiceUnavailable || a.json["code"] != "outcome_pending" || a.json["final"] != false || tried != 1 {
			t.Errorf("%d %s after %d tries", a.status, a.text, tried)
		}
	})
	t.Run("alone", func(t *testing.T) {
		here, _ := pair(t)
		here.server.deps.Others = nil
		if a := here.ask(http.MethodPost, "/v1/authorizations", goodBody); a.json["code"] != "no_route" {
			t.Errorf("%d %s", a.status, a.text)
		}
	})
}

// A refund that names a payment of a link which only others have is handed on as
// an authorization is; the key's rate is judged once.
func TestOperationHandedOver(t *testing.T) {
	here, there := pair(t)
	there.door = movingDoor(t)
	here.fakes.operate = func(*payment.Operation, payment.Instant) (payment.Operation, error) {
		return payment.Operation{}, &payment.Elsewhere{Link: "visa-a"}
	}
	slow := "Authorization: Bearer " + slowKey
	if a := here.ask(http.MethodPost, "/v1/authorizations/"+testIDText+"/captures", "", slow); a.status != http.StatusCreated || there.asked != 1 {
		t.Errorf("%d %s", a.status, a.text)
	}
	if a := there.door.ask(http.MethodPost, "/v1/authorizations/"+testIDText+"/captures", "", slow); a.status != http.StatusCreated {
		t.Errorf("the rate was taken there too: %d %s", a.status, a.text)
	}
}

func FuzzHanded(f *testing.F) {
	f.Add([]byte{1, 4, 'P', 'O', 'S', 'T', 0, 2, '/', 'a', 0, 1, 1, 'a', 0, 1, 'b', '{', '}'})
	server, err := New(Config{}, testDeps(f, newFakes(), &bytes.Buffer{}))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if answer, taken := server.ServeHanded("visa-a", raw, time.Second, nil); taken && len(answer) < 5 {
			t.Errorf("%x", answer)
		}
	})
}
