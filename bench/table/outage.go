package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Limits and pace of an outage. A link takes 8,192 requests at most and keeps an
// eighth of it from customers, so no more than 7,168 can become owed in one
// moment.
const (
	widest       = 8192
	mostOwed     = 7000
	offeredEvery = 250 * time.Microsecond // 4,000/s: well below what one node takes
	silenceLimit = 60 * time.Second       // of the link and the gateways: the outage must come first
	drainLimit   = 60 * time.Second
	watchEvery   = 5 * time.Millisecond
	unanswered   = 1084 // minor units: the simulator approves and does not answer
)

var (
	errOutage = errors.New("the outage is not the one to measure")
	errSlow   = errors.New("not in time")
)

// outage measures how fast a link gets rid of what it owes when its acquirer is
// back: the acquirer approves thousands, answers none, and is killed. All become
// owed in that moment and none can leave, so all are due when it is back.
func (t *table) outage(ctx context.Context) (err error) {
	if t.owed < 1 || t.owed > mostOwed {
		return fmt.Errorf("%w: -owed is 1 to %d", errOutage, mostOwed)
	}
	o, err := t.newTrial(ctx, "outage", onlyVisa)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.stop()) }()
	o.dev.Links = slices.DeleteFunc(o.dev.Links, func(l devLink) bool { return l.Name != "visa-a" })
	if err := o.start(ctx); err != nil {
		return err
	}
	if err := o.cut(ctx); err != nil {
		return err
	}
	owed, err := o.untouched(ctx)
	if err != nil {
		return err
	}
	if err := o.simulate("visa-a"); err != nil {
		return err
	}
	spent := cpuOf(o.node.Process.Pid)
	took, err := o.drain(ctx)
	if err != nil {
		return err
	}
	spent = cpuOf(o.node.Process.Pid) - spent
	if err := t.verify(ctx, o.dev); err != nil {
		return err
	}
	t.figures["reversals.owed_at_start"] = owed
	t.figures["reversals.drained_per_s"] = owed / took.Seconds()
	t.figures["reversals.cpu_us_node"] = float64(spent.Microseconds()) / owed
	return nil
}

// cut offers the authorizations, kills the acquirer when it has approved all of
// them, and reads what the gateways are told: that the outcome is not known.
func (o *trial) cut(ctx context.Context) error {
	told := make(chan error, o.owed)
	var gateways sync.WaitGroup
	pace := time.NewTicker(offeredEvery)
	defer pace.Stop()
	for i := range o.owed {
		<-pace.C
		gateways.Go(func() { told <- o.authorize(ctx, i) })
	}
	ledger := filepath.Join(o.folder, "visa-a.jsonl")
	err := watch(ctx, silenceLimit/2, "the acquirer has approved all", func() bool {
		lines, _ := os.ReadFile(ledger) // #nosec G304 -- our own
		return bytes.Count(lines, []byte("\n")) >= o.owed || len(told) > 0
	})
	// SIGKILL: a clean stop would let the node send before the line is down.
	err = errors.Join(err, o.simulators["visa-a"].Process.Kill())
	_ = o.simulators["visa-a"].Wait() // says that it was killed
	gateways.Wait()
	close(told)
	for failed := range told {
		if failed != nil {
			return errors.Join(err, failed) // one stands for all
		}
	}
	return err
}

// authorize asks for one payment and is content with an unknown outcome only.
func (o *trial) authorize(ctx context.Context, i int) error {
	number := strconv.Itoa(i)
	body := `{"merchant":"` + o.dev.Merchant + `","reference":"OUTAGE-` + number + `","amount":{"value":` + strconv.Itoa(unanswered) +
		`,"currency":"EUR"},"channel":"ecommerce","card":{"number":"4111111111111111","expiry":"3012","cvv":"123"},"capture":"manual"}`
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, o.dev.API+"/v1/authorizations", strings.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+o.dev.Key)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", "outage-"+number)
	response, err := o.http.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusGatewayTimeout || !bytes.Contains(answer, []byte(`"reversal":"owed"`)) {
		return fmt.Errorf("%w: a gateway was told %s %.200s", errOutage, response.Status, answer)
	}
	return nil
}

// untouched is how many reversals are owed now that none has been tried: one
// that was would wait for its repeat, which is not the speed of the outbox.
func (o *trial) untouched(ctx context.Context) (owed float64, err error) {
	metrics, err := o.get(ctx, o.dev.Admin+"/metrics")
	if err != nil {
		return 0, err
	}
	owed, tried := sum(metrics, "reversals_owed"), sum(metrics, "reversal_transmissions_total")
	if int(owed) != o.owed || tried != 0 {
		return 0, fmt.Errorf("%w: %v owed of %d, %v transmitted", errOutage, owed, o.owed, tried)
	}
	return owed, nil
}

// drain is the time from the last moment that the link was seen down to the
// first at which nothing is owed. The list of links is asked for it, because
// gathering all metrics so often would be a load of its own; they have the last
// word.
func (o *trial) drain(ctx context.Context) (time.Duration, error) {
	down, empty := time.Now(), time.Time{}
	err := watch(ctx, drainLimit, "everything is reversed", func() bool {
		asked := time.Now()
		content, err := o.get(ctx, o.dev.API+"/v1/links")
		var links struct {
			Data []struct {
				State string `json:"state"`
				Owed  int    `json:"reversals_owed"`
			} `json:"data"`
		}
		if err != nil || json.Unmarshal(content, &links) != nil || len(links.Data) != 1 {
			return false
		}
		if links.Data[0].State != "ready" && links.Data[0].Owed == o.owed {
			down = asked
		}
		empty = time.Now()
		return links.Data[0].Owed == 0
	})
	if err != nil {
		return 0, err
	}
	metrics, err := o.get(ctx, o.dev.Admin+"/metrics")
	if err != nil {
		return 0, err
	}
	if owed := sum(metrics, "reversals_owed"); owed != 0 {
		return 0, fmt.Errorf("%w: /metrics has %v owed, /v1/links none", errOutage, owed)
	}
	return empty.Sub(down), nil
}

// sum adds up a metric over all its labels.
func sum(metrics []byte, name string) (total float64) {
	for line := range strings.Lines(string(metrics)) {
		rest, found := strings.CutPrefix(line, name)
		if !found || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		if v, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' ')+1:]), 64); err == nil {
			total += v
		}
	}
	return total
}
