package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Limits and pace of captures, refunds and the batch.
const (
	movingAtOnce  = 64    // requests in flight
	movedOneByOne = 5000  // captures, then refunds, of which the rate is taken
	besideRate    = 2000  // authorizations/s that the batch must not slow down
	fullBatch     = 30000 // lines of the file that the row names
	batchLimit    = 5 * time.Minute
)

var errMovement = errors.New("a movement is not what it should be")

// movements measures captures and refunds one by one, and a batch of refunds
// beside live traffic: its lines a second, and what it does to the others' p99.
func (t *table) movements(ctx context.Context) (err error) {
	if t.lines < 1 || t.lines > 100_000 {
		return fmt.Errorf("%w: -lines is 1 to 100,000", errMovement)
	}
	d, err := t.startDev(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	m := &mover{dev: d, http: http.Client{Timeout: batchLimit, Transport: &http.Transport{MaxIdleConnsPerHost: 2 * movingAtOnce}}}
	if err := t.oneByOne(ctx, m, min(t.lines, movedOneByOne)); err != nil {
		return err
	}
	if err := t.batch(ctx, m); err != nil {
		return err
	}
	return t.verify(ctx, d)
}

// oneByOne takes the rates of captures and of refunds.
func (t *table) oneByOne(ctx context.Context, m *mover, count int) error {
	held, _, err := m.each(ctx, count, func(i int) (string, string) { return "/v1/authorizations", m.payment("MOVE-", i, "manual") })
	if err != nil {
		return err
	}
	captures, took, err := m.each(ctx, count, func(i int) (string, string) { return "/v1/authorizations/" + held[i] + "/captures", "{}" })
	if err != nil {
		return err
	}
	t.figures["movements.captures_per_s"] = float64(count) / took.Seconds()
	_, took, err = m.each(ctx, count, func(i int) (string, string) { return "/v1/refunds", `{"capture":"` + captures[i] + `"}` })
	t.figures["movements.refunds_per_s"] = float64(count) / took.Seconds()
	return err
}

// batch refunds a file beside live authorizations, which run before it without
// it, for as long.
func (t *table) batch(ctx context.Context, m *mover) error {
	sold, _, err := m.each(ctx, t.lines, func(i int) (string, string) { return "/v1/authorizations", m.payment("BATCH-", i, "automatic") })
	if err != nil {
		return err
	}
	span := max(t.load*time.Duration(t.lines)/fullBatch/2, t.short)
	alone, err := t.loadDev(ctx, m.dev, "run", "--rate", strconv.Itoa(besideRate), "--duration", span.String())
	if err != nil {
		return err
	}
	if err := m.hire(ctx, t.binary, t.scratch); err != nil {
		return err
	}
	began := time.Now()
	id, err := m.upload(ctx, sold)
	if err != nil {
		return err
	}
	t.figures["batch.checked_s"] = time.Since(began).Seconds()
	if err := m.release(ctx, t.binary, t.scratch, id, operators()[0]); err != nil {
		return err
	}
	beside := make(chan error, 1)
	var p99 float64
	go func() {
		study, err := t.loadDev(ctx, m.dev, "run", "--rate", strconv.Itoa(besideRate), "--duration", span.String())
		if err == nil {
			p99 = study.Shown().P99
		}
		beside <- err
	}()
	time.Sleep(time.Second) // the others are on their way
	err = m.release(ctx, t.binary, t.scratch, id, operators()[1])
	began = time.Now()
	if err == nil {
		err = m.finished(ctx, id, t.lines)
	}
	took := time.Since(began)
	if err := errors.Join(err, <-beside); err != nil {
		return err
	}
	t.figures["batch.lines"] = float64(t.lines)
	t.figures["batch.lines_per_s"] = float64(t.lines) / took.Seconds()
	t.figures["batch.beside_per_s"] = besideRate
	t.figures["batch.p99_ms_alone"], t.figures["batch.p99_ms_beside"] = alone.Shown().P99, p99
	t.figures["batch.p99_ratio"] = p99 / alone.Shown().P99
	return nil
}

// mover asks a node for movements.
type mover struct {
	dev  *dev
	http http.Client
}

func (m *mover) payment(prefix string, i int, capture string) string {
	return `{"merchant":"` + m.dev.Merchant + `","reference":"` + prefix + strconv.Itoa(i) + `","amount":{"value":1000,"currency":"EUR"},"channel":"ecommerce","capture":"` + capture +
		`","card":{"number":"4111111111111111","expiry":"3012","cvv":"123"}}`
}

// each makes so many requests, movingAtOnce in flight, and returns the ids that
// were answered and how long all took.
func (m *mover) each(ctx context.Context, count int, request func(i int) (path, body string)) ([]string, time.Duration, error) {
	ids := make([]string, count)
	var next atomic.Int64
	var running sync.WaitGroup
	failed := make(chan error, movingAtOnce)
	began := time.Now()
	for range movingAtOnce {
		running.Go(func() {
			for i := int(next.Add(1)) - 1; i < count; i = int(next.Add(1)) - 1 {
				path, body := request(i)
				answer, err := m.ask(ctx, http.MethodPost, path, "application/json", strings.NewReader(body), path+strconv.Itoa(i)+body[:min(len(body), 40)])
				var made struct{ ID string }
				if err == nil {
					err = json.Unmarshal(answer, &made)
				}
				if err != nil {
					failed <- err
					return
				}
				ids[i] = made.ID
			}
		})
	}
	running.Wait()
	took := time.Since(began)
	select {
	case err := <-failed:
		return nil, took, err
	default:
		return ids, took, nil
	}
}

func (m *mover) ask(ctx context.Context, method, path, media string, body io.Reader, key string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, m.dev.API+path, body)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+m.dev.Key)
	request.Header.Set("Content-Type", media)
	request.Header.Set("Idempotency-Key", key)
	response, err := m.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode >= http.StatusBadRequest || bytes.Contains(answer, []byte(`"status":"declined"`)) {
		return nil, fmt.Errorf("%w: %s %s: %s %.300s", errMovement, method, path, response.Status, answer)
	}
	return answer, nil
}

