package payment

import (
	"fmt"
	"reflect"
	"testing"

	"authswitch/card"
)

// namesOf are the names of an enumeration until the one that says it is over.
func namesOf[T ~uint8](name func(T) string, over string) []string {
	var names []string
	for v := T(0); ; v++ {
		text := name(v)
		if text == over {
			return names
		}
		names = append(names, text)
	}
}

// Names appear in the API, in journals' exports and in dialect files: none is
// empty but the first, none is used twice, and a change of one is seen here.
func TestNames(t *testing.T) {
	for _, c := range []struct {
		kind  string
		names []string
		want  string
	}{
		{"scheme", namesOf(Scheme.String, "unknown"), "[ cb visa mastercard amex unionpay jcb discover ancv]"},
		{"channel", namesOf(Channel.String, "unknown"), "[ ecommerce moto pay_by_link card_present recurring instalment]"},
		{"priority", namesOf(Priority.String, "unknown"), "[reversal customer merchant batch]"},
		{"state", namesOf(State.String, "invalid"), "[none open approved declined not_sent reversing reversed exception written_off verified refund_only]"},
		{"event", namesOf(Event.String, "invalid"), "[opened next_attempt approved declined never_sent unknown approval_refused cancelled session_ended overdue late_approval late_decline reversal_acknowledged original_not_found reversal_exceptional written_off verified credited]"},
		{"status", namesOf(Status.String, "invalid"), "[none approved partially_approved declined unknown not_sent cancelled]"},
		{"cause", namesOf(Cause.String, "invalid"), "[ timeout link_lost unparsable_answer rejected amount_mismatch session_ended overdue cancelled no_route too_late]"},
		{"reversal", namesOf(ReversalReason.String, "invalid"), "[ timeout malfunction customer_cancellation partial late_response suspected_fraud]"},
		{"entry", namesOf(func(k EntryKind) string { return (k + 1).String() }, "invalid"), "[intent outcome late_answer reversal_owed reversal_sent reversal_ended operation]"},
		{"entry by hand", []string{EntryWrittenOff.String()}, "[written_off]"},
		{"key usage", namesOf(KeyUsage.String, "invalid"), "[none zone zone-block pin mac derivation data blind-index cvv pin-offset pvv emv]"},
		{"key state", namesOf(KeyState.String, "invalid"), "[absent pending active decrypt-only retired destroyed]"},
		{"operation", namesOf(OperationKind.String, "invalid"), "[ capture refund increment release void correction]"},
		{"operation state", namesOf(OperationState.String, "invalid"), "[none waiting owed reversing exception done declined failed withdrawn undone]"},
		{"means", namesOf(OperationMeans.String, "invalid"), "[none advice online reversal file sale payment upload]"},
		{"operation refusal", namesOf(OperationRefusal.String, "invalid"), "[ not_found not_approved amount_too_large nothing_left currency_mismatch captures_over capture_reversed capture_refunded too_many_operations whole not_captured no_difference no_stored_card capture_settled]"},
		{"refusal", namesOf(func(k RefusalKind) string { return (k + 1).String() }, "unknown"), "[invalid key_conflict running no_route overloaded pending barred security missing whole]"},
	} {
		if got := fmt.Sprint(c.names); got != c.want {
			t.Errorf("%s: %s, want %s", c.kind, got, c.want)
		}
	}
	seen := map[string]bool{}
	for i, name := range namesOf(Reason.String, "invalid") {
		if seen[name] || name == "" && i > 0 {
			t.Errorf("reason %d: %q is empty or used twice", i, name)
		}
		seen[name] = true
	}
}

// What String writes, Parse reads; nothing else, and never the absent value.
func TestParseNames(t *testing.T) {
	for s := CB; s < schemes; s++ {
		if ParseScheme([]byte(s.String())) != s {
			t.Errorf("scheme %s", s)
		}
	}
	for c := Ecommerce; c < channels; c++ {
		if ParseChannel([]byte(c.String())) != c {
			t.Errorf("channel %s", c)
		}
	}
	for r := ReversalTimeout; r < reversalReasons; r++ {
		if got, ok := ParseReversalReason([]byte(r.String())); !ok || got != r {
			t.Errorf("reversal reason %s", r)
		}
	}
	for r := ReasonApproved; r < reasons; r++ {
		if got, ok := ParseReason(r.String()); !ok || got != r {
			t.Errorf("reason %s", r)
		}
	}
	if ParseScheme([]byte("diners")) != Discover {
		t.Error("Diners is on Discover's network")
	}
	for _, bad := range []string{"", "unknown", "invalid", "CB", "cb ", "none"} {
		_, reversal := ParseReversalReason([]byte(bad))
		_, reason := ParseReason(bad)
		if ParseScheme([]byte(bad)) != NoScheme || ParseChannel([]byte(bad)) != NoChannel || reversal || reason {
			t.Errorf("%q is read", bad)
		}
	}
	if CaptureManual.String() != "manual" || CaptureAutomatic.String() != "automatic" {
		t.Error("capture modes")
	}
}

