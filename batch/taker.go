package batch

import (
	"errors"
	"slices"
	"time"

	"authswitch/card"
	"authswitch/payment"
)

// Records reads what lines are about.
type Records interface {
	Payment(id payment.ID) (payment.Payment, error)
	Operation(id payment.ID) (payment.Operation, error)
	ByReference(m payment.MerchantID, reference []byte) ([]payment.ID, error)
	// Operations are all that were done with a payment's money, oldest first.
	Operations(id payment.ID) ([]payment.Operation, error)
}

// Writer writes batches down, and knows those that are.
type Writer interface {
	BeginBatch(b *payment.Batch) (payment.BatchAnswer, error)
	PutBatchLines(id payment.ID, seq uint32, lane uint8, lines []payment.BatchLine) (payment.BatchAnswer, error)
	SealBatch(id payment.ID) (payment.BatchAnswer, error)
	ActOnBatch(a *payment.BatchAct) (payment.BatchAnswer, error)
	// BatchBy finds a batch by its content, or its key; payment.ErrNotFound.
	BatchBy(m payment.MerchantID, fingerprint [32]byte, key []byte) (payment.Batch, error)
}

// Tags finds payments by tag.
type Tags interface {
	Tagged(m payment.MerchantID, tag []byte, behind payment.ID, limit int) (ids []payment.ID, more bool, err error)
}

// Deps are the parts a Taker is built from.
type Deps struct {
	Records Records
	Writer  Writer
	Tags    Tags
	// CatchUp makes reads see all that was decided until now.
	CatchUp func() error
	// Index is a card number's blind index.
	Index func(p *card.PAN) [32]byte
	// Refunds says whether a link can carry refunds.
	Refunds func(l payment.LinkName) bool
	Mint    func() payment.ID
}

// Taker takes batches. It is safe for concurrent use.
type Taker struct {
	cfg   Config
	deps  Deps
	busy  chan struct{} // one token for each batch in work
	chunk int
}

// NewTaker builds one.
func NewTaker(cfg Config, deps Deps) (*Taker, error) {
	if faults := cfg.Validate(); len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	cfg = cfg.WithDefaults()
	return &Taker{cfg: cfg, deps: deps, busy: make(chan struct{}, cfg.Uploads), chunk: chunkLines}, nil
}

// chunkLines is how many lines stand together in the journal at most.
const chunkLines = 128

// begin takes a place for one batch in work, or refuses.
func (t *Taker) begin() (end func(), err error) {
	select {
	case t.busy <- struct{}{}:
		return func() { <-t.busy }, nil
	default:
		return nil, payment.ErrBusy
	}
}

// collected are a batch's lines by link, checked.
type collected struct {
	lines  uint32
	totals []payment.Amount
	lanes  []lane
	byLink map[payment.LinkName]int
	taken  map[payment.ID]int64 // of each capture, by lines before
}

type lane struct {
	link  payment.LinkName
	lines []payment.BatchLine
}

func newCollected() *collected {
	return &collected{byLink: map[payment.LinkName]int{}, taken: map[payment.ID]int64{}}
}

// add takes one line. The refusal is about the batch as a whole.
func (c *collected) add(link payment.LinkName, l payment.BatchLine) *Refusal {
	at, known := c.byLink[link]
	if !known {
		if len(c.lanes) == payment.MaxBatchLanes {
			return refuse(CodeLinks, "the payments went over more links than one batch may have")
		}
		at = len(c.lanes)
		c.byLink[link] = at
		c.lanes = append(c.lanes, lane{link: link})
	}
	n := slices.IndexFunc(c.totals, func(a payment.Amount) bool { return a.Currency == l.Amount.Currency })
	if n < 0 {
		if len(c.totals) == payment.MaxBatchCurrencies {
			return refuse(CodeCurrencies, "the payments are in more currencies than one batch may have")
		}
		n = len(c.totals)
		c.totals = append(c.totals, payment.Amount{Currency: l.Amount.Currency})
	}
	c.totals[n].Value += l.Amount.Value
	c.lanes[at].lines = append(c.lanes[at].lines, l)
	c.lines++
	return nil
}

