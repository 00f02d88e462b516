package main

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

// batchCommand is `authswitch batch`.
func batchCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "batch", Short: "Refunds by the thousand: upload a file, release it, see it through",
		Long: `A file of refunds is checked whole; a bad line refuses all of it, and every bad
line is named. It then waits to be released: above the configured limit by two named
operators. Its lines leave beside live traffic, each once, whatever dies meanwhile.`,
	}
	c.AddCommand(batchUploadCommand(), batchTagCommand(), batchListCommand(), batchShowCommand(), batchResultCommand(),
		batchActCommand("release", "Release a batch: its refunds leave; above the limit a second operator must, too"),
		batchActCommand("cancel", "Start no further line of a batch; what is started goes its way"))
	return c
}

func batchUploadCommand() *cobra.Command {
	var b batchClient
	var merchant, name, sum, request string
	var lines int
	var dry bool
	c := &cobra.Command{
		Use: "upload FILE", Short: "Upload a file of refunds: CSV with a header, or the ten columns of payment platforms separated by ;", Args: cobra.ExactArgs(1),
		Long: `The file must say how long it is: by a last line "#end,30000" (or "#end;30000"), or
by --lines or --sha256 as its maker gives them. Columns: amount (minor units), currency,
brand, card, expiry, order, comment, name, payment, operation. A card number only says
which payment is meant: it is compared and not kept.`,
		Example: `  authswitch batch upload refunds.csv --lines 30000 --dry-run --key @api.key`,
		RunE: func(cmd *cobra.Command, args []string) error {
			body, err := os.ReadFile(args[0])
			if err != nil {
				return fmt.Errorf("read the file: %w", err)
			}
			defer clear(body)
			query := url.Values{}
			if merchant != "" {
				query.Set("merchant", merchant)
			}
			if name == "" {
				name = filepath.Base(args[0])
			}
			query.Set("name", name)
			if lines > 0 {
				query.Set("lines", strconv.Itoa(lines))
			}
			if dry {
				query.Set("dry_run", "true")
			}
			if request == "" {
				request = rand.Text()
			}
			headers := map[string]string{"Idempotency-Key": request}
			if sum != "" {
				digest, err := hex.DecodeString(sum)
				if err != nil || len(digest) != 32 {
					return fmt.Errorf("%w: --sha256 is 64 hexadecimal digits", errUsage)
				}
				headers["Content-Digest"] = "sha-256=:" + base64.StdEncoding.EncodeToString(digest) + ":"
			}
			answer, err := b.ask(cmd.Context(), http.MethodPost, "/v1/refund-batches?"+query.Encode(), "text/csv", body, headers)
			if err != nil {
				return err
			}
			return b.show(cmd.OutOrStdout(), answer)
		},
	}
	batchFlags(c, &b, false)
	f := c.Flags()
	f.StringVar(&merchant, "merchant", "", "whose refunds they are (default: the key's only merchant)")
	f.StringVar(&name, "name", "", "what to call it (default: the file's name)")
	f.IntVar(&lines, "lines", 0, "how many refunds the file should have")
	f.StringVar(&sum, "sha256", "", "the file's checksum, as its maker gives it")
	f.BoolVar(&dry, "dry-run", false, "only check it")
	f.StringVar(&request, "request", "", "idempotency key, to ask for the same again (default: a new one)")
	return c
}

func batchTagCommand() *cobra.Command {
	var b batchClient
	var merchant, reason, request string
	var preview bool
	c := &cobra.Command{
		Use: "by-tag TAG", Short: "Refund all that is left of every payment with a tag, as a batch", Args: cobra.ExactArgs(1),
		Example: `  authswitch batch by-tag show-2026-11-28 --merchant parcels --preview --key @api.key`,
		RunE: func(cmd *cobra.Command, args []string) error {
			asked := map[string]any{"merchant": merchant, "tag": args[0], "preview": preview}
			if reason != "" {
				asked["reason"] = reason
			}
			body, err := json.Marshal(asked)
			if err != nil {
				return fmt.Errorf("encode request: %w", err)
			}
			if request == "" {
				request = rand.Text()
			}
			answer, err := b.ask(cmd.Context(), http.MethodPost, "/v1/refunds/by-tag", "application/json", body, map[string]string{"Idempotency-Key": request})
			if err != nil {
				return err
			}
			if preview {
				return printJSON(cmd.OutOrStdout(), answer)
			}
			return b.show(cmd.OutOrStdout(), answer)
		},
	}
	batchFlags(c, &b, false)
	f := c.Flags()
	f.StringVar(&merchant, "merchant", "", "whose payments they are (required)")
	f.StringVar(&reason, "reason", "", "the merchant's own reason, kept with each refund")
	f.BoolVar(&preview, "preview", false, "only say what it would come to, and what cannot be refunded and why")
	f.StringVar(&request, "request", "", "idempotency key, to ask for the same again (default: a new one)")
	_ = c.MarkFlagRequired("merchant")
	return c
}

