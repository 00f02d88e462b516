package batch

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/time/rate"

	"authswitch/payment"
)

// Journal is where batches and what is owed stand.
type Journal interface {
	// Leads says whether this node is the one that acts.
	Leads() bool
	RunningBatches() []payment.Batch
	RunBatch(x *payment.BatchRun) (payment.BatchAnswer, error)
	// Underway says how many operations a link owes that go on by themselves.
	Underway(link payment.LinkName) int
	SweepBatches(keep payment.Instant) error
}

// Means is how a link carries refunds; false: it is not there, or has no message
// for them.
type Means func(link payment.LinkName) (means payment.OperationMeans, mti uint16, reversible, ok bool)

// Runner starts the lines of released batches. Each link has its own pace: one
// whose acquirer is down keeps none of the others. It keeps nothing: where each
// lane stands is in the journal, so that a node that dies, or no longer leads,
// loses no line and starts none twice.
type Runner struct {
	cfg     Config
	journal Journal
	means   Means
	log     *slog.Logger
	pace    *rate.Limiter
	warn    *rate.Limiter
}

// NewRunner builds one; Run does the work.
func NewRunner(cfg Config, journal Journal, means Means, log *slog.Logger) *Runner {
	cfg = cfg.WithDefaults()
	return &Runner{cfg: cfg, journal: journal, means: means, log: log, pace: rate.NewLimiter(rate.Limit(cfg.Rate), cfg.Step), warn: rate.NewLimiter(rate.Every(warnEvery), 1)}
}

// Pauses of the runner.
const (
	idlePause   = 200 * time.Millisecond // while nothing is released, or nothing can go on
	windowPause = 5 * time.Millisecond   // while the links have as much as they may
	sweepEvery  = 5 * time.Minute
	warnEvery   = 10 * time.Second
	unfinished  = payment.Instant(30 * time.Minute) // a batch that was not written down by then never will be
)

// Run acts until the context ends.
func (r *Runner) Run(ctx context.Context) {
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	timer := time.NewTimer(idlePause)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-sweep.C:
			r.sweep()
			continue
		case <-timer.C:
		}
		rest := idlePause
		if r.journal.Leads() {
			rest = r.Round(ctx)
		}
		timer.Reset(rest)
	}
}

// sweep deletes what was never whole.
func (r *Runner) sweep() {
	if !r.journal.Leads() {
		return
	}
	for _, b := range r.journal.RunningBatches() {
		if b.State == payment.BatchLoading {
			if err := r.journal.SweepBatches(unfinished); err != nil {
				r.log.Warn("batches that were not written down whole stay for another round", "error", err)
			}
			return
		}
	}
}

// Round starts what the links have room for, oldest batch first, and says how
// long to rest. Run calls it; a simulation, which has no clock to wait by, calls
// it as it is.
func (r *Runner) Round(ctx context.Context) time.Duration {
	rest := idlePause
	for _, b := range r.journal.RunningBatches() {
		if b.State != payment.BatchReleased {
			continue
		}
		for lane := range b.Lanes {
			if b.Lanes[lane].Ended() {
				continue
			}
			if err := r.lane(ctx, &b, lane); err != nil {
				r.waits(&b, lane, err)
				continue
			}
			rest = min(rest, windowPause)
		}
	}
	return rest
}

// waits says now and then why a lane does not go on.
func (r *Runner) waits(b *payment.Batch, lane int, err error) {
	if errors.Is(err, context.Canceled) || !r.warn.Allow() {
		return
	}
	r.log.Warn("batch waits", "batch", idText(b), "link", b.Lanes[lane].Link, "error", err)
}

func idText(b *payment.Batch) string { return string(b.ID.Append(nil, payment.BatchPrefix)) }

// errNoMeans means that a lane's link cannot carry refunds now.
var errNoMeans = errors.New("the link is not there, or has no message for refunds")

// lane starts the next lines of one lane while its link has room for them.
func (r *Runner) lane(ctx context.Context, b *payment.Batch, lane int) error {
	link := b.Lanes[lane].Link
	means, mti, reversible, ok := r.means(link)
	if !ok {
		return errNoMeans
	}
	for b.State == payment.BatchReleased && !b.Lanes[lane].Ended() && r.journal.Underway(link) < r.cfg.LinkWindow {
		if err := r.pace.WaitN(ctx, r.cfg.Step); err != nil {
			return err
		}
		l := &b.Lanes[lane]
		answer, err := r.journal.RunBatch(&payment.BatchRun{
			ID: b.ID, Lane: uint8(lane), Chunk: l.Next, At: l.At, Count: uint16(r.cfg.Step), Means: means, MTI: mti, Reversible: reversible,
		})
		if err != nil {
			return err
		}
		if answer.Refused != payment.BatchTaken { // cancelled meanwhile
			return nil
		}
		before := b.State
		*b = answer.Batch
		r.said(before, b)
	}
	return nil
}

// said logs the last line of a batch.
func (r *Runner) said(before payment.BatchState, b *payment.Batch) {
	if b.Started == b.Lines || before != b.State {
		r.log.Info("batch: every line is started", "batch", idText(b), "lines", b.Lines, "refused", b.Refused, "state", b.State.String())
	}
}
