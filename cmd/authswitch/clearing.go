package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"text/tabwriter"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"authswitch/clearing"
	"authswitch/payment"
	"authswitch/store"
)

// newClearing is the node's runner of clearing files.
func (n *node) newClearing() (*clearing.Runner, error) {
	differ := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "clearing_out_of_balance_total", Help: "Totals of batch uploads that this node was told are others at the acquirer.",
	}, []string{"link"})
	if err := n.registry.Register(differ); err != nil {
		return nil, fmt.Errorf("clearing: metrics: %w", err)
	}
	links := make([]clearing.Link, len(n.cfg.Links))
	for i := range n.cfg.Links {
		at, err := cutOverOf(&n.cfg.Links[i])
		if err != nil {
			return nil, err
		}
		differ.WithLabelValues(string(n.cfg.Links[i].Name)) // from the start: an alarm sees only what grows
		links[i] = clearing.Link{Name: n.cfg.Links[i].Name, At: at}
	}
	return clearing.New(0, clearing.Deps{
		Batches: n.store, Decider: n.store, Uploads: n.store, Records: n.store, Links: links, Dir: n.cfg.Clearing.Dir, Node: n.cfg.Node.ID, Now: n.store.Now, Log: n.log,
		Differ: func(link payment.LinkName) { differ.WithLabelValues(string(link)).Inc() },
	}), nil
}

// cutOver is told by a link that its acquirer announced one.
func (n *node) cutOver(link payment.LinkName) {
	if err := n.clearing.Announced(link); err != nil {
		n.log.Warn("cut-over not journalled; the schedule's own follows", "link", link, "error", err)
	}
}

// clearingDoor lets operators see and close batches.
type clearingDoor struct{ store *store.Store }

// clearingBatch is a batch as operators see it.
type clearingBatch struct {
	Link      string `json:"link"`
	Means     string `json:"means"` // file, or upload
	Batch     uint64 `json:"batch"`
	State     string `json:"state"`
	Lines     uint32 `json:"lines"`
	ClosedAt  string `json:"closed_at,omitempty"`
	ClosedBy  string `json:"closed_by,omitempty"`
	WrittenAt string `json:"written_at,omitempty"`
	Node      string `json:"node,omitempty"`
	File      string `json:"file,omitempty"`
	SHA256    string `json:"sha256,omitempty"`
	Bytes     uint64 `json:"bytes,omitempty"`
	Over      uint32 `json:"over,omitempty"`            // lines of an upload that have their end
	Agreed    uint16 `json:"totals_answered,omitempty"` // totals of an upload that are answered
	Differ    uint16 `json:"totals_differ,omitempty"`   // of them: where the acquirer has others
	Code      string `json:"response_code,omitempty"`   // of the last answer
}

func viewOfBatch(b *payment.ClearingBatch) clearingBatch {
	v := clearingBatch{Link: string(b.Link), Means: b.Means.String(), Batch: b.Number, State: b.State.String(), Lines: b.Lines, ClosedBy: b.ClosedBy, Node: string(b.Node), Bytes: b.Bytes}
	if u := &b.Upload; b.Means == payment.MeansUpload {
		v.Over, v.Agreed, v.Differ, v.Code = u.Over, u.Group, u.Unbalanced, u.Code.String()
	}
	if b.ClosedAt != 0 {
		v.ClosedAt = instantText(b.ClosedAt)
	}
	if b.WrittenAt != 0 {
		v.WrittenAt, v.File, v.SHA256 = instantText(b.WrittenAt), clearing.Name(b), fmt.Sprintf("%x", b.SHA256)
	}
	return v
}

func (d clearingDoor) register(mux *http.ServeMux, guard func(func(*http.Request, *operation) (any, *failure)) http.HandlerFunc) {
	mux.HandleFunc("GET /operate/clearing/{link}", guard(d.list))
	mux.HandleFunc("POST /operate/clearing/{link}/close", guard(d.close))
}

