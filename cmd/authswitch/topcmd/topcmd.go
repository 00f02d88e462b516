// Package topcmd is `authswitch top`: a node's rates, latencies and debts as
// they are now, from its /metrics and nothing else, so that what it shows is
// what the board and the alarms see. Called by: cmd/authswitch.
package topcmd

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// timeout of one reading.
const timeout = 5 * time.Second

// Command is `authswitch top`.
func Command() *cobra.Command {
	t := &top{}
	c := &cobra.Command{
		Use: "top", Short: "Watch a node: rates, latencies, links, what is owed", Args: cobra.NoArgs,
		Long: `Reads a node's /metrics again and again and shows what happened in between. On a
terminal the screen is drawn anew each time; elsewhere each reading is printed
under the one before.`,
		Example: `  authswitch top
  authswitch top --admin http://127.0.0.1:8081 --every 10s --times 6 >> rates.txt`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t.out, t.terminal = cmd.OutOrStdout(), isTerminal(cmd.OutOrStdout())
			return t.run(cmd.Context())
		},
	}
	f := c.Flags()
	f.StringVar(&t.admin, "admin", "http://127.0.0.1:8081", "URL of the node's admin port")
	f.DurationVar(&t.every, "every", 2*time.Second, "between two readings")
	f.IntVar(&t.times, "times", 0, "end after so many (default: never)")
	return c
}

type top struct {
	admin    string
	every    time.Duration
	times    int
	out      io.Writer
	terminal bool
}

// isTerminal: a screen can be drawn anew only where there is one.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// redraw moves to the upper left corner and clears from there on.
const redraw = "\x1b[H\x1b[J"

func (t *top) run(ctx context.Context) error {
	before, at, err := t.read(ctx)
	if err != nil {
		return err
	}
	tick := time.NewTicker(max(t.every, 100*time.Millisecond))
	defer tick.Stop()
	for n := 0; t.times == 0 || n < t.times; n++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		now, then, err := t.read(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil // stopped while reading: not a failure
			}
			return err
		}
		text := span{before, now, then.Sub(at).Seconds()}.view(t.admin, then)
		if t.terminal {
			text = redraw + text
		} else {
			text += "\n"
		}
		if _, err := io.WriteString(t.out, text); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		before, at = now, then
	}
	return nil
}

func (t *top) read(ctx context.Context) (scrape, time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(t.admin, "/")+"/metrics", http.NoBody)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("--admin: %w", err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("read metrics: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, time.Time{}, fmt.Errorf("read metrics: HTTP %d", answer.StatusCode)
	}
	s, err := readScrape(answer.Body)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("read metrics: %w", err)
	}
	return s, time.Now(), nil
}
