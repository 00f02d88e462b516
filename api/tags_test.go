package api

import (
	"strings"
	"testing"

	"authswitch/payment"
)

// TestTags: what a payment belongs to is kept as given, or refused by name.
func TestTags(t *testing.T) {
	d := openDoor(t, Config{})
	d.fakes.authorize = func(*payment.Authorization, *payment.Payment) error {
		t.Error("bad tags reached the switch")
		return payment.ErrBusy
	}
	long := strings.Repeat("x", 65)
	for _, tags := range []string{
		`"show"`, `{}`, `[1]`, `["a",2]`, `[["a"]]`, `[""]`, `["a","a"]`, `["` + long + `"]`, `["a\nb"]`, `["caf` + "\u00e9" + `"]`,
		`["1","2","3","4","5","6","7","8","9"]`, `["ticket 4111111111111111"]`,
		`["` + long[:64] + `","` + long[:63] + `a","` + long[:63] + `b","` + long[:63] + `c"]`,
	} {
		a := d.ask("POST", "/v1/authorizations", add(`"tags":`+tags))
		checkFault(t, tags, a, "422", "/tags")
		if strings.Contains(a.text, "4111111111111111") {
			t.Errorf("%s: the answer holds the card number: %s", tags, a.text)
		}
	}
	var got string
	d.fakes.authorize = func(a *payment.Authorization, _ *payment.Payment) error {
		got = string(a.Tags)
		return payment.ErrBusy
	}
	for tags, want := range map[string]string{`["show-1","h\u0061ll b"]`: "show-1\nhall b", `[]`: "", `null`: "", `["8","7","6","5","4","3","2","1"]`: "8\n7\n6\n5\n4\n3\n2\n1"} {
		d.ask("POST", "/v1/authorizations", add(`"tags":`+tags))
		if got != want {
			t.Errorf("%s: %q, want %q", tags, got, want)
		}
	}
	if s := string(appendTags(nil, []byte("a\nb"))); s != `["a","b"]` {
		t.Error(s)
	}
}
