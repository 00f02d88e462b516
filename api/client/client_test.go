package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// node is what `authswitch dev --json` says of itself.
type node struct {
	API      string `json:"api"`
	Key      string `json:"key"`
	AdminKey string `json:"admin_key"`
	Merchant string `json:"merchant"`
}

// startNode runs a node with simulators until the test ends: the binary of
// AUTHSWITCH_BIN, or one built here.
func startNode(t *testing.T) node {
	t.Helper()
	program := os.Getenv("AUTHSWITCH_BIN")
	if program == "" {
		program = filepath.Join(t.TempDir(), "authswitch")
		build := exec.Command("go", "build", "-o", program, "./cmd/authswitch")
		build.Dir = "../.."
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build: %v\n%s", err, out)
		}
	}
	dev := exec.Command(program, "dev", "--json", "--port-base", strconv.Itoa(21000+os.Getpid()%90*100), "--keep", t.TempDir())
	var logs bytes.Buffer
	dev.Stderr = &logs
	out, err := dev.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := dev.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = dev.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(40*time.Second, func() { _ = dev.Process.Kill() })
		defer timer.Stop()
		_ = dev.Wait()
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	var n node
	if err != nil || json.Unmarshal(line, &n) != nil {
		t.Fatalf("dev said %q: %v\n%s", line, err, logs.String())
	}
	return n
}

func bearer(key string) RequestEditorFn {
	return func(_ context.Context, r *http.Request) error {
		r.Header.Set("Authorization", "Bearer "+key)
		return nil
	}
}

func text(s string) *string { return &s }
func yes() *bool            { b := true; return &b }

// The client that the specification makes does what a gateway does: it pays,
// saves a card, pays with it on another channel, captures, refunds, and reads
// why something is refused.
func TestTour(t *testing.T) {
	n := startNode(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := NewClientWithResponses(n.API, WithRequestEditorFn(bearer(n.Key)))
	if err != nil {
		t.Fatal(err)
	}
	who, err := c.WhoamiWithResponse(ctx)
	if err != nil || who.JSON200 == nil || len(who.JSON200.Merchants) != 1 || string(who.JSON200.Merchants[0]) != n.Merchant {
		t.Fatalf("whoami: %v %s", err, who.Body)
	}
	keys := 0
	pay := func(r AuthorizationRequest) *AuthorizeResponse {
		t.Helper()
		keys++
		r.Merchant, r.Reference = n.Merchant, fmt.Sprintf("TOUR-%d", keys)
		a, err := c.AuthorizeWithResponse(ctx, &AuthorizeParams{IdempotencyKey: fmt.Sprintf("tour-%d", keys)}, r)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	given := AuthorizationRequest_Card{Number: text("4111111111111111"), Expiry: text("3012"), Cvv: text("123")}
	first := pay(AuthorizationRequest{Amount: Amount{Value: 1000, Currency: "EUR"}, Channel: "ecommerce", Card: given, SaveCard: yes()})
	if first.JSON201 == nil || first.JSON201.Status != "approved" || first.JSON201.Card.Token == nil {
		t.Fatalf("first payment: %s", first.Body)
	}
	second := pay(AuthorizationRequest{Amount: Amount{Value: 2500, Currency: "EUR"}, Channel: "moto", Card: AuthorizationRequest_Card{Token: first.JSON201.Card.Token}})
	if second.JSON201 == nil || second.JSON201.Status != "approved" {
		t.Fatalf("with the saved card by telephone: %s", second.Body)
	}
	captured, err := c.CaptureWithResponse(ctx, second.JSON201.Id, &CaptureParams{IdempotencyKey: "capture"}, CaptureJSONRequestBody{})
	if err != nil || captured.JSON201 == nil {
		t.Fatalf("capture: %v %s", err, captured.Body)
	}
	record, err := c.GetAuthorizationWithResponse(ctx, second.JSON201.Id)
	if err != nil || record.JSON200 == nil || record.JSON200.Channel != "moto" || record.JSON200.State != "approved" {
		t.Fatalf("record: %v %s", err, record.Body)
	}
	declined := pay(AuthorizationRequest{Amount: Amount{Value: 1051, Currency: "EUR"}, Channel: "ecommerce", Card: given})
	if declined.JSON201 == nil || declined.JSON201.Reason == nil || *declined.JSON201.Reason != "insufficient_funds" {
		t.Fatalf("declined: %s", declined.Body)
	}
	refused := pay(AuthorizationRequest{Amount: Amount{Value: 1000, Currency: "USD"}, Channel: "ecommerce", Card: given})
	if refused.ApplicationproblemJSON422 == nil || refused.ApplicationproblemJSON422.Errors == nil || (*refused.ApplicationproblemJSON422.Errors)[0].Pointer != "/amount/currency" {
		t.Fatalf("refused: %s", refused.Body)
	}
	merchant, err := c.GetMerchantWithResponse(ctx, n.Merchant, bearer(n.AdminKey))
	if err != nil || merchant.JSON200 == nil || merchant.JSON200.Version != 0 || len(merchant.JSON200.Contracts) != 4 {
		t.Fatalf("merchant: %v %s", err, merchant.Body)
	}
}

// What is in the tree is what the specification makes.
func TestCurrent(t *testing.T) {
	dir := t.TempDir()
	path, config := filepath.Join(dir, "client.gen.go"), filepath.Join(dir, "oapi-codegen.yaml")
	settings, err := os.ReadFile("oapi-codegen.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, bytes.Replace(settings, []byte("client.gen.go"), []byte(path), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	generate := exec.Command("go", "tool", "oapi-codegen", "-config", config, "../openapi.yaml")
	if out, err := generate.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("client.gen.go")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("client.gen.go is not what api/openapi.yaml makes: run make client")
	}
}
