package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// recordsRate is what is offered to compare kinds of authorizations: within what
// a node holds, so that what is compared is the work and not the waiting.
const recordsRate = 1000

// recordsTurns is how often each kind has its turn.
const recordsTurns = 3

// records measures what the records beside an authorization's own cost: the same
// card paid plainly, with its capture made by the approval, as a stored card, and
// with three tags. The kinds take turns in one run.
func (t *table) records(ctx context.Context) (err error) {
	d, err := t.startDev(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	token, err := storeCard(ctx, &mover{dev: d})
	if err != nil {
		return err
	}
	const card = `"channel":"ecommerce","card":{"number":"4111111111111111","expiry":"3012","cvv":"123"}`
	const plain = "records.plain_cpu_us"
	kinds := []struct{ cpu, ratio, line string }{
		{plain, "", `{` + card + `}`},
		{"records.captured_cpu_us", "records.captured_ratio", `{` + card + `,"capture":"automatic"}`},
		{"records.stored_card_cpu_us", "records.stored_card_ratio", `{"channel":"ecommerce","card":{"token":` + strconv.Quote(token) + `,"cvv":"123"}}`},
		{"records.tagged_cpu_us", "records.tagged_ratio", `{` + card + `,"tags":["season:winter","event:2027-01","stall:7"]}`},
	}
	cards := filepath.Join(t.scratch, "cards")
	for turn := range recordsTurns + 1 { // the first warms up
		for _, k := range kinds {
			if err := os.WriteFile(cards, []byte(k.line), 0o600); err != nil {
				return err
			}
			study, err := t.loadDev(ctx, d, "run", "--rate", strconv.Itoa(recordsRate), "--duration", (t.load / 6).String(), "--cards", cards)
			if err != nil {
				return err
			}
			r := study.Shown()
			if r.Approved != r.Answered || r.Approved == 0 {
				return fmt.Errorf("%s: %w: %d of %d, errors %v", k.cpu, errNotApproved, r.Approved, r.Answered, r.Errors)
			}
			if turn > 0 {
				t.figures[k.cpu] += r.CPUSplit["node"] / recordsTurns
			}
		}
	}
	t.figures["records.at_per_s"] = recordsRate
	for _, k := range kinds[1:] {
		t.figures[k.ratio] = t.figures[k.cpu] / t.figures[plain]
	}
	return t.verify(ctx, d)
}

// storeCard makes one authorization that stores its card.
func storeCard(ctx context.Context, m *mover) (token string, err error) {
	body := strings.TrimSuffix(m.payment("STORED-", 0, "manual"), "}") + `,"save_card":true}`
	answer, err := m.ask(ctx, http.MethodPost, "/v1/authorizations", "application/json", strings.NewReader(body), "stored")
	var made struct{ Card struct{ Token string } }
	if err == nil {
		err = json.Unmarshal(answer, &made)
	}
	if err == nil && made.Card.Token == "" {
		err = fmt.Errorf("%w: no token in %.300s", errMovement, answer)
	}
	return made.Card.Token, err
}