// What a gateway is advised, the strongest advice first.
func TestRetryAdvice(t *testing.T) {
	for _, c := range []struct {
		verdict Verdict
		want    string
	}{
		{Verdict{Action: ActionApprove, Flags: MayRetry}, ""},
		{Verdict{Action: ActionApprovePartially}, ""},
		{Verdict{Action: ActionDecline}, "never"},
		{Verdict{Action: ActionNone}, "never"},
		{Verdict{Action: ActionDecline, Flags: MayRetry}, "later"},
		{Verdict{Action: ActionDecline, Flags: MayRetry | NeedsNewData}, "after_change"},
		{Verdict{Action: ActionDecline, Flags: MayRetry | NeedsNewData | NeedsAuth}, "authenticate"},
		{Verdict{Action: ActionDecline, Flags: TryOther | BlockToken}, "never"},
	} {
		if got := c.verdict.Retry(); got != c.want {
			t.Errorf("%+v: %q, want %q", c.verdict, got, c.want)
		}
	}
	if both := MayRetry | TryOther; !both.Has(MayRetry) || !both.Has(both) || MayRetry.Has(both) {
		t.Error("Has means all")
	}
}

func TestCodes(t *testing.T) {
	for _, c := range []struct{ in, want string }{{"", ""}, {"00", "00"}, {"N7", "N7"}, {"400", "400"}, {"1234", "1234"}, {"12345", "1234"}} {
		code := MakeResponseCode([]byte(c.in))
		if code.String() != c.want || string(code.Bytes()) != c.want {
			t.Errorf("%q: %q", c.in, code)
		}
	}
	if a := (ApprovalCode{'A', '1', ' ', '0', '0', '0'}); a.String() != "A1 000" || (ApprovalCode{}).String() != "" {
		t.Error(a)
	}
	if n := (NetworkTransactionID{'M', 'C', 'C'}); n.String() != "MCC" || (NetworkTransactionID{}).String() != "" {
		t.Error(n)
	}
	for s := range statuses {
		if s.Approved() != (s == StatusApproved || s == StatusPartiallyApproved) {
			t.Errorf("%s holds money", s)
		}
	}
}

func TestRefusal(t *testing.T) {
	if text := (&Refusal{Code: "c", Detail: "d"}).Error() + (&Refusal{Code: "c"}).Error(); text != "c: dc" {
		t.Error(text)
	}
}

// A wiped authorization holds nothing, and what it held is overwritten, not
// only forgotten.
func TestWipe(t *testing.T) {
	a := Authorization{Merchant: "parcels", Reference: []byte("ORDER-42"), ThreeDS: ThreeDSecure{ECI: []byte("05")}}
	var err error
	if a.Card.PAN, err = card.ParsePAN([]byte("4970100000000154")); err != nil {
		t.Fatal(err)
	}
	if !a.ThreeDS.Present() || (&ThreeDSecure{Version: []byte("2.2.0")}).Present() || !(&ThreeDSecure{AuthenticationValue: []byte("x")}).Present() {
		t.Error("3-D Secure data is present with an ECI or an authentication value")
	}
	digits := a.Card.PAN.RevealPAN()
	a.Wipe()
	if string(digits) != string(make([]byte, 16)) || a.Merchant != "" || a.Reference != nil || a.ThreeDS.Present() {
		t.Errorf("left: %+v", a)
	}
}

// Response and Outcome are copied and kept by others: nothing
// in them may point elsewhere.
func TestOutcomeIsAValue(t *testing.T) {
	var plain func(of reflect.Type) bool
	plain = func(of reflect.Type) bool {
		if of.Kind() == reflect.Array {
			return plain(of.Elem())
		}
		if of.Kind() != reflect.Struct {
			return of.Kind() <= reflect.Complex128 || of.Kind() == reflect.String // nobody can change a string
		}
		for f := range of.Fields() {
			if !plain(f.Type) {
				t.Errorf("%s.%s is a %s", of, f.Name, f.Type)
			}
		}
		return true
	}
	if !plain(reflect.TypeFor[Outcome]()) || !plain(reflect.TypeFor[Response]()) || plain(reflect.TypeFor[[]byte]()) {
		t.Error("not plain values")
	}
}
