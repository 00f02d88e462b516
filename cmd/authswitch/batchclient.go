package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// batchClient asks a node's API about refund batches, as a gateway or as a named
// operator.
type batchClient struct {
	client
	person string
	secret string // file of the credential
	asJSON bool
}

// batchTimeout is longer than a large file takes to be checked and written down.
const batchTimeout = 5 * time.Minute

func batchFlags(c *cobra.Command, b *batchClient, persons bool) {
	clientFlags(c, &b.client)
	c.Flags().BoolVar(&b.asJSON, "json", false, "print the node's JSON")
	if persons {
		c.Flags().StringVar(&b.person, "operator", "", "act as this operator, instead of with a gateway's key")
		c.Flags().StringVar(&b.secret, "secret-file", "", "file that holds the operator's credential")
	}
}

// authorization is the header of whoever acts.
func (b *batchClient) authorization() (string, error) {
	if b.person == "" {
		key, err := b.client.secret()
		return "Bearer " + key, err
	}
	if b.secret == "" {
		return "", fmt.Errorf("%w: --secret-file is needed with --operator", errUsage)
	}
	text, err := os.ReadFile(b.secret)
	if err != nil {
		return "", fmt.Errorf("read credential: %w", err)
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(b.person+":"+strings.TrimSpace(string(text)))), nil
}

// send asks; what is not an answer of success is an error. The caller closes the
// body.
func (b *batchClient) send(ctx context.Context, method, path, media string, body []byte, headers map[string]string) (io.ReadCloser, error) {
	authorization, err := b.authorization()
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(b.api, "/")+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%w: --api: %w", errUsage, err)
	}
	request.Header.Set("Authorization", authorization)
	if media != "" {
		request.Header.Set("Content-Type", media)
	}
	for name, v := range headers {
		request.Header.Set(name, v)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", b.api, err)
	}
	if answer.StatusCode < 400 {
		return answer.Body, nil
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 64<<20))
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	return nil, batchProblem(answer.StatusCode, text)
}

// batchProblem renders a problem with every bad line of a file.
func batchProblem(status int, body []byte) error {
	var p struct {
		Code, Detail, Batch string
		Errors              []struct {
			Line                          int
			Column, Code, Detail, Pointer string
		}
	}
	if json.Unmarshal(body, &p) != nil || p.Code == "" {
		return fmt.Errorf("HTTP %d", status)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "HTTP %d %s: %s", status, p.Code, p.Detail)
	if p.Batch != "" {
		fmt.Fprintf(&b, " (%s)", p.Batch)
	}
	for _, e := range p.Errors {
		if e.Line == 0 {
			fmt.Fprintf(&b, "\n  %s: %s", e.Pointer, e.Detail)
			continue
		}
		where := fmt.Sprintf("line %d", e.Line)
		if e.Column != "" {
			where += ", " + e.Column
		}
		fmt.Fprintf(&b, "\n  %s: %s: %s", where, e.Code, e.Detail)
	}
	return fmt.Errorf("%s", b.String())
}

// ask reads one answer.
func (b *batchClient) ask(ctx context.Context, method, path, media string, body []byte, headers map[string]string) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, batchTimeout)
	defer cancel()
	answer, err := b.send(ctx, method, path, media, body, headers)
	if err != nil {
		return nil, err
	}
	defer answer.Close()
	text, err := io.ReadAll(io.LimitReader(answer, 16<<20))
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	return text, nil
}

// batchView is a batch as the API shows it.
type batchView struct {
	ID       string
	Status   string
	Name     *string
	Tag      *string
	Lines    int
	Totals   []money
	Needed   int `json:"releases_needed"`
	Releases []struct{ By string }
	Progress struct {
		Started, Approved, Declined, Failed, Refused, Exceptions int
		InDoubt                                                  int `json:"in_doubt"`
	}
}

// show prints one batch, or what a file would come to.
func (b *batchClient) show(w io.Writer, text json.RawMessage) error {
	if b.asJSON {
		return printJSON(w, text)
	}
	var v batchView
	if err := json.Unmarshal(text, &v); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	showBatch(w, &v)
	return nil
}

func showBatch(w io.Writer, v *batchView) {
	what := ""
	switch {
	case v.Name != nil:
		what = " " + *v.Name
	case v.Tag != nil:
		what = " tag " + *v.Tag
	}
	if v.ID != "" {
		fmt.Fprintf(w, "%s%s: %s\n", v.ID, what, v.Status)
	}
	sums := make([]string, len(v.Totals))
	for i, t := range v.Totals {
		sums[i] = fmt.Sprintf("%d %s", t.Value, t.Currency)
	}
	fmt.Fprintf(w, "%d lines, %s in minor units; releases: %d of %d\n", v.Lines, strings.Join(sums, ", "), len(v.Releases), v.Needed)
	if p := &v.Progress; p.Started > 0 {
		fmt.Fprintf(w, "started %d: approved %d, declined %d, failed %d, refused %d, in doubt %d (exceptions %d)\n",
			p.Started, p.Approved, p.Declined, p.Failed, p.Refused, p.InDoubt, p.Exceptions)
	}
}
