package main

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"authswitch/merchant"
	"authswitch/payment"
	"authswitch/routing"
)

// changing is what a running node can read again: each request sees either the
// old or the new, whole.
type changing struct {
	mu        sync.Mutex // one reload, or change of merchants, at a time
	file      *Config    // as it was read last; guarded by mu
	ranges    []routing.Range
	documents atomic.Pointer[[]merchant.Document]
	table     atomic.Pointer[routing.Table]
	directory atomic.Pointer[merchant.Directory]
}

// Authenticate implements api.Gateways over the newest directory: a key that
// was taken out of the file is refused from the next request on, on
// connections that are open, too.
func (c *changing) Authenticate(key []byte) *merchant.Gateway {
	return c.directory.Load().Authenticate(key)
}

// Administrator implements api.Administrators, likewise.
func (c *changing) Administrator(key []byte) string {
	return c.directory.Load().Administrator(key)
}

// cardScope is the scope of the cards that a merchant shares with others.
func (n *node) cardScope(m payment.MerchantID) string {
	if d := n.changing.directory.Load(); d != nil {
		return d.CardScope(m)
	}
	return ""
}

// reloaded is what a reload did.
type reloaded struct {
	// Taken are the sections that are in force now, changed or not.
	Taken []string `json:"taken"`
	// Waiting are sections that differ from what runs and need a restart.
	Waiting []string `json:"waiting_for_restart"`
}

// taken are the sections of the file that a reload takes.
func taken() []string { return []string{"bins", "merchants", "rules", "gateways", "administrators"} }

// reload reads the node's file again and takes over BIN ranges, merchants with
// their contracts, rules, and gateways with their keys. A file with any fault,
// or with a contract over a link that does not run here, changes nothing.
func (n *node) reload() (reloaded, error) {
	n.changing.mu.Lock()
	defer n.changing.mu.Unlock()
	next, err := readConfig(n.path)
	if err != nil {
		return reloaded{}, err
	}
	if missing := n.cfg.linksNotIn(next); len(missing) > 0 {
		return reloaded{}, fmt.Errorf("contracts name links that start with the next restart only: %s", strings.Join(missing, ", "))
	}
	ranges, err := next.ranges()
	if err != nil {
		return reloaded{}, err
	}
	if err := n.takeLocked(next, ranges); err != nil {
		return reloaded{}, err
	}
	return reloaded{Taken: taken(), Waiting: n.cfg.differs(next)}, nil
}

// reloadOnSignal is what SIGHUP does.
func (n *node) reloadOnSignal() {
	r, err := n.reload()
	if err != nil {
		n.log.Error("configuration not read again: the old one stands", "error", err)
		return
	}
	n.log.Info("configuration read again", "taken", r.Taken, "waiting_for_restart", r.Waiting)
}

// linksNotIn are the links that contracts of next name and c does not have.
func (c *Config) linksNotIn(next *Config) []string {
	running := map[payment.LinkName]bool{}
	for i := range c.Links {
		running[c.Links[i].Name] = true
	}
	var missing []string
	for i := range next.Merchants {
		for _, contract := range next.Merchants[i].Contracts {
			for _, name := range contract.Links {
				if !running[name] {
					missing = append(missing, string(name))
				}
			}
		}
	}
	slices.Sort(missing)
	return slices.Compact(missing)
}

// differs names the sections that a reload does not take and that are not as
// they run.
func (c *Config) differs(next *Config) []string {
	sections := []string{}
	running, read := reflect.ValueOf(c).Elem(), reflect.ValueOf(next).Elem()
	for i := range running.NumField() {
		name, _, _ := strings.Cut(running.Type().Field(i).Tag.Get("yaml"), ",")
		if slices.Contains(taken(), name) || reflect.DeepEqual(running.Field(i).Interface(), read.Field(i).Interface()) {
			continue
		}
		sections = append(sections, name)
	}
	return sections
}

// openOperations puts the operators' door on the admin port.
func (n *node) openOperations() error {
	token, err := operatorToken(n.cfg.Node.DataDir)
	if err != nil {
		return err
	}
	(&operations{token: token, links: n.byName, writeOff: n.store.WriteOff, reload: n.reload, log: n.log, keys: n.keysDoor(), clearing: clearingDoor{n.store}, rotation: rotationDoor{n}, people: peopleDoor{n.people}}).register(n.admin.mux)
	return nil
}