// needs is how many words release what was collected: one up to the limit, two
// operators' above it.
func (t *Taker) needs(totals []payment.Amount) uint8 {
	for _, a := range totals {
		if a.Value > t.cfg.ReleaseLimit {
			return 2
		}
	}
	return 1
}

// write writes a batch down, whole, and seals it: before that nobody sees it.
func (t *Taker) write(b *payment.Batch, c *collected) (payment.Batch, error) {
	b.ID, b.Lines, b.Totals, b.Needs = t.deps.Mint(), c.lines, c.totals, t.needs(c.totals)
	for i := range c.lanes {
		b.Lanes = append(b.Lanes, payment.BatchLane{Link: c.lanes[i].link})
	}
	answer, err := t.deps.Writer.BeginBatch(b)
	if err != nil || answer.Refused != payment.BatchTaken {
		return answer.Batch, orRefusal(err, &answer)
	}
	seq := uint32(0)
	for i := range c.lanes {
		for lines := c.lanes[i].lines; len(lines) > 0; seq++ {
			n := t.fits(lines)
			answer, err := t.put(b.ID, seq, uint8(i), lines[:n])
			if err != nil || answer.Refused != payment.BatchTaken {
				return answer.Batch, orRefusal(err, &answer)
			}
			lines = lines[n:]
		}
	}
	answer, err = retried(func() (payment.BatchAnswer, error) { return t.deps.Writer.SealBatch(b.ID) })
	return answer.Batch, orRefusal(err, &answer)
}

func (t *Taker) put(id payment.ID, seq uint32, lane uint8, lines []payment.BatchLine) (payment.BatchAnswer, error) {
	return retried(func() (payment.BatchAnswer, error) { return t.deps.Writer.PutBatchLines(id, seq, lane, lines) })
}

// retries of one command whose end is not known, or that found no place: it does
// the same once however often it is proposed.
const (
	retries    = 5
	retryPause = 100 * time.Millisecond
)

func retried(propose func() (payment.BatchAnswer, error)) (answer payment.BatchAnswer, err error) {
	for range retries {
		if answer, err = propose(); err == nil {
			return answer, nil
		}
		time.Sleep(retryPause)
	}
	return propose()
}

// fits is how many lines one command carries.
func (t *Taker) fits(lines []payment.BatchLine) int {
	room := payment.BatchLinesRoom
	for n := range lines[:min(len(lines), t.chunk)] {
		if room -= lines[n].Size(); room < 0 {
			return n
		}
	}
	return min(len(lines), t.chunk)
}

// orRefusal turns the journal's answer into an error; nil when it was taken.
func orRefusal(err error, a *payment.BatchAnswer) error {
	if err != nil {
		return err
	}
	switch a.Refused {
	case payment.BatchTaken:
		return nil
	case payment.BatchDuplicate:
		return &Refusal{Code: CodeDuplicate, Detail: "the same refunds were taken as a batch already", Batch: a.Batch}
	case payment.BatchKeyConflict:
		return refuse(CodeKey, "the Idempotency-Key was used for another batch")
	case payment.BatchUnknown:
		return refuse(CodeUnknown, "no such batch")
	case payment.BatchNotHeld:
		return refuse(CodeState, "the batch is "+a.Batch.State.String()+": it does not wait to be released")
	case payment.BatchEnded:
		return refuse(CodeState, "the batch is "+a.Batch.State.String()+" already")
	case payment.BatchNeedsOperators:
		return refuse(CodeOperators, "the batch is above the limit: two named operators release it, never a gateway's key")
	case payment.BatchSameOperator:
		return refuse(CodeSame, "the same operator released it before: the second release is another's")
	case payment.BatchNoOperator:
		return refuse(CodeOperators, "there is no such operator any more")
	case payment.BatchIncomplete:
		return payment.ErrUnavailable
	}
	return payment.ErrUnavailable
}

// Act releases or cancels a batch.
func (t *Taker) Act(a *payment.BatchAct) (payment.Batch, error) {
	answer, err := retried(func() (payment.BatchAnswer, error) { return t.deps.Writer.ActOnBatch(a) })
	return answer.Batch, orRefusal(err, &answer)
}
