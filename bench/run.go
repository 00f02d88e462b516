package bench

import (
	"container/heap"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"
)

// ErrOptions is a run that cannot be: the message says which option.
var ErrOptions = errors.New("option out of range")

// Options say what load to offer. Zero values are replaced by the defaults in
// the comments.
type Options struct {
	API      []string
	Key      string        // the API key itself
	Merchant string        // the key's first
	Currency string        // EUR
	Rate     float64       // a second; 100
	Duration time.Duration // 10 s
	Poisson  bool          // exponential gaps; constant ones otherwise
	Amounts  []int64       // minor units; 1000 to 9900 by hundreds
	Mix      Mix
	Cards    []Card // in turn; the schemes' test cards in e-commerce
	Seed     uint64 // of amounts and gaps; 1

	Connections int           // at most; 1024
	MaxOpen     int           // payments without a final answer at most; 200000
	Timeout     time.Duration // of one attempt; 30 s
	Drain       time.Duration // how long after Duration answers are still sought; 60 s
	Impatient   bool          // what is refused as overloaded is not asked again: it is load that goes away
	LateLimit   time.Duration // p99 of the generator's lateness above which the run is invalid; 5 ms

	Answers   io.WriteCloser // the answers file; closed by Run; nil: none
	Progress  io.Writer      // a line each second; nil: none
	Processes []Process      // whose CPU is counted beside our own
	Admin     []string       // admin addresses whose /metrics give the stages

	Now    func() time.Time
	Random io.Reader // makes the run's keys its own
	Dial   Dial
}

func (o *Options) setDefaults() error {
	setDefault(&o.Currency, "EUR")
	setDefault(&o.Rate, 100)
	setDefault(&o.Duration, 10*time.Second)
	setDefault(&o.Seed, 1)
	setDefault(&o.Connections, 1024)
	setDefault(&o.MaxOpen, 200_000)
	setDefault(&o.Timeout, 30*time.Second)
	setDefault(&o.Drain, time.Minute)
	setDefault(&o.LateLimit, 5*time.Millisecond)
	if len(o.Amounts) == 0 {
		amounts, err := ParseAmounts("")
		if err != nil {
			return err
		}
		o.Amounts = amounts
	}
	if len(o.Cards) == 0 {
		o.Cards = defaultCards()
	}
	switch {
	case !(o.Rate > 0 && o.Rate <= maxRate):
		return ErrRate
	case o.Duration < 0 || o.Drain < 0 || o.Timeout <= deadlineSlack:
		return fmt.Errorf("durations: %w", ErrOptions)
	case o.Connections < 1 || o.MaxOpen < 1 || len(o.Cards) > maxCards:
		return fmt.Errorf("limits: %w", ErrOptions)
	case o.Now == nil || o.Random == nil || o.Dial == nil:
		return fmt.Errorf("environment: %w", ErrOptions)
	}
	return nil
}

func setDefault[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

// Waits of the generator.
const (
	retryFirst = 50 * time.Millisecond
	retryLast  = 2 * time.Second
	longestNap = 5 * time.Millisecond
	// overloadedWait is what a door that refuses asks for (Retry-After), and up to
	// as much again, so that what was refused together does not come together.
	overloadedWait = time.Second
)

// runner is one run under way.
type runner struct {
	o       *Options
	started time.Time
	pool    *pool
	tally   *tally
	answers *answersFile
	random  *rand.Rand

	mu       sync.Mutex // retries and ended
	retries  retryHeap
	ended    bool
	leftOver []*job // attempts that came back after the end
}

// Run offers the load and waits for the answers. It returns an error only when
// it could not begin or could not write the answers; whatever the switch does
// is in the report. A cancelled context ends the run early and makes it
// invalid.
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	targets, err := parseTargets(o.API)
	if err != nil {
		return nil, err
	}
	if len(targets) > 255 {
		return nil, fmt.Errorf("more than 255 addresses: %w", ErrOptions)
	}
	client := newClient(targets, o.Key, o.Dial)
	defer client.close()
	if o.Merchant == "" {
		merchants, err := client.merchants(ctx)
		if err != nil {
			return nil, err
		}
		o.Merchant = merchants[0]
	}
	run := make([]byte, 6)
	if _, err := io.ReadFull(o.Random, run); err != nil {
		return nil, fmt.Errorf("run id: %w", err)
	}
	r := &runner{o: &o, tally: newTally(o.Duration), random: rand.New(rand.NewPCG(o.Seed, 0))} // #nosec G404 -- traffic, not secrets
	if o.Answers != nil {
		r.answers = newAnswersFile(o.Answers, o.Merchant, o.Currency)
	}
	templates := make([]requestTemplate, len(targets))
	for i, t := range targets {
		templates[i] = newTemplate(t, o.Key, o.Merchant, o.Currency, "bench-"+hex.EncodeToString(run), o.Cards)
	}
	r.pool = newPool(targets, templates, &o, r)
	return r.run(ctx, client)
}

func (r *runner) run(ctx context.Context, client *client) (*Report, error) {
	stages := client.stages(ctx, r.o.Admin)
	cpu := readCPU(r.o.Processes)
	r.started = r.o.Now()
	if r.answers != nil {
		r.answers.started = r.started
	}
	var progress sync.WaitGroup
	stop := make(chan struct{})
	progress.Go(func() { r.watch(stop) })
	interrupted := r.generate(ctx)
	spent := readCPU(r.o.Processes).since(cpu)
	after := client.stages(context.WithoutCancel(ctx), r.o.Admin)

	r.mu.Lock()
	r.ended = true
	open := append([]*job(nil), r.retries...)
	r.mu.Unlock()
	open = append(open, r.pool.stop()...)
	open = append(open, r.leftOver...) // the pool's goroutines are gone
	for _, j := range open {
		r.giveUp(j)
	}
	close(stop)
	progress.Wait()
	report := r.report(spent, interrupted)
	report.Stages = after.since(stages)
	if r.answers != nil {
		if err := r.answers.close(); err != nil {
			return report, err
		}
	}
	return report, nil
}