func batchListCommand() *cobra.Command {
	var b batchClient
	var merchant string
	c := &cobra.Command{
		Use: "list", Short: "List a merchant's batches, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{}
			if merchant != "" {
				query.Set("merchant", merchant)
			}
			answer, err := b.ask(cmd.Context(), http.MethodGet, "/v1/refund-batches?"+query.Encode(), "", nil, nil)
			if err != nil {
				return err
			}
			if b.asJSON {
				return printJSON(cmd.OutOrStdout(), answer)
			}
			var page struct{ Data []batchView }
			if err := json.Unmarshal(answer, &page); err != nil {
				return fmt.Errorf("read answer: %w", err)
			}
			for i := range page.Data {
				showBatch(cmd.OutOrStdout(), &page.Data[i])
			}
			return nil
		},
	}
	batchFlags(c, &b, false)
	c.Flags().StringVar(&merchant, "merchant", "", "whose batches (default: the key's only merchant)")
	return c
}

func batchShowCommand() *cobra.Command {
	var b batchClient
	var wait time.Duration
	c := &cobra.Command{
		Use: "show BATCH", Short: "Show a batch and how far it has come", Args: oneID("batch_"),
		RunE: func(cmd *cobra.Command, args []string) error {
			for deadline := time.Now().Add(wait); ; {
				answer, err := b.ask(cmd.Context(), http.MethodGet, "/v1/refund-batches/"+args[0], "", nil, nil)
				if err != nil {
					return err
				}
				var v batchView
				if err := json.Unmarshal(answer, &v); err != nil {
					return fmt.Errorf("read answer: %w", err)
				}
				over := v.Status == "done" || v.Status == "cancelled" && v.Progress.InDoubt == 0
				if over || !time.Now().Before(deadline) {
					if err := b.show(cmd.OutOrStdout(), answer); err != nil || over || wait == 0 {
						return err
					}
					return fmt.Errorf("it is %s after %s", v.Status, wait)
				}
				select {
				case <-time.After(linkPoll):
				case <-cmd.Context().Done():
					return cmd.Context().Err()
				}
			}
		},
	}
	batchFlags(c, &b, true)
	c.Flags().DurationVar(&wait, "wait", 0, "wait so long until every line has its end")
	return c
}

func batchResultCommand() *cobra.Command {
	var b batchClient
	var output string
	c := &cobra.Command{
		Use: "result BATCH", Short: "Write the result file: a line for each line, with what became of it by now", Args: oneID("batch_"),
		RunE: func(cmd *cobra.Command, args []string) error {
			answer, err := b.send(cmd.Context(), http.MethodGet, "/v1/refund-batches/"+args[0]+"/results", "", nil, nil)
			if err != nil {
				return err
			}
			defer answer.Close()
			to := cmd.OutOrStdout()
			if output != "" {
				f, err := os.Create(output)
				if err != nil {
					return fmt.Errorf("write the result: %w", err)
				}
				defer f.Close()
				to = f
			}
			if _, err := io.Copy(to, answer); err != nil {
				return fmt.Errorf("the result is not whole: %w", err)
			}
			return nil
		},
	}
	batchFlags(c, &b, true)
	c.Flags().StringVarP(&output, "output", "o", "", "file to write (default: standard output)")
	return c
}

func batchActCommand(action, short string) *cobra.Command {
	var b batchClient
	c := &cobra.Command{
		Use: action + " BATCH", Short: short, Args: oneID("batch_"),
		Example: "  authswitch batch " + action + " batch_0199… --operator ana --secret-file ana.secret",
		RunE: func(cmd *cobra.Command, args []string) error {
			answer, err := b.ask(cmd.Context(), http.MethodPost, "/v1/refund-batches/"+args[0]+"/"+action, "", nil, nil)
			if err != nil {
				return err
			}
			return b.show(cmd.OutOrStdout(), answer)
		},
	}
	batchFlags(c, &b, true)
	return c
}
