package simulation_test

import (
	"errors"
	"time"

	"authswitch/journal"
	"authswitch/payment"
)

// What a node's switch, outbox, schedule and batches ask of the journal about
// captures, refunds and the rest.

func (d deps) Operate(o *payment.Operation) (payment.Operated, error) {
	if err := journal.CheckOperation(o); err != nil {
		return payment.Operated{}, err
	}
	r, err := d.n.propose(d.n.w.current, journal.KindOperate, journal.AppendOperate(nil, o), commitTimeout)
	return r.Operated, err
}

func (d deps) Operation(id payment.ID) (payment.Operation, error) {
	if err := d.barrier(); err != nil {
		return payment.Operation{}, err
	}
	return journal.ReadOperation(d.n.disk, id)
}

func (d deps) AwaitOperation(id payment.ID, until payment.Instant) (payment.Operation, error) {
	n, w := d.n, d.n.w
	o, err := journal.ReadOperation(n.disk, id)
	if err != nil || o.State.Over() {
		return o, err
	}
	if until <= n.wall() {
		return o, payment.ErrPending
	}
	wake := w.waker(w.current)
	n.awaits[id] = append(n.awaits[id], wake)
	w.after(time.Duration(until-n.wall()), evTask, wake)
	w.current.park()
	if o, err = journal.ReadOperation(n.disk, id); err == nil && !o.State.Over() {
		err = payment.ErrPending
	}
	return o, err
}

func (d deps) Credit(o *payment.Operation, i *payment.Intent) (payment.Operated, error) {
	i.Node, i.Session = d.n.id, d.n.session
	if err := journal.CheckCredit(o, i); err != nil {
		return payment.Operated{}, err
	}
	r, err := d.n.propose(d.n.w.current, journal.KindCredit, journal.AppendCredit(nil, o, i), commitTimeout)
	return r.Operated, err
}

func (d deps) RefundByKey(m payment.MerchantID, key []byte) (payment.ID, error) {
	if err := d.barrier(); err != nil {
		return payment.ID{}, err
	}
	return journal.ReadRefundByKey(d.n.disk, m, key)
}

func (d deps) Abandon(correction payment.ID) error {
	_, err := d.n.propose(d.n.w.current, journal.KindAbandon, journal.AppendAbandon(nil, correction), commitTimeout)
	return err
}

func (d deps) StoredCard(token payment.ID) (payment.StoredCard, error) {
	if err := d.barrier(); err != nil {
		return payment.StoredCard{}, err
	}
	return journal.ReadCard(d.n.disk, token)
}

func (d deps) ChangeCard(x *payment.CardChange) (payment.StoredCard, error) {
	r, err := d.n.propose(d.n.w.current, journal.KindCard, journal.AppendCardChange(nil, x), commitTimeout)
	return r.Card, err
}

func (d deps) ClaimOnline(c *payment.Claim) (payment.Owed, error) {
	d.n.claims++
	body := journal.AppendClaimOnline(nil, d.n.session, d.n.claims, c)
	r, err := d.n.propose(d.n.w.current, journal.KindClaim, body, commitTimeout)
	return r.Owed, err
}

func (d deps) Answer(a *payment.Acknowledgement) error {
	_, err := d.n.propose(d.n.w.current, journal.KindAcknowledge, journal.AppendAnswer(nil, a), commitTimeout)
	return err
}

// The batches' runner.

func (d deps) Leads() bool { return d.n.w.order.leader == d.n.index }

func (d deps) RunningBatches() []payment.Batch { return d.n.m.Batches() }

func (d deps) Underway(link payment.LinkName) int { return d.n.m.Underway(link) }

func (d deps) SweepBatches(payment.Instant) error { return nil }

func (d deps) RunBatch(x *payment.BatchRun) (payment.BatchAnswer, error) {
	return d.batch(journal.KindBatchRun, journal.AppendBatchRun(nil, x))
}

func (d deps) batch(k journal.Kind, body []byte) (payment.BatchAnswer, error) {
	r, err := d.n.propose(d.n.w.current, k, body, commitTimeout)
	if err != nil {
		return payment.BatchAnswer{}, err
	}
	if r.Batch == nil {
		return payment.BatchAnswer{}, errors.New("a batch's command without its answer")
	}
	return *r.Batch, nil
}
