package simulation_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"strings"
	"sync"
	"testing/fstest"
	"time"

	"authswitch/iso8583"
	"authswitch/iso8583/dialects"
	"authswitch/journal"
	"authswitch/payment"
	"authswitch/routing"
	"authswitch/vault"
)

// deps are a node's parts as the switch and the outbox ask for them. What waits
// parks the task that asks.
type deps struct{ n *node }

func (d deps) Open(i *payment.Intent) (payment.Opened, error) {
	n := d.n
	i.Node, i.Session = n.id, n.session
	if err := journal.CheckIntent(i); err != nil {
		return payment.Opened{}, err
	}
	limit := min(commitTimeout, time.Duration(i.SendBy-n.wall()))
	if limit <= 0 {
		return payment.Opened{}, payment.ErrUnavailable
	}
	r, err := n.propose(n.w.current, journal.KindOpen, journal.AppendOpen(nil, i), limit)
	return r.Opened, err
}

func (d deps) Next(o *payment.Outcome, i *payment.Intent) (payment.Settled, error) {
	i.Node = d.n.id
	if err := journal.CheckNext(o, i); err != nil {
		return payment.Settled{}, err
	}
	r, err := d.n.propose(d.n.w.current, journal.KindNext, journal.AppendNext(nil, o, i), commitTimeout)
	return r.Settled, err
}

func (d deps) Close(o *payment.Outcome) (payment.Settled, error)   { return d.settle(o, false) }
func (d deps) Reverse(o *payment.Outcome) (payment.Settled, error) { return d.settle(o, true) }

func (d deps) settle(o *payment.Outcome, reverse bool) (payment.Settled, error) {
	if err := journal.CheckOutcome(o, reverse); err != nil {
		return payment.Settled{}, err
	}
	r, err := d.n.propose(d.n.w.current, journal.KindSettle, journal.AppendSettle(nil, o), commitTimeout)
	return r.Settled, err
}

func (d deps) Cancel(c *payment.Cancellation) (payment.Cancelled, error) {
	if err := journal.CheckCancellation(c); err != nil {
		return payment.Cancelled{}, err
	}
	r, err := d.n.propose(d.n.w.current, journal.KindCancel, journal.AppendCancel(nil, c), commitTimeout)
	return r.Cancelled, err
}

// Late waits for the journal as long as the node lives.
func (d deps) Late(l *payment.Late) error {
	for {
		_, err := d.n.propose(d.n.w.current, journal.KindLate, journal.AppendLate(nil, l), commitTimeout)
		if err == nil || errors.Is(err, payment.ErrNotFound) {
			return err
		}
		d.n.w.sleep(d.n.w.current, 500*time.Millisecond)
	}
}

func (d deps) Claim(l payment.LinkName, seq uint64, stan payment.STAN, t payment.Transmitted) (payment.Owed, error) {
	d.n.claims++
	body := journal.AppendClaim(nil, d.n.session, d.n.claims, l, seq, stan, t)
	r, err := d.n.propose(d.n.w.current, journal.KindClaim, body, commitTimeout)
	return r.Owed, err
}

func (d deps) Acknowledge(l payment.LinkName, seq uint64, r *payment.Response, v payment.AdviceVerdict) (payment.State, error) {
	x, err := d.n.propose(d.n.w.current, journal.KindAcknowledge, journal.AppendAcknowledge(nil, l, seq, r, v), commitTimeout)
	return x.State, err
}

// Due is asked by a worker, which wire.feed stands for.
func (d deps) Due(payment.LinkName, payment.Instant, int, []payment.Owed) []payment.Owed { return nil }

// current waits until this node has everything that was committed when it was
// asked, as a reader does who asks the leader for its index first.
func (d deps) barrier() error {
	n, w := d.n, d.n.w
	o := w.order
	for range 40 {
		if o.leader >= 0 && w.nodes[o.leader].up && !w.cut[n.index][o.leader] && !w.cut[o.leader][n.index] && o.majority(o.leader) {
			index := len(o.log)
			if o.leader != n.index {
				w.sleep(w.current, w.hop())
			}
			for range 100 {
				if n.applied >= index {
					return nil
				}
				w.sleep(w.current, 10*time.Millisecond)
			}
			return payment.ErrPending
		}
		w.sleep(w.current, 50*time.Millisecond)
	}
	return payment.ErrUnavailable
}

func (d deps) Payment(id payment.ID) (payment.Payment, error) {
	if err := d.barrier(); err != nil {
		return payment.Payment{}, err
	}
	return journal.ReadPayment(d.n.disk, id)
}

func (d deps) Original(id payment.ID, attempt uint8) (payment.Payment, error) {
	if err := d.barrier(); err != nil {
		return payment.Payment{}, err
	}
	return journal.ReadOriginal(d.n.disk, id, attempt)
}

func (d deps) ByKey(m payment.MerchantID, key []byte) (payment.ID, error) {
	if err := d.barrier(); err != nil {
		return payment.ID{}, err
	}
	return journal.ReadByKey(d.n.disk, m, key)
}

func (d deps) Await(id payment.ID, until payment.Instant) error {
	n, w := d.n, d.n.w
	if p, err := journal.ReadPayment(n.disk, id); err == nil && p.State != payment.StateOpen {
		return nil
	}
	if until <= n.wall() {
		return payment.ErrPending
	}
	wake := w.waker(w.current)
	n.awaits[id] = append(n.awaits[id], wake)
	w.after(time.Duration(until-n.wall()), evTask, wake)
	w.current.park()
	if p, err := journal.ReadPayment(n.disk, id); err != nil || p.State == payment.StateOpen {
		return payment.ErrPending
	}
	return nil
}

