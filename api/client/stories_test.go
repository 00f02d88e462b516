package client

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// teller tells the four stories of scripts/tour through the client.
type teller struct {
	t    *testing.T
	ctx  context.Context
	c    *ClientWithResponses
	keys int
}

// key is one of its own for each request.
func (s *teller) key() string {
	s.keys++
	return fmt.Sprintf("story-%d", s.keys)
}

func (s *teller) pay(r AuthorizationRequest) *AuthorizeResponse {
	s.t.Helper()
	key := s.key()
	r.Reference = strings.ToUpper(key)
	a, err := s.c.AuthorizeWithResponse(s.ctx, &AuthorizeParams{IdempotencyKey: key}, r)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

// paid is a payment that must be approved.
func (s *teller) paid(r AuthorizationRequest) *Authorization {
	s.t.Helper()
	a := s.pay(r)
	if a.JSON201 == nil || a.JSON201.Status != "approved" {
		s.t.Fatalf("%s", a.Body)
	}
	return a.JSON201
}

// refused is the code of the first field that is.
func refused(a *AuthorizeResponse) string {
	if a.ApplicationproblemJSON422 == nil || a.ApplicationproblemJSON422.Errors == nil {
		return string(a.Body)
	}
	return (*a.ApplicationproblemJSON422.Errors)[0].Code
}

func (s *teller) eventually(what string, is func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(90 * time.Second); !is(); time.Sleep(50 * time.Millisecond) { // another process: there is nothing to wait on
		if time.Now().After(deadline) {
			s.t.Fatalf("it never came: %s", what)
		}
	}
}

func number4111(cvv *string) AuthorizationRequest_Card {
	return AuthorizationRequest_Card{Number: text("4111111111111111"), Expiry: text("3012"), Cvv: cvv}
}

// TestStories: what scripts/tour tells, as far as the API goes, told by the client
// that the specification makes.
func TestStories(t *testing.T) {
	n := startNode(t)
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	c, err := NewClientWithResponses(n.API, WithRequestEditorFn(bearer(n.Key)))
	if err != nil {
		t.Fatal(err)
	}
	s := &teller{t: t, ctx: ctx, c: c}
	s.parcel(n.Merchant)
	s.card(n)
	s.show(n.Merchant)
}

// parcel: paid for 5 kg, it weighs 10, and then 2 after all.
func (s *teller) parcel(merchant string) {
	automatic := AuthorizationRequestCaptureAutomatic
	paid := s.paid(AuthorizationRequest{Merchant: merchant, Amount: Amount{Value: 1000, Currency: "EUR"}, Channel: "ecommerce", Card: number4111(text("123")), SaveCard: yes(), Capture: &automatic})
	total := func(value int) *CorrectResponse {
		s.t.Helper()
		a, err := s.c.CorrectWithResponse(s.ctx, paid.Id, &CorrectParams{IdempotencyKey: s.key()}, CorrectJSONRequestBody{Amount: Amount{Value: value, Currency: "EUR"}, Reason: text("weighed again")})
		if err != nil {
			s.t.Fatal(err)
		}
		return a
	}
	up := total(1400)
	if up.JSON201 == nil || up.JSON201.Direction != "charge" || up.JSON201.Amount.Value != 400 || up.JSON201.Charge == nil {
		s.t.Fatalf("up: %s", up.Body)
	}
	s.eventually("the capture of the difference", func() bool {
		charge, err := s.c.GetAuthorizationWithResponse(s.ctx, *up.JSON201.Charge)
		return err == nil && charge.JSON200 != nil && strings.Contains(string(charge.Body), `"state":"done"`)
	})
	if down := total(900); down.JSON201 == nil || down.JSON201.Direction != "refund" || down.JSON201.Amount.Value != 500 || len(*down.JSON201.Refunds) != 2 {
		s.t.Fatalf("down: %s", down.Body)
	}
	if again := total(900); again.ApplicationproblemJSON422 == nil || !strings.Contains(string(again.Body), "no_difference") {
		s.t.Errorf("twice: %s", again.Body)
	}
	correction, err := s.c.GetCorrectionWithResponse(s.ctx, up.JSON201.Id)
	if err != nil || correction.JSON200 == nil {
		s.t.Errorf("%v %s", err, correction.Body)
	}
}

// card: saved on the web, used at the call centre of the same group, which may
// not be told the security code, and no merchant outside has it.
func (s *teller) card(n node) {
	never, required := CVVPolicyNever, CVVPolicyRequired
	for _, id := range []string{"postshop", "callcentre"} {
		contract := ContractDocument{
			Scheme: text("visa"), Links: []string{"visa-a"}, Terminal: "TERM0002", Acceptor: "SHOP00000000002", AcceptorName: text("SHOP/PARIS/FR"), Mcc: "9402", Acquirer: "497010", Country: text("250"),
			Cvv: &required, CvvByChannel: &map[string]CVVPolicy{"moto": never}, CvvStoredByChannel: &map[string]CVVPolicy{"moto": never},
		}
		made, err := s.c.CreateMerchantWithResponse(s.ctx, MerchantDocument{Id: id, CardGroup: text("post"), Gateways: &[]string{"dev"}, Contracts: []ContractDocument{contract}, Reason: text("the tour")}, bearer(n.AdminKey))
		if err != nil || made.JSON201 == nil {
			s.t.Fatalf("%s: %v %s", id, err, made.Body)
		}
	}
	web := AuthorizationRequest{Merchant: "postshop", Amount: Amount{Value: 2000, Currency: "EUR"}, Channel: "ecommerce", Card: number4111(nil), SaveCard: yes()}
	if why := refused(s.pay(web)); why != "cvv_required" {
		s.t.Errorf("without a security code: %s", why)
	}
	web.Card = number4111(text("123"))
	token := s.paid(web).Card.Token
	if token == nil {
		s.t.Fatal("the card is not saved")
	}
	call := AuthorizationRequest{Merchant: "callcentre", Amount: Amount{Value: 700, Currency: "EUR"}, Channel: "moto", Card: AuthorizationRequest_Card{Token: token, Cvv: text("123")}}
	if why := refused(s.pay(call)); why != "cvv_not_allowed" {
		s.t.Errorf("a security code by telephone: %s", why)
	}
	call.Card.Cvv = nil
	s.paid(call)
	call.Merchant = n.Merchant
	if why := refused(s.pay(call)); why != "unknown_token" {
		s.t.Errorf("outside of the group: %s", why)
	}
}

// show: tickets with a tag, previewed, refunded, and each in the result once; and
// the same as a file is refused, because nothing is left of them.
func (s *teller) show(merchant string) {
	automatic := AuthorizationRequestCaptureAutomatic
	const tickets = 12
	var file strings.Builder
	file.WriteString("payment,amount,currency\n")
	for range tickets {
		ticket := s.paid(AuthorizationRequest{Merchant: merchant, Amount: Amount{Value: 4500, Currency: "EUR"}, Channel: "ecommerce", Card: number4111(text("123")), Capture: &automatic, Tags: &[]Tag{"show"}})
		fmt.Fprintf(&file, "%s,4500,EUR\n", ticket.Id)
	}
	fmt.Fprintf(&file, "#end,%d,%d\n", tickets, 4500*tickets)
	upload := func(dry bool) *UploadBatchResponse {
		s.t.Helper()
		a, err := s.c.UploadBatchWithBodyWithResponse(s.ctx, &UploadBatchParams{Merchant: &merchant, DryRun: &dry, IdempotencyKey: text(s.key())}, "text/csv", strings.NewReader(file.String()))
		if err != nil {
			s.t.Fatal(err)
		}
		return a
	}
	if dry := upload(true); dry.JSON200 == nil || dry.JSON200.Lines != tickets {
		s.t.Fatalf("dry run: %s", dry.Body)
	}
	asked := RefundByTagJSONRequestBody{Merchant: merchant, Tag: "show", Preview: yes(), Reason: text("cancelled")}
	preview, err := s.c.RefundByTagWithResponse(s.ctx, &RefundByTagParams{}, asked)
	if err != nil || preview.JSON200 == nil || preview.JSON200.Lines != tickets {
		s.t.Fatalf("preview: %v %s", err, preview.Body)
	}
	asked.Preview = nil
	made, err := s.c.RefundByTagWithResponse(s.ctx, &RefundByTagParams{IdempotencyKey: text(s.key())}, asked)
	if err != nil || made.JSON201 == nil {
		s.t.Fatalf("by tag: %v %s", err, made.Body)
	}
	id := made.JSON201.Id
	if released, err := s.c.ReleaseBatchWithResponse(s.ctx, id); err != nil || released.JSON200 == nil {
		s.t.Fatalf("release: %v %s", err, released.Body)
	}
	s.eventually("the end of the batch", func() bool {
		b, err := s.c.GetBatchWithResponse(s.ctx, id)
		return err == nil && b.JSON200 != nil && b.JSON200.Status == "done" && b.JSON200.Progress.Approved == tickets
	})
	results, err := s.c.GetBatchResultsWithResponse(s.ctx, id)
	if err != nil || strings.Count(string(results.Body), ",approved,4500,EUR,") != tickets {
		s.t.Errorf("results: %v %s", err, results.Body)
	}
	if again := upload(false); again.ApplicationproblemJSON422 == nil && again.ApplicationproblemJSON409 == nil {
		s.t.Errorf("what is refunded, as a file: %s", again.Body)
	}
}
