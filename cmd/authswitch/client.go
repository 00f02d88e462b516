package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// client asks a node's API for the operator tools.
type client struct {
	api string
	key string
}

// clientTimeout is longer than any gateway budget.
const clientTimeout = 60 * time.Second

// clientFlags adds --api and --key to a command tree.
func clientFlags(c *cobra.Command, into *client) {
	f := c.PersistentFlags()
	f.StringVar(&into.api, "api", cmp.Or(os.Getenv("AUTHSWITCH_API"), "http://127.0.0.1:8080"), "URL of a node's API (environment AUTHSWITCH_API)")
	f.StringVar(&into.key, "key", "", "API key, or @FILE to read it from (default: environment AUTHSWITCH_KEY)")
}

// secret is the key itself.
func (c *client) secret() (string, error) {
	key := c.key
	if key == "" {
		key = os.Getenv("AUTHSWITCH_KEY")
	}
	if file, ok := strings.CutPrefix(key, "@"); ok {
		b, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("read key: %w", err)
		}
		key = strings.TrimSpace(string(b))
	}
	if key == "" {
		return "", fmt.Errorf("%w: --key is needed", errUsage)
	}
	return key, nil
}

// get reads one resource into v.
func (c *client) get(ctx context.Context, path string, v any) error {
	return c.do(ctx, http.MethodGet, path, nil, "", v)
}

// post sends one request with an idempotency key, a fresh one when empty.
func (c *client) post(ctx context.Context, path string, body any, idempotencyKey string, v any) error {
	if idempotencyKey == "" {
		idempotencyKey = rand.Text()
	}
	b, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	return c.do(ctx, http.MethodPost, path, b, idempotencyKey, v)
}

func (c *client) do(ctx context.Context, method, path string, body []byte, idempotencyKey string, v any) error {
	key, err := c.secret()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.api, "/")+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%w: --api: %w", errUsage, err)
	}
	request.Header.Set("Authorization", "Bearer "+key)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Idempotency-Key", idempotencyKey)
	}
	return c.answered(request, v)
}

// answered sends a request and reads its answer into v.
func (c *client) answered(request *http.Request, v any) error {
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("ask %s: %w", c.api, err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(io.LimitReader(answer.Body, 16<<20))
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	if answer.StatusCode >= 400 {
		return problemOf(answer.StatusCode, b)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	return nil
}

// problemOf renders a problem+json for a terminal.
func problemOf(status int, body []byte) error {
	var p struct {
		Title  string `json:"title"`
		Code   string `json:"code"`
		Detail string `json:"detail"`
		Errors []struct{ Pointer, Code, Detail string }
	}
	if json.Unmarshal(body, &p) != nil || p.Code == "" {
		return &problemError{status, fmt.Sprintf("HTTP %d", status)}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "HTTP %d %s: %s", status, p.Code, p.Detail)
	for _, e := range p.Errors {
		fmt.Fprintf(&b, "\n  %s: %s: %s", e.Pointer, e.Code, e.Detail)
	}
	return &problemError{status, b.String()}
}

// problemError is a refusal of the API.
type problemError struct {
	status int
	text   string
}

// Error implements error.
func (p *problemError) Error() string { return p.text }
