package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"authswitch/api"
	"authswitch/merchant"
	"authswitch/payment"
	"authswitch/routing"
	"authswitch/store"
)

// inForce is what a configuration and the journal together say: the file's
// merchants, and in place of one of the same name, or beside them, those that
// were agreed through the API.
type inForce struct {
	documents []merchant.Document
	table     *routing.Table
	directory *merchant.Directory
}

// build makes table and directory of a file and the journal's documents.
func (n *node) build(file *Config, ranges []routing.Range, agreed []merchant.Document) (*inForce, error) {
	f := &inForce{}
	for i := range file.Merchants {
		if !slices.ContainsFunc(agreed, func(d merchant.Document) bool { return d.ID == file.Merchants[i].ID }) {
			f.documents = append(f.documents, file.Merchants[i])
		}
	}
	f.documents = append(f.documents, agreed...)
	contracts, faults := merchant.Contracts(f.documents)
	rules, more := file.rules()
	if err := errors.Join(append(faults, more...)...); err != nil {
		return nil, err
	}
	var err error
	if f.table, err = routing.NewTable(ranges, contracts, rules); err != nil {
		return nil, err
	}
	f.directory, err = file.directoryOf(f.documents)
	return f, err
}

// agreed are the journal's merchants as this node can run them: without links
// and gateways that its own file does not have, which are said once a change.
func (n *node) agreed(file *Config) ([]merchant.Document, error) {
	records, err := n.store.Merchants()
	if err != nil {
		return nil, fmt.Errorf("read the merchants: %w", err)
	}
	documents := make([]merchant.Document, 0, len(records))
	for i := range records {
		d, err := documentOf(&records[i])
		if err != nil {
			return nil, err
		}
		for _, missing := range n.restrict(file, &d) {
			n.log.Warn("a merchant's document names what this node does not have", "merchant", d.ID, "version", records[i].Version, "missing", missing.Detail)
		}
		documents = append(documents, d)
	}
	return documents, nil
}

// documentOf reads a record. Members of a newer version are left out: a node
// that is not updated yet goes on with what it understands.
func documentOf(k *payment.MerchantRecord) (merchant.Document, error) {
	var d merchant.Document
	if err := json.Unmarshal(k.Document, &d); err != nil {
		return d, fmt.Errorf("merchant %s, version %d: %w", k.ID, k.Version, err)
	}
	return d, nil
}

// restrict takes out of a document what this node's file does not have.
func (n *node) restrict(file *Config, d *merchant.Document) (missing []merchant.Fault) {
	known := map[payment.LinkName]bool{}
	for i := range n.cfg.Links {
		known[n.cfg.Links[i].Name] = true
	}
	var contracts []merchant.ContractConfig
	for i := range d.Contracts {
		c := d.Contracts[i]
		c.Links = slices.DeleteFunc(slices.Clone(c.Links), func(l payment.LinkName) bool {
			if !known[l] {
				missing = append(missing, merchant.Fault{Pointer: fmt.Sprintf("/contracts/%d/links", i), Code: "unknown_link", Detail: fmt.Sprintf("no link %q runs here", l)})
			}
			return !known[l]
		})
		if len(c.Links) > 0 {
			contracts = append(contracts, c)
		}
	}
	d.Contracts = contracts
	d.Gateways = slices.DeleteFunc(slices.Clone(d.Gateways), func(g payment.GatewayID) bool {
		unknown := !slices.ContainsFunc(file.Gateways, func(c merchant.GatewayConfig) bool { return c.ID == g })
		if unknown {
			missing = append(missing, merchant.Fault{Pointer: "/gateways", Code: "unknown_gateway", Detail: fmt.Sprintf("no gateway %q in this node's file", g)})
		}
		return unknown
	})
	return missing
}

// takeMerchants makes what the file and the journal say now the rule for every
// request that comes after. Requests in work keep the contract they have.
func (n *node) takeMerchants() error {
	n.changing.mu.Lock()
	defer n.changing.mu.Unlock()
	return n.takeLocked(n.changing.file, n.changing.ranges)
}

func (n *node) takeLocked(file *Config, ranges []routing.Range) error {
	agreed, err := n.agreed(file)
	if err != nil {
		return err
	}
	f, err := n.build(file, ranges, agreed)
	if err != nil {
		return err
	}
	n.changing.file, n.changing.ranges = file, ranges
	n.changing.documents.Store(&f.documents)
	n.changing.table.Store(f.table)
	n.changing.directory.Store(f.directory)
	return nil
}

