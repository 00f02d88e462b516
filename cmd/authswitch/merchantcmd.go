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
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"authswitch/merchant"
)

// merchantView is a merchant as the API shows it.
type merchantView struct {
	merchant.Document
	Version   uint64 `json:"version"`
	ChangedAt string `json:"changed_at"`
	ChangedBy string `json:"changed_by"`
	Reason    string `json:"reason"`
}

func merchantCommand() *cobra.Command {
	var api client
	var asJSON bool
	c := &cobra.Command{Use: "merchant", Short: "Look at merchants and their contracts, and change them"}
	clientFlags(c, &api)
	c.PersistentFlags().BoolVar(&asJSON, "json", false, "print JSON")
	c.AddCommand(merchantList(&api, &asJSON), merchantShow(&api), merchantVersions(&api, &asJSON), merchantApply(&api))
	return c
}

func merchantList(api *client, asJSON *bool) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "The merchants that the key may see", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return showMerchants(cmd, api, "/v1/merchants", *asJSON) },
	}
}

func merchantVersions(api *client, asJSON *bool) *cobra.Command {
	return &cobra.Command{
		Use: "versions ID", Short: "Who made what of a merchant, and why", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return showMerchants(cmd, api, "/v1/merchants/"+args[0]+"/versions", *asJSON)
		},
	}
}

func showMerchants(cmd *cobra.Command, api *client, path string, asJSON bool) error {
	var list struct{ Data []merchantView }
	if err := api.get(cmd.Context(), path, &list); err != nil {
		return err
	}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), list.Data)
	}
	t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "MERCHANT\tVERSION\tCONTRACTS\tGROUP\tCHANGED\tBY\tREASON")
	for i := range list.Data {
		m := &list.Data[i]
		var schemes []string
		for _, k := range m.Contracts {
			schemes = append(schemes, k.Scheme)
		}
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%s\t%s\n", m.ID, m.Version, strings.Join(schemes, ","), m.CardGroup, m.ChangedAt, m.ChangedBy, m.Reason)
	}
	return t.Flush()
}

func merchantShow(api *client) *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "A merchant's document, in the form that apply takes", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var m merchantView
			if err := api.get(cmd.Context(), "/v1/merchants/"+args[0], &m); err != nil {
				return err
			}
			e := yaml.NewEncoder(cmd.OutOrStdout())
			e.SetIndent(2)
			return e.Encode(&m.Document)
		},
	}
}

func merchantApply(api *client) *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: "apply FILE", Short: "Make or change a merchant as a file says", Args: cobra.ExactArgs(1),
		Long: `FILE is one merchant's document in YAML, as "merchant show" prints it and the
nodes' files have it. What stands is read first: where somebody changes the
merchant meanwhile, nothing is done. The key is an administrator's.`,
		Example: `  authswitch merchant show parcels --key @admin.key > parcels.yaml
  authswitch merchant apply parcels.yaml --key @admin.key --reason "CB contract signed"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			document, err := readMerchant(args[0])
			if err != nil {
				return err
			}
			v, err := api.applyMerchant(cmd.Context(), document, reason)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is at version %d\n", v.ID, v.Version)
			return nil
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why, for the audit")
	return c
}

func readMerchant(path string) (*merchant.Document, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read merchant: %w", err)
	}
	defer f.Close()
	d := yaml.NewDecoder(io.LimitReader(f, maxConfigBytes))
	d.KnownFields(true)
	var document merchant.Document
	if err := d.Decode(&document); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if document.ID == "" {
		return nil, fmt.Errorf("%w: %s: id is needed", errUsage, path)
	}
	return &document, nil
}

// applyMerchant makes a merchant, or changes the version that stands.
func (c *client) applyMerchant(ctx context.Context, d *merchant.Document, reason string) (v merchantView, err error) {
	body, err := json.Marshal(struct {
		*merchant.Document
		Reason string `json:"reason,omitempty"`
	}{d, reason})
	if err != nil {
		return v, fmt.Errorf("encode merchant: %w", err)
	}
	path := "/v1/merchants/" + string(d.ID)
	err = c.get(ctx, path, &v)
	var refused *problemError
	if errors.As(err, &refused) && refused.status == http.StatusNotFound {
		return v, c.do(ctx, http.MethodPost, "/v1/merchants", body, "merchant-"+string(d.ID), &v)
	}
	if err != nil {
		return v, err
	}
	return v, c.doIfMatch(ctx, path, body, strconv.Quote(strconv.FormatUint(v.Version, 10)), &v)
}

// doIfMatch replaces a resource at the version that was read.
func (c *client) doIfMatch(ctx context.Context, path string, body []byte, version string, v any) error {
	key, err := c.secret()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, strings.TrimSuffix(c.api, "/")+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%w: --api: %w", errUsage, err)
	}
	request.Header.Set("Authorization", "Bearer "+key)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("If-Match", version)
	return c.answered(request, v)
}
