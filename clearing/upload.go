package clearing

import (
	"context"
	"errors"
	"fmt"

	"authswitch/payment"
)

// uploadWindow is how many messages of a link's operations may wait in its outbox
// before more lines of an upload join them: refunds and live captures of the same
// link do not stand behind a day's worth of them.
const uploadWindow = 1024

// errNoUploads says that a batch is there and nobody here can send it.
var errNoUploads = errors.New("the link's dialect, or this node, has no batch upload any more")

// upload hands a closed batch's lines to the outbox, and agrees on its totals once
// all of them have their end.
func (r *Runner) upload(ctx context.Context, b *payment.ClearingBatch) error {
	agreer := r.agreer(b.Link)
	if agreer == nil || r.deps.Uploads == nil {
		return errNoUploads
	}
	if b.State == payment.ClearingUploaded {
		return r.agree(ctx, agreer, b)
	}
	for ctx.Err() == nil && r.deps.Uploads.OwingOperations(b.Link) < uploadWindow {
		n, err := r.deps.Uploads.Upload(b.Link, b.Number)
		if err != nil || n == 0 {
			return err
		}
	}
	return nil
}

func (r *Runner) agreer(link payment.LinkName) Agreer {
	for i := range r.deps.Links {
		if r.deps.Links[i].Name == link {
			return r.deps.Links[i].Agreer
		}
	}
	return nil
}

// agree sends the totals that are next, as far as they are due.
func (r *Runner) agree(ctx context.Context, agreer Agreer, b *payment.ClearingBatch) error {
	if r.deps.Now() < b.Upload.Due {
		return nil
	}
	all, err := TotalsOf(r.deps.Batches, r.deps.Records, b)
	if err != nil {
		return err
	}
	for n := int(b.Upload.Group); n < len(all) && ctx.Err() == nil; n++ {
		x := all[n]
		if n == int(b.Upload.Group) { // the ones that may have been sent before
			x.Tries, x.STAN = b.Upload.Tries, b.Upload.STAN
		}
		agreed, err := agreer.Agree(&x)
		switch {
		case err != nil:
			return err
		case !agreed.Answered:
			return nil // the claim says when they are sent again
		case !agreed.Balanced:
			if r.deps.Differ != nil {
				r.deps.Differ(b.Link)
			}
			r.deps.Log.Error("an acquirer has other totals than we: investigate", "link", b.Link, "batch", b.Number, "terminal", x.Terms.Terminal, "acceptor", x.Terms.Acceptor,
				"currency", x.Currency.String(), "captures", x.Captures, "captured", x.Captured, "refunds", x.Refunds, "refunded", x.Refunded, "response_code", agreed.Code.String())
		}
	}
	r.deps.Log.Info("batch uploaded", "link", b.Link, "batch", b.Number, "lines", b.Lines)
	return nil
}

// TotalsOf is what the lines of an upload came to: one for each terminal and
// currency, in the order of their first lines. A line that the acquirer did not
// take, by a person's word, is not in it. All lines have their end, so that
// whoever asks gets the same.
func TotalsOf(batches Batches, records Records, b *payment.ClearingBatch) ([]payment.Totals, error) {
	type group struct {
		terms    payment.Terms
		currency payment.Currency
	}
	var all []payment.Totals
	index := map[group]int{}
	last := uint32(0)
	for {
		lines, err := batches.ClearingLines(b.Means, b.Link, b.Number, last, page)
		if err != nil {
			return nil, fmt.Errorf("read clearing lines: %w", err)
		}
		for _, l := range lines {
			last = l.Line
			o, err := records.Operation(l.Operation)
			if err != nil {
				return nil, fmt.Errorf("read what clearing line %d is: %w", l.Line, err)
			}
			p, err := records.Payment(o.Payment)
			if err != nil {
				return nil, fmt.Errorf("read the payment of clearing line %d: %w", l.Line, err)
			}
			g := group{terminalOf(&p.Intent.Terms), o.Amount.Currency}
			n, known := index[g]
			if !known {
				n = len(all)
				index[g] = n
				all = append(all, payment.Totals{Link: b.Link, Number: b.Number, Group: uint16(n), Terms: g.terms, Currency: g.currency})
			}
			count(&all[n], &o)
		}
		if len(lines) < page {
			break
		}
	}
	if len(all) > 1<<16-1 {
		return nil, fmt.Errorf("batch %d of link %s has lines of %d terminals", b.Number, b.Link, len(all))
	}
	for i := range all {
		all[i].Groups = uint16(len(all))
	}
	return all, nil
}

// terminalOf is what tells terminals apart: contracts of several schemes name the
// same one.
func terminalOf(t *payment.Terms) payment.Terms {
	return payment.Terms{Terminal: t.Terminal, Acceptor: t.Acceptor, Acquirer: t.Acquirer, Forwarder: t.Forwarder}
}

func count(x *payment.Totals, o *payment.Operation) {
	switch {
	case o.State != payment.OperationDone && o.State != payment.OperationUndone:
	case o.Kind == payment.OpRefund:
		x.Refunds++
		x.Refunded += o.Amount.Value
	default:
		x.Captures++
		x.Captured += o.Amount.Value
	}
}
