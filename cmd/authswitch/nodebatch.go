package main

import (
	"context"

	"authswitch/api"
	"authswitch/batch"
	"authswitch/payment"
	"authswitch/people"
	"authswitch/store"
)

// openBatches makes what takes refund batches, and the operators' book; the API
// gets both.
func (n *node) openBatches(d *api.Deps) error {
	taker, err := batch.NewTaker(n.cfg.Batches, batch.Deps{
		Records: n.store, Writer: n.store, Tags: n.store, CatchUp: n.store.CatchUp, Index: n.cards.BlindIndex, Mint: n.core.Mint,
		Refunds: func(l payment.LinkName) bool {
			_, _, _, ok := n.core.Means(l, payment.OpRefund)
			return ok
		},
	})
	if err != nil {
		return err
	}
	d.Batches, d.BatchReader, d.People = taker, freshBatches{n.store}, n.people
	return nil
}

// freshBatches shows a batch as it is now, and reads its lines as this replica
// has them then.
type freshBatches struct{ *store.Store }

func (f freshBatches) Batch(id payment.ID) (payment.Batch, error) {
	if err := f.CatchUp(); err != nil {
		return payment.Batch{}, err
	}
	return f.Store.Batch(id)
}

// runBatches starts the lines of released batches while this node leads.
func (n *node) runBatches(ctx context.Context) {
	means := func(l payment.LinkName) (payment.OperationMeans, uint16, bool, bool) {
		return n.core.Means(l, payment.OpRefund)
	}
	batch.NewRunner(n.cfg.Batches, n.store, means, n.log).Run(ctx)
}

func (n *node) openPeople() { n.people = people.NewBook(n.store, n.log) }
