package desk

import (
	"time"

	"authswitch/hsm/ceremony"
)

// view is what anybody on the admin socket may see.
func (d *Desk) view() *ceremony.View {
	v := &ceremony.View{Founding: d.roster.Founding(), Dual: d.Dual(), Officers: []ceremony.OfficerView{}, Pending: []ceremony.PendingView{}}
	for i := range d.roster.Officers {
		o := &d.roster.Officers[i]
		v.Officers = append(v.Officers, ceremony.OfficerView{Name: o.Name, Kind: o.Kind, Fingerprint: o.Fingerprint(), Enrolled: o.Enrolled, By: o.By})
	}
	for _, p := range d.approvals.Waiting(d.o.Now()) {
		v.Pending = append(v.Pending, pendingView(&p))
	}
	if d.ceremony.State() != ceremony.Idle {
		v.Ceremony = d.ceremonyView()
	}
	if sealed, ok := d.ceremony.Key(); ok {
		v.Key = &ceremony.KeyView{Block: string(sealed.Block), KCV: sealed.Check.String()}
	}
	return v
}

func pendingView(p *ceremony.Pending) ceremony.PendingView {
	return ceremony.PendingView{ID: p.ID, Action: p.Action, Object: p.Object, By: p.By, Deadline: p.Deadline().UTC().Format(time.RFC3339)}
}

func (d *Desk) ceremonyView() *ceremony.StateView {
	c := &d.ceremony
	r := c.Request()
	v := &ceremony.StateView{
		ID: r.ID, State: c.State().String(), Label: r.Label, Usage: r.Attributes.Usage.String(), Algorithm: string(rune(r.Attributes.Algorithm)),
		Bits: r.Bytes * 8, Components: r.Components, Rehearsal: r.Rehearsal, Brought: []ceremony.BroughtView{},
	}
	for _, b := range c.Components() {
		v.Brought = append(v.Brought, ceremony.BroughtView{Officer: b.Officer, KCV: b.Check.String()})
	}
	if check, shown := c.CheckValue(); shown {
		v.KCV = check.String()
	}
	if deadline := c.Deadline(); !deadline.IsZero() {
		v.Deadline = deadline.UTC().Format(time.RFC3339)
	}
	if t, over := c.Transcript(); over {
		v.Reason = t.Reason
	}
	return v
}
