package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// ErrAnswer is a response that is not what the API promises.
var ErrAnswer = errors.New("unexpected answer")

// Limits of reading.
const (
	maxPage     = 16 << 20
	maxMetrics  = 8 << 20
	readTimeout = 30 * time.Second
	askAgain    = 250 * time.Millisecond
	askTries    = 40
)

// client reads from the API, one request at a time, from whichever node
// answers.
type client struct {
	targets []target
	key     string
	http    *http.Client
	at      int
}

func newClient(targets []target, key string, dial Dial) *client {
	return &client{targets: targets, key: key, http: &http.Client{
		Timeout:   readTimeout,
		Transport: &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 2},
	}}
}

func (c *client) close() { c.http.CloseIdleConnections() }

// get reads one resource. A node that is away or busy is asked again, or
// another in its place, for ten seconds: a switch under test may be starting.
func (c *client) get(ctx context.Context, path string, into any) error {
	var err error
	for range askTries {
		var again bool
		if again, err = c.try(ctx, path, into); err == nil || !again {
			return err
		}
		c.at = (c.at + 1) % len(c.targets)
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(askAgain):
		}
	}
	return err
}

func (c *client) try(ctx context.Context, path string, into any) (again bool, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.targets[c.at].base+path, nil)
	if err != nil {
		return false, err
	}
	request.Header.Set("Authorization", "Bearer "+c.key)
	response, err := c.http.Do(request)
	if err != nil {
		return ctx.Err() == nil, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxPage))
	if err != nil {
		return true, fmt.Errorf("GET %s: %w", path, err)
	}
	if response.StatusCode != http.StatusOK {
		again = response.StatusCode >= 500 || response.StatusCode == http.StatusTooManyRequests
		return again, fmt.Errorf("GET %s: %w: %s %.200s", path, ErrAnswer, response.Status, body)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return false, fmt.Errorf("GET %s: %w: %w", path, ErrAnswer, err)
	}
	return false, nil
}

// merchants are those the key may act for.
func (c *client) merchants(ctx context.Context) ([]string, error) {
	var who struct {
		Merchants []string `json:"merchants"`
	}
	if err := c.get(ctx, "/v1/whoami", &who); err != nil {
		return nil, fmt.Errorf("asking for the key's merchants: %w", err)
	}
	if len(who.Merchants) == 0 {
		return nil, ErrNoMerchant
	}
	return who.Merchants, nil
}

// stageSums are the sum and count of each stage's histogram.
type stageSums map[string][2]float64

// stages reads the stage histograms of every admin address: each metric with a
// `stage` label whose name ends in _seconds. Without metrics there are none; a
// run does not depend on them.
func (c *client) stages(ctx context.Context, admins []string) stageSums {
	out := stageSums{}
	for _, admin := range admins {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(admin, "/")+"/metrics", nil)
		if err != nil {
			continue
		}
		response, err := c.http.Do(request)
		if err != nil {
			continue
		}
		out.read(io.LimitReader(response.Body, maxMetrics))
		_ = response.Body.Close()
	}
	return out
}

func (s stageSums) read(r io.Reader) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		name, rest, ok := strings.Cut(lines.Text(), "{")
		if !ok {
			continue
		}
		at := 1
		base, isSum := strings.CutSuffix(name, "_seconds_sum")
		if isSum {
			at = 0
		} else if base, ok = strings.CutSuffix(name, "_seconds_count"); !ok {
			continue
		}
		labels, value, ok := strings.Cut(rest, "} ")
		_, stage, labelled := strings.Cut(labels, `stage="`)
		if !ok || !labelled || base == "" {
			continue
		}
		stage, _, _ = strings.Cut(stage, `"`)
		number, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil {
			continue
		}
		sums := s[stage]
		sums[at] += number
		s[stage] = sums
	}
}

// since gives each stage's mean after an earlier reading, in microseconds.
func (s stageSums) since(earlier stageSums) map[string]float64 {
	out := map[string]float64{}
	for stage, now := range s {
		before := earlier[stage]
		if count := now[1] - before[1]; count > 0 {
			out[stage] = (now[0] - before[0]) / count * 1e6
		}
	}
	return out
}
