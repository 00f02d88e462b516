// Package clearing brings captures and refunds to acquirers in files and in batch
// uploads: it ends each link's business day at its cut-over, writes the file of a
// batch that is closed, and then lets the journal make its lines done; of one that
// is uploaded it hands the lines to the outbox, and once all have their end agrees
// with the acquirer on what they came to.
//
// What is in a file is the journal's alone to say: the same batch gives the same
// bytes on any node, so that a node which dies between the disk and the journal
// loses nothing and writes nothing twice. No card number is in a file. Started
// by cmd on every node; only the leader's Runner acts.
package clearing

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"authswitch/payment"
)

// Batches is the journal's account of what goes into files.
type Batches interface {
	OpenClearing(means payment.OperationMeans, link payment.LinkName) (payment.ClearingBatch, payment.Instant, error)
	PendingClearing(limit int) ([]payment.ClearingBatch, error)
	ClearingLines(means payment.OperationMeans, link payment.LinkName, number uint64, after uint32, limit int) ([]payment.ClearingLine, error)
}

// Decider changes it.
type Decider interface {
	// Leads says whether this node is the one that acts.
	Leads() bool
	CutOver(x *payment.DayEnd) (bool, error)
	Filed(x *payment.Filed) error
	SettleFile(link payment.LinkName, number uint64) (int, error)
}

// Uploads changes batches that are uploaded.
type Uploads interface {
	// Upload puts the next lines of a closed batch into the outbox.
	Upload(link payment.LinkName, number uint64) (int, error)
	// OwingOperations is how many messages of operations wait in a link's outbox.
	OwingOperations(link payment.LinkName) int
}

// Agreer sends totals to their acquirer, once, and journals what it says.
type Agreer interface {
	Agree(x *payment.Totals) (payment.Agreed, error)
}

// Records has the payments that lines are about.
type Records interface {
	Payment(id payment.ID) (payment.Payment, error)
	Operation(id payment.ID) (payment.Operation, error)
}

// Link is a link and when its business day ends.
type Link struct {
	Name   payment.LinkName
	At     time.Duration // from midnight UTC
	Agreer Agreer        // nil: nothing is uploaded
}

// Deps are the parts a Runner is built from.
type Deps struct {
	Batches Batches
	Decider Decider
	Uploads Uploads // nil: nothing is uploaded
	Records Records
	Links   []Link
	Dir     string // of the files; made when it is not there
	// Write puts a file there, whole or not at all; nil: onto this node's disk. A
	// simulation has disks of its own.
	Write func(name string, text []byte) error
	Node  payment.NodeID
	Now   func() payment.Instant
	Log   *slog.Logger
	// Differ is told of totals that are others at the acquirer; nil: nobody is.
	Differ func(payment.LinkName)
}

// Runner closes, writes and settles.
type Runner struct {
	deps  Deps
	every time.Duration
}

// DefaultEvery is how often a Runner looks.
const DefaultEvery = time.Second

// mostPending is how many batches one round takes on.
const mostPending = 64

// New builds a runner that looks every so often; Run does the work.
func New(every time.Duration, deps Deps) *Runner {
	if every <= 0 {
		every = DefaultEvery
	}
	return &Runner{deps: deps, every: every}
}

// Agrees says who sends a link's totals. It is called before Run: links are told
// of their cut-overs before they can send.
func (r *Runner) Agrees(link payment.LinkName, a Agreer) {
	for i := range r.deps.Links {
		if r.deps.Links[i].Name == link {
			r.deps.Links[i].Agreer = a
		}
	}
}

// Run acts until the context ends.
func (r *Runner) Run(ctx context.Context) {
	tick := time.NewTicker(r.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if r.deps.Decider.Leads() {
			r.Round(ctx)
		}
	}
}

// Round closes what is due and goes on with what is closed.
func (r *Runner) Round(ctx context.Context) {
	for i := range r.deps.Links {
		r.warn("close a clearing batch", r.closeDue(&r.deps.Links[i]))
	}
	pending, err := r.deps.Batches.PendingClearing(mostPending)
	r.warn("look for clearing batches", err)
	for i := range pending {
		if ctx.Err() != nil {
			return
		}
		if pending[i].Means == payment.MeansUpload {
			r.warn("upload a batch", r.upload(ctx, &pending[i]))
			continue
		}
		r.warn("write a clearing file", r.forward(ctx, &pending[i]))
	}
}

func (r *Runner) warn(what string, err error) {
	if err != nil {
		r.deps.Log.Warn("clearing waits for the next round", "step", what, "error", err)
	}
}

// closeDue ends a link's business day where its last cut-over was before the
// newest moment at which one is due.
func (r *Runner) closeDue(l *Link) error {
	open, last, err := r.deps.Batches.OpenClearing(payment.MeansFile, l.Name)
	if err != nil {
		return err
	}
	const day = payment.Instant(24 * time.Hour)
	now := r.deps.Now()
	due := now - now%day + payment.Instant(l.At)
	if due > now {
		due -= day
	}
	if last >= due {
		return nil
	}
	_, err = r.deps.Decider.CutOver(&payment.DayEnd{Link: l.Name, Number: open.Number, By: "schedule"})
	return err
}

// acquirersApart is how far apart an acquirer's own cut-overs are at least:
// every connection announces each of them.
const acquirersApart = payment.Instant(10 * time.Minute)

// Announced takes an acquirer's cut-over, as heard on one of its connections.
func (r *Runner) Announced(link payment.LinkName) error {
	open, _, err := r.deps.Batches.OpenClearing(payment.MeansFile, link)
	if err != nil {
		return err
	}
	_, err = r.deps.Decider.CutOver(&payment.DayEnd{Link: link, Number: open.Number, By: "acquirer", Apart: acquirersApart})
	return err
}

// forward writes a closed batch's file and settles its lines.
func (r *Runner) forward(ctx context.Context, b *payment.ClearingBatch) error {
	if b.State == payment.ClearingClosed {
		text, err := Render(r.deps.Batches, r.deps.Records, b)
		if err != nil {
			return err
		}
		name := Name(b)
		if r.deps.Write != nil {
			err = r.deps.Write(name, text)
		} else {
			name, err = write(r.deps.Dir, b, text)
		}
		if err != nil {
			return err
		}
		filed := payment.Filed{Link: b.Link, Number: b.Number, Node: r.deps.Node, SHA256: sha256.Sum256(text), Bytes: uint64(len(text))}
		if err := r.deps.Decider.Filed(&filed); err != nil {
			return err
		}
		r.deps.Log.Info("clearing file written", "link", b.Link, "batch", b.Number, "lines", b.Lines, "file", name)
	}
	for ctx.Err() == nil {
		n, err := r.deps.Decider.SettleFile(b.Link, b.Number)
		if err != nil || n == 0 {
			return err
		}
	}
	return nil
}

// Name is the name of a batch's file.
func Name(b *payment.ClearingBatch) string { return fmt.Sprintf("%s-%06d.csv", b.Link, b.Number) }

// write puts a file on disk, whole or not at all: what has the name is durable.
// One that is there already has the same bytes.
func write(dir string, b *payment.ClearingBatch, text []byte) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make the directory of clearing files: %w", err)
	}
	name := filepath.Join(dir, Name(b))
	f, err := os.OpenFile(name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return "", fmt.Errorf("write a clearing file: %w", err)
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", fmt.Errorf("write a clearing file: %w", err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		return "", fmt.Errorf("write a clearing file: %w", err)
	}
	return name, syncDirectory(dir)
}

// syncDirectory makes a name durable.
func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("write a clearing file: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("write a clearing file: %w", err)
	}
	return nil
}