// upload sends a file that refunds each payment whole.
func (m *mover) upload(ctx context.Context, payments []string) (id string, err error) {
	file := bytes.NewBufferString("payment,amount,currency\n")
	for _, p := range payments {
		fmt.Fprintf(file, "%s,1000,EUR\n", p)
	}
	answer, err := m.ask(ctx, http.MethodPost, "/v1/refund-batches?lines="+strconv.Itoa(len(payments)), "text/csv", bytes.NewReader(file.Bytes()), "batch")
	var made struct{ ID string }
	if err == nil {
		err = json.Unmarshal(answer, &made)
	}
	return made.ID, err
}

// operators are the two who release the batch.
func operators() []string { return []string{"ana", "bo"} }

// hire adds the operators; their credentials go with the scratch folder.
func (m *mover) hire(ctx context.Context, binary, scratch string) error {
	for _, name := range operators() {
		err := command(ctx, binary, "operator", "add", name, "--as", "bench", "--admin", m.dev.Admin,
			"--token-file", filepath.Join(m.dev.Nodes[0].DataDir, "operator.token"), "--secret-file", filepath.Join(scratch, name+".secret"))
		if err != nil {
			return err
		}
	}
	return nil
}

// release is one operator's word; the second one's comes too late for a batch
// under the limit.
func (m *mover) release(ctx context.Context, binary, scratch, id, name string) error {
	err := command(ctx, binary, "batch", "release", id, "--api", m.dev.API, "--operator", name, "--secret-file", filepath.Join(scratch, name+".secret"))
	if err != nil && strings.Contains(err.Error(), "wrong_state") {
		return nil
	}
	return err
}

func command(ctx context.Context, binary string, words ...string) error {
	out, err := exec.CommandContext(ctx, binary, words...).CombinedOutput() // #nosec G204 -- the program to measure
	if err != nil {
		return fmt.Errorf("%s %s: %w: %.300s", words[0], words[1], err, out)
	}
	return nil
}

// finished waits until every line is refunded.
func (m *mover) finished(ctx context.Context, id string, lines int) error {
	return watch(ctx, batchLimit, "every line is refunded", func() bool {
		answer, err := m.ask(ctx, http.MethodGet, "/v1/refund-batches/"+id, "application/json", http.NoBody, "")
		var b struct {
			Progress struct{ Approved int }
		}
		time.Sleep(50 * time.Millisecond) // asking is a load of its own
		return err == nil && json.Unmarshal(answer, &b) == nil && b.Progress.Approved == lines
	})
}