// generate is the open loop: it hands out payments when they are due and
// attempts when their wait is over, until all have a final answer or the time
// to look for them is over. It reports whether it was interrupted.
func (r *runner) generate(ctx context.Context) bool {
	gaps := arrivals{gap: float64(time.Second) / r.o.Rate, poisson: r.o.Poisson, random: r.random}
	targets, number := len(r.pool.targets), uint32(0)
	for ctx.Err() == nil {
		now := r.elapsed()
		for gaps.due() <= now && gaps.due() < r.o.Duration {
			r.offer(r.draw(number, gaps.due(), targets))
			number++
			gaps.advance()
		}
		next := r.retryDue(now)
		if due := gaps.due(); due < r.o.Duration {
			next = min(next, due)
		} else if r.tally.open() == 0 || now > r.o.Duration+r.o.Drain {
			return false
		}
		// Never shorter than what the system sleeps anyway: naps of their own
		// for each payment would cost more than the payments.
		time.Sleep(min(max(next-r.elapsed(), 100*time.Microsecond), longestNap))
	}
	return true
}

func (r *runner) elapsed() time.Duration { return r.o.Now().Sub(r.started) }

// draw makes the next payment: schemes and nodes in turn, the amount by chance.
func (r *runner) draw(number uint32, due time.Duration, targets int) *job {
	j := &job{
		intended: due, number: number, card: uint8(number % uint32(len(r.o.Cards))),
		at: uint8(number % uint32(targets)), amount: r.o.Amounts[r.random.IntN(len(r.o.Amounts))],
	}
	if cents, ok := r.o.Mix.cents(r.random.Float64() * 100); ok {
		j.amount = j.amount/100*100 + cents
	}
	return j
}

func (r *runner) offer(j *job) {
	r.tally.offer(j.intended)
	if r.tally.open() > int64(r.o.MaxOpen) || !r.pool.submit(j) {
		r.tally.giveUp(kindShed, r.elapsed())
	}
}

// leaving implements asker.
func (r *runner) leaving(j *job) {
	j.attempt++
	j.left = r.elapsed()
	r.tally.leave(j.attempt == 1, j.left-j.intended)
}

// asked implements asker: a final answer ends the payment, anything else makes
// it wait for another attempt with the same key, on the next node.
func (r *runner) asked(j *job, a *answer, kind string, body []byte) {
	if a != nil {
		if r.answers != nil {
			r.answers.add(r.keyOf(j), j, a, body, r.o.Now())
		}
		if a.final {
			now := r.elapsed()
			r.tally.finish(a, now, now-j.intended, now-j.left, now <= r.o.Duration)
			return
		}
		kind = a.outcome
	}
	if kind == outcomeOverloaded && r.o.Impatient {
		r.tally.refuse()
		return
	}
	wait := min(retryFirst<<min(j.attempt-1, 10), retryLast)
	if kind == outcomeOverloaded {
		wait = max(wait, overloadedWait+time.Duration(j.number%1000)*time.Millisecond)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended { // our own end broke it, not the switch
		r.leftOver = append(r.leftOver, j)
		return
	}
	r.tally.fail(kind)
	j.at = uint8((int(j.at) + 1) % len(r.pool.targets))
	j.retryAt = r.elapsed() + wait
	heap.Push(&r.retries, j)
}

// retryDue submits the attempts whose wait is over and says when the next is.
func (r *runner) retryDue(now time.Duration) (next time.Duration) {
	const never = time.Duration(1<<63 - 1)
	for {
		r.mu.Lock()
		if len(r.retries) == 0 {
			r.mu.Unlock()
			return never
		}
		if due := r.retries[0].retryAt; due > now {
			r.mu.Unlock()
			return due
		}
		j, _ := heap.Pop(&r.retries).(*job)
		r.mu.Unlock()
		if !r.pool.submit(j) { // the queue is full: later
			r.mu.Lock()
			j.retryAt = now + retryLast
			heap.Push(&r.retries, j)
			r.mu.Unlock()
		}
	}
}

// giveUp ends a payment that has no final answer.
func (r *runner) giveUp(j *job) {
	if j.attempt == 0 { // it waited for a connection and nothing was ever sent
		r.tally.giveUp(kindShed, r.elapsed())
		return
	}
	r.tally.giveUp(outcomeUnanswered, r.elapsed())
	if r.answers != nil {
		r.answers.add(r.keyOf(j), j, &answer{outcome: outcomeUnanswered}, nil, r.o.Now())
	}
}

func (r *runner) keyOf(j *job) []byte {
	return r.pool.templates[0].appendKey(make([]byte, 0, 32), j)
}

// retryHeap has the attempt that is due first on top.
type retryHeap []*job

func (h retryHeap) Len() int           { return len(h) }
func (h retryHeap) Less(a, b int) bool { return h[a].retryAt < h[b].retryAt }
func (h retryHeap) Swap(a, b int)      { h[a], h[b] = h[b], h[a] }
func (h *retryHeap) Push(x any)        { *h = append(*h, x.(*job)) }
func (h *retryHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return last
}