// listedBatches is how many batches a list shows.
const listedBatches = 100

// list shows a link's open batches and its last closed ones, those of files
// first. A link without uploads has none of them.
func (d clearingDoor) list(r *http.Request, _ *operation) (any, *failure) {
	link := payment.LinkName(r.PathValue("link"))
	views := []clearingBatch{}
	for _, means := range []payment.OperationMeans{payment.MeansFile, payment.MeansUpload} {
		open, _, err := d.store.OpenClearing(means, link)
		if err != nil {
			return nil, refuse(http.StatusServiceUnavailable, "%s", err)
		}
		closed, err := d.store.ClearingBatches(means, link, listedBatches)
		if err != nil {
			return nil, refuse(http.StatusServiceUnavailable, "%s", err)
		}
		if means == payment.MeansFile || open.Lines > 0 || len(closed) > 0 {
			views = append(views, viewOfBatch(&open))
		}
		for i := range closed {
			views = append(views, viewOfBatch(&closed[i]))
		}
	}
	return views, nil
}

// close ends a link's business day now.
func (d clearingDoor) close(r *http.Request, b *operation) (any, *failure) {
	link := payment.LinkName(r.PathValue("link"))
	var open [2]payment.ClearingBatch
	for i, means := range []payment.OperationMeans{payment.MeansFile, payment.MeansUpload} {
		var err error
		if open[i], _, err = d.store.OpenClearing(means, link); err != nil {
			return nil, refuse(http.StatusServiceUnavailable, "%s", err)
		}
	}
	did, err := d.store.CutOver(&payment.DayEnd{Link: link, Number: open[0].Number, By: b.Operator})
	switch {
	case errors.Is(err, payment.ErrPending):
		return nil, refuse(http.StatusServiceUnavailable, "whether the batch is closed is not known yet; look with clearing list")
	case err != nil:
		return nil, refuse(http.StatusServiceUnavailable, "%s", err)
	case !did:
		return nil, refuse(http.StatusConflict, "batch %d of link %s was closed by somebody else", open[0].Number, link)
	}
	views := []clearingBatch{}
	for i := range open {
		closed, err := d.store.ClearingBatch(open[i].Means, link, open[i].Number)
		switch {
		case errors.Is(err, payment.ErrNotFound): // it had no line
		case err != nil:
			return nil, refuse(http.StatusServiceUnavailable, "%s", err)
		default:
			views = append(views, viewOfBatch(&closed))
		}
	}
	return views, nil
}

// clearingCommand looks after clearing files and batch uploads.
func clearingCommand() *cobra.Command {
	c := &cobra.Command{Use: "clearing", Short: "Clearing files and batch uploads: how far they are, and the end of a link's business day"}
	c.AddCommand(
		clearingAction("list LINK", "Show a link's open batch and its last closed ones", http.MethodGet, ""),
		clearingAction("close LINK", "End a link's business day now: its file is written, its upload sent, and voids become refunds", http.MethodPost, "/close"),
	)
	return c
}

func clearingAction(use, short, method, action string) *cobra.Command {
	var o operator
	c := &cobra.Command{
		Use: use, Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var batches []clearingBatch
			if err := o.ask(cmd.Context(), method, "/operate/clearing/"+url.PathEscape(args[0])+action, &batches); err != nil {
				return err
			}
			if o.asJSON {
				return printJSON(cmd.OutOrStdout(), batches)
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "LINK\tMEANS\tBATCH\tSTATE\tLINES\tCLOSED\tBY\tNODE\tFILE")
			for _, b := range batches {
				fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%d\t%s\t%s\t%s\t%s\n", b.Link, b.Means, b.Batch, b.State, b.Lines, b.ClosedAt, b.ClosedBy, b.Node, b.File)
			}
			return t.Flush()
		},
	}
	operatorFlags(c, &o)
	return c
}
