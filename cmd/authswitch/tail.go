package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"slices"
	"time"

	"github.com/spf13/cobra"
)

// tailEvery is how often the node is asked for what is new.
const tailEvery = time.Second

// transactionTail prints a merchant's payments as they are decided, oldest
// first, a line each.
func transactionTail(api *client, asJSON *bool) *cobra.Command {
	var merchant string
	c := &cobra.Command{
		Use: "tail", Short: "Follow a merchant's payments as they are decided", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f := &follower{api: api, merchant: merchant, asJSON: *asJSON, out: cmd.OutOrStdout(), open: map[string]bool{}}
			return f.run(cmd.Context())
		},
	}
	c.Flags().StringVar(&merchant, "merchant", "", "the merchant (required)")
	_ = c.MarkFlagRequired("merchant")
	return c
}

// follower remembers the newest payment it saw, and those that had no outcome
// then.
type follower struct {
	api      *client
	merchant string
	asJSON   bool
	out      io.Writer
	newest   string
	open     map[string]bool
}

func (f *follower) run(ctx context.Context) error {
	tick := time.NewTicker(tailEvery)
	defer tick.Stop()
	for first := true; ; first = false {
		rows, err := f.unseen(ctx, first)
		if err != nil {
			return err
		}
		if err := f.print(ctx, rows, first); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// unseen pages back to the newest payment that was seen, and returns what came
// after it, oldest first. The first time it only looks where to start.
func (f *follower) unseen(ctx context.Context, first bool) ([]json.RawMessage, error) {
	query := url.Values{"merchant": {f.merchant}, "limit": {"200"}}
	if first {
		query.Set("limit", "1")
	}
	var rows []json.RawMessage
	for {
		var page struct {
			Data    []json.RawMessage `json:"data"`
			HasMore bool              `json:"has_more"`
			Next    string            `json:"next"`
		}
		if err := f.api.get(ctx, "/v1/authorizations?"+query.Encode(), &page); err != nil {
			return nil, err
		}
		for _, row := range page.Data {
			var p listed
			if err := json.Unmarshal(row, &p); err != nil {
				return nil, fmt.Errorf("read answer: %w", err)
			}
			if p.ID == f.newest {
				page.HasMore = false
				break
			}
			rows = append(rows, row)
		}
		if !page.HasMore || first {
			break
		}
		query.Set("cursor", page.Next)
	}
	slices.Reverse(rows)
	return rows, nil
}

// print shows what is decided, and keeps what is not for a later look.
func (f *follower) print(ctx context.Context, rows []json.RawMessage, silent bool) error {
	for id := range f.open {
		var row json.RawMessage
		if err := f.api.get(ctx, "/v1/authorizations/"+id, &row); err != nil {
			return err
		}
		if err := f.one(row); err != nil {
			return err
		}
	}
	for _, row := range rows {
		var p listed
		if err := json.Unmarshal(row, &p); err != nil {
			return fmt.Errorf("read answer: %w", err)
		}
		f.newest = p.ID
		if silent {
			continue
		}
		if err := f.one(row); err != nil {
			return err
		}
	}
	return nil
}

func (f *follower) one(row json.RawMessage) error {
	var p listed
	if err := json.Unmarshal(row, &p); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	if p.Status == "pending" {
		f.open[p.ID] = true
		return nil
	}
	delete(f.open, p.ID)
	if f.asJSON {
		_, err := fmt.Fprintf(f.out, "%s\n", row)
		return err
	}
	_, err := fmt.Fprintf(f.out, "%s  %s  %-18s  %d %s  %s  %s  %s  %s  %s\n",
		p.CreatedAt, p.ID, p.Status, p.Amount.Value, p.Amount.Currency, orDash(p.ResponseCode), p.Link, p.STAN, p.RRN, p.Reference)
	return err
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
