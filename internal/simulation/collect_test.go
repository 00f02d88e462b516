package simulation_test

import (
	"fmt"
	"log/slog"
	"time"

	"authswitch/clearing"
	"authswitch/journal"
	"authswitch/outbox"
	"authswitch/payment"
)

// What is collected and goes to its acquirer once the day is over: the node's own
// runner of clearing files and batch uploads, as it is.

func (n *node) newFiler() *clearing.Runner {
	w := n.w
	var links []clearing.Link
	for i := range w.hosts {
		links = append(links, clearing.Link{Name: linkName(i), Agreer: &outbox.Reconciler{
			Deps:   outbox.Deps{Link: linkName(i), Dialect: w.dialect(i), Journal: deps{n}, Operations: deps{n}, Sender: deps{n}, Vault: cards{w.vault}, Now: n.wall, Log: slog.New(slog.DiscardHandler)},
			Totals: deps{n},
		}})
	}
	return clearing.New(0, clearing.Deps{
		Batches: deps{n}, Decider: deps{n}, Uploads: deps{n}, Records: deps{n}, Links: links, Node: n.id,
		Now: func() payment.Instant { return n.clock.Stamp(n.wall(), n.steady()) },
		Log: slog.New(slog.DiscardHandler),
		Write: func(name string, text []byte) error {
			w.check.filed(n, name, text)
			w.sleep(w.current, w.between(100*time.Microsecond, 30*time.Millisecond)) // it may crash before it can say so
			return nil
		},
	})
}

// file runs a round of the clearing runner.
func (n *node) file() {
	if n.filing {
		return
	}
	n.filing = true
	life := n.life
	n.w.spawn(n, func(*task) {
		n.filer.Round(simulated)
		if n.life == life {
			n.filing = false
		}
	})
}

func (d deps) OpenClearing(means payment.OperationMeans, link payment.LinkName) (payment.ClearingBatch, payment.Instant, error) {
	return journal.ReadOpenClearing(d.n.disk, means, link)
}

func (d deps) PendingClearing(limit int) ([]payment.ClearingBatch, error) {
	return journal.ReadPendingClearing(d.n.disk, limit)
}

func (d deps) ClearingLines(means payment.OperationMeans, link payment.LinkName, number uint64, after uint32, limit int) ([]payment.ClearingLine, error) {
	return journal.ReadClearingLines(d.n.disk, means, link, number, after, limit)
}

func (d deps) CutOver(x *payment.DayEnd) (bool, error) {
	n, err := d.count(journal.KindCutOver, journal.AppendCutOver(nil, x))
	return n > 0, err
}

func (d deps) Filed(x *payment.Filed) error {
	_, err := d.count(journal.KindFiled, journal.AppendFiled(nil, x))
	return err
}

func (d deps) SettleFile(link payment.LinkName, number uint64) (int, error) {
	return d.count(journal.KindFileSettle, journal.AppendFileSettle(nil, link, number))
}

func (d deps) Upload(link payment.LinkName, number uint64) (int, error) {
	return d.count(journal.KindUpload, journal.AppendUpload(nil, link, number))
}

func (d deps) OwingOperations(link payment.LinkName) int { return d.n.m.OwingOperations(link) }

func (d deps) ClaimTotals(x *payment.Totals) (bool, error) {
	n, err := d.count(journal.KindTotals, journal.AppendTotals(nil, x))
	return n > 0, err
}

func (d deps) AgreeTotals(x *payment.Totals, a *payment.Agreed) error {
	_, err := d.count(journal.KindAgreed, journal.AppendAgreed(nil, x, a))
	return err
}

func (d deps) count(k journal.Kind, body []byte) (int, error) {
	r, err := d.n.propose(d.n.w.current, k, body, commitTimeout)
	return r.Count, err
}

// collects ends the last day of a run: it says whether anything is collected, or
// on its way, still, and cuts over what is open.
func (w *world) collects() bool {
	busy := false
	for i := range w.hosts {
		file, _, errFile := journal.ReadOpenClearing(w.check.disk, payment.MeansFile, linkName(i))
		upload, _, errUpload := journal.ReadOpenClearing(w.check.disk, payment.MeansUpload, linkName(i))
		if errFile != nil || errUpload != nil {
			w.check.fail("N", "open batches: %v, %v", errFile, errUpload)
		}
		if file.Lines+upload.Lines == 0 {
			continue
		}
		busy = true
		if n := w.someNode(); n != nil {
			n.spare(journal.KindCutOver, journal.AppendCutOver(nil, &payment.DayEnd{Link: linkName(i), Number: file.Number, By: "ana"}))
		}
	}
	return busy || w.pendingClearing() != ""
}

// pendingClearing says which batch is closed and not settled; "" when none is.
func (w *world) pendingClearing() string {
	pending, err := journal.ReadPendingClearing(w.check.disk, 1)
	if err != nil || len(pending) > 0 {
		return fmt.Sprintf("closed and not settled: %+v, %v", pending, err)
	}
	return ""
}