// followMerchants takes over what any node of the cluster agreed, until ctx
// ends. A change that cannot be taken here leaves what was in force.
func (n *node) followMerchants(ctx context.Context) {
	for {
		changed := n.store.MerchantsChange()
		if err := n.takeMerchants(); err != nil {
			n.log.Error("merchants not taken over: the old contracts stand", "error", err)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// merchantKeeper is the API's way to the merchants.
type merchantKeeper struct{ *node }

// linkKeeper is the API's way to the payment links.
type linkKeeper struct{ *node }

// KeepLink implements api.LinkKeeper.
func (k linkKeeper) KeepLink(l *payment.PayLink) (payment.PayLink, error) {
	return k.core.KeepLink(l)
}

// PaymentLink implements api.LinkKeeper, as of now.
func (k linkKeeper) PaymentLink(id payment.ID) (payment.PayLink, error) {
	return store.Fresh{Store: k.store}.PaymentLink(id)
}

// Merchants implements api.Merchants.
func (k merchantKeeper) Merchants() ([]api.MerchantState, error) {
	records, err := k.store.Merchants()
	if err != nil {
		return nil, err
	}
	var all []api.MerchantState
	for _, d := range *k.changing.documents.Load() {
		if !slices.ContainsFunc(records, func(r payment.MerchantRecord) bool { return r.ID == d.ID }) {
			all = append(all, api.MerchantState{Document: d})
		}
	}
	for i := range records {
		s, err := stateOf(&records[i])
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b api.MerchantState) int { return cmp.Compare(a.Document.ID, b.Document.ID) })
	return all, nil
}

func stateOf(r *payment.MerchantRecord) (api.MerchantState, error) {
	d, err := documentOf(r)
	return api.MerchantState{Document: d, Version: r.Version, ChangedAt: r.At, ChangedBy: r.By, Reason: r.Reason}, err
}

// Merchant implements api.Merchants.
func (k merchantKeeper) Merchant(id payment.MerchantID) (api.MerchantState, error) {
	r, err := k.store.Merchant(id)
	if err == nil {
		return stateOf(&r)
	}
	if !errors.Is(err, payment.ErrNotFound) {
		return api.MerchantState{}, err
	}
	for _, d := range *k.changing.documents.Load() {
		if d.ID == id {
			return api.MerchantState{Document: d}, nil
		}
	}
	return api.MerchantState{}, payment.ErrNotFound
}

// Versions implements api.Merchants.
func (k merchantKeeper) Versions(id payment.MerchantID) ([]api.MerchantState, error) {
	records, err := k.store.MerchantVersions(id)
	if err != nil {
		return nil, err
	}
	all := make([]api.MerchantState, 0, len(records))
	for i := range records {
		s, err := stateOf(&records[i])
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// Change implements api.Merchants: it is checked against everything that this
// node runs before it is proposed, and in force here when it returns.
func (k merchantKeeper) Change(s *api.MerchantState) (api.MerchantState, []merchant.Fault, error) {
	d := s.Document
	if faults := k.faults(&d); len(faults) > 0 {
		return *s, faults, nil
	}
	text, err := json.Marshal(&d)
	if err != nil {
		return *s, nil, fmt.Errorf("write the merchant: %w", err)
	}
	r, err := k.store.ChangeMerchant(&payment.MerchantChange{ID: d.ID, From: s.Version, By: s.ChangedBy, Reason: s.Reason, Document: text})
	if err != nil {
		return *s, nil, err
	}
	k.log.Info("merchant changed", "merchant", r.ID, "version", r.Version, "by", r.By, "reason", r.Reason)
	if err := k.takeMerchants(); err != nil {
		return *s, nil, fmt.Errorf("the merchant is changed, and not in force on this node yet: %w", err)
	}
	state, err := stateOf(&r)
	return state, nil, err
}

// faults are all that is wrong with a document, by itself and with what runs.
func (k merchantKeeper) faults(d *merchant.Document) []merchant.Fault {
	faults := d.Check()
	k.changing.mu.Lock()
	defer k.changing.mu.Unlock()
	file := k.changing.file
	rest := *d
	faults = append(faults, k.restrict(file, &rest)...)
	only := Config{Links: k.cfg.Links, Merchants: []merchant.Document{*d}}
	spoken := only.spoken()
	for _, err := range only.captureFaults(spoken) {
		faults = append(faults, merchant.Fault{Pointer: "/contracts", Code: "invalid_value", Detail: err.Error()})
	}
	for _, l := range only.lacks(spoken) {
		faults = append(faults, merchant.Fault{Pointer: fmt.Sprintf("/contracts/%d/%s", l.contract, l.term), Code: "required", Detail: l.detail()})
	}
	if len(faults) > 0 {
		return faults
	}
	agreed, err := k.agreed(file)
	if err == nil {
		agreed = append(slices.DeleteFunc(agreed, func(a merchant.Document) bool { return a.ID == d.ID }), *d)
		_, err = k.build(file, k.changing.ranges, agreed)
	}
	for _, e := range each(err) {
		faults = append(faults, merchant.Fault{Code: "conflict", Detail: e.Error()})
	}
	return faults
}