func (d deps) wire(name payment.LinkName) *wire {
	for i, x := range d.n.wires {
		if linkName(i) == name {
			return x
		}
	}
	return nil
}

func (d deps) Reserve(s *payment.Slot, id payment.ID, attempt uint8) error {
	x := d.wire(s.Link)
	err := x.d.Reserve(d.n.steady(), d.n.wall(), s, id, attempt)
	x.pump()
	return err
}

func (d deps) ReserveOwed(s *payment.Slot, o *payment.Owed, rrn payment.RRN) error {
	x := d.wire(o.Link)
	err := x.d.ReserveOwed(d.n.steady(), d.n.wall(), s, o, rrn)
	x.pump()
	return err
}

func (d deps) Release(s *payment.Slot) {
	x := d.wire(s.Link)
	x.d.Release(d.n.steady(), s)
	x.pump()
}

func (d deps) Exchange(s *payment.Slot, i *payment.Intent, frame []byte, answer *iso8583.Message) error {
	x, w, t := d.wire(s.Link), d.n.w, d.n.w.current
	place := s.Place
	if err := x.d.Exchange(d.n.steady(), d.n.wall(), s, i, frame, answer); err != nil {
		x.pump()
		return err
	}
	var got error
	wake := w.waker(t)
	x.waits[place] = func(err error) {
		got = err
		wake()
	}
	x.pump()
	t.park()
	s.Place = nil
	return got
}

// commons are what every node of every world shares and nobody changes.
type commons struct {
	dialects [styles]*iso8583.Dialect
	tables   map[[2]routing.CaptureBy]*routing.Table // by how each merchant's captures reach the acquirer
	keys     []byte
}

// style is what an acquirer takes for captures and refunds.
type style int

const (
	styleDual      style = iota // captures by advice, refunds by request
	styleFinal                  // the same, and no refund can be reversed
	styleAdvice                 // refunds are advices as well
	styleSingle                 // a sale is one message; what was authorized is completed by a request
	styleCollected              // no message for a refund: of what is collected it goes the same way
	styles
)

// dialectFiles are the project's, and two that differ in how they refund.
func dialectFiles() fs.FS {
	files := fstest.MapFS{}
	for _, d := range [...]struct{ name, about, payments string }{
		{"ascii87-advice", "ascii87, whose refunds are advices", `{refund: "0220"}`},
		{"ascii87-collected", "ascii87, without a message for a refund", `{refund: null}`},
	} {
		files[d.name+".yaml"] = &fstest.MapFile{Data: []byte(strings.Join([]string{
			"name: " + d.name, "extends: ascii87", "status: complete for tests", "about: " + d.about, "payments: " + d.payments, "",
		}, "\n"))}
	}
	names, err := fs.Glob(dialects.FS, "*.yaml")
	if err != nil {
		panic(err)
	}
	for _, name := range names {
		data, err := fs.ReadFile(dialects.FS, name)
		if err != nil {
			panic(err)
		}
		files[name] = &fstest.MapFile{Data: data}
	}
	return files
}

// captureWithin is after how long a museum's authorization is given back.
const captureWithin = 12 * time.Second

var shared = sync.OnceValue(func() *commons {
	c, files := &commons{}, dialectFiles()
	var err error
	for i, name := range [styles]string{"ascii87", "ascii87", "ascii87-advice", "ascii87-single", "ascii87-collected"} {
		if c.dialects[i], err = iso8583.Load(files, name); err != nil {
			panic(err)
		}
	}
	c.tables = map[[2]routing.CaptureBy]*routing.Table{}
	for _, a := range capturesBy {
		for _, b := range capturesBy {
			c.tables[[2]routing.CaptureBy{a, b}] = tableOf([2]routing.CaptureBy{a, b})
		}
	}
	if c.keys, err = vault.Generate(plainRoot{}, bytes.NewReader(make([]byte, 1<<12))); err != nil {
		panic(err)
	}
	return c
})

// merchants are those of every world.
var merchants = []payment.MerchantID{"parcels", "museum"}

// capturesBy are the ways that a contract can name.
var capturesBy = []routing.CaptureBy{routing.CaptureByLink, routing.CaptureByFile, routing.CaptureByBatchUpload}

// tableOf are the merchants' contracts.
func tableOf(by [2]routing.CaptureBy) *routing.Table {
	var contracts []routing.Contract
	for i, m := range merchants {
		links := []payment.LinkName{linkName(i), linkName(1 - i)}
		contracts = append(contracts, routing.Contract{
			Merchant: m, Scheme: payment.Visa, Links: links, Currencies: []payment.Currency{978}, PartialApproval: i == 1,
			CaptureWithin: time.Duration(i) * captureWithin, CaptureBy: by[i], FreeRefunds: i == 1,
			Terms: payment.Terms{
				Terminal: "TERM0001", Acceptor: "PARCELS00000001", AcceptorName: "PARCELS/PARIS/FR", MCC: "9402", Acquirer: "497010", Country: "250",
			},
		})
	}
	table, err := routing.NewTable(routing.DefaultRanges(), contracts, nil)
	if err != nil {
		panic(err)
	}
	return table
}

// vault has the same keys in every world, and a stream of nonces of its own.
func (c *commons) vault(seed uint64) *vault.Vault {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], seed)
	v, err := vault.Open(plainRoot{}, c.keys, bytes.NewReader(bytes.Repeat(b[:], 64)))
	if err != nil {
		panic(err)
	}
	return v
}

// reader is a world's randomness as a stream.
type reader struct{ w *world }

func (r *reader) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(r.w.r.Uint32())
	}
	return len(b), nil
}
