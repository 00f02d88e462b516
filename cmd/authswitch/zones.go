package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"authswitch/hsm"
	"authswitch/iso8583"
	"authswitch/iso8583/dialects"
	"authswitch/link"
	"authswitch/payment"
	"authswitch/zone"
)

// LinkSecurity is what a link has the security module do. What exactly is the
// dialect's; the acquirer's contract may say otherwise.
type LinkSecurity struct {
	MAC      bool             `yaml:"mac,omitempty"`            // messages carry MACs, both ways, by the dialect's message types
	PIN      bool             `yaml:"pin,omitempty"`            // card-present requests may carry a PIN
	InOrder  bool             `yaml:"dukpt_in_order,omitempty"` // DUKPT counters that were seen before, or go backward, are refused; else counted
	Contract iso8583.Security `yaml:"contract,omitempty"`
}

func (s *LinkSecurity) on() bool { return s.MAC || s.PIN }

// validateSecurity reports links that ask for what their dialect, or this
// configuration, does not have.
func (c *Config) validateSecurity() []error {
	var faults []error
	for i := range c.Links {
		l := &c.Links[i]
		if !l.Security.on() {
			continue
		}
		if c.HSM == nil {
			faults = append(faults, fmt.Errorf("link %q: security: MACs and PINs need a security module: section hsm", l.Name))
		}
		d, err := iso8583.Load(dialects.FS, string(l.Dialect))
		if err != nil {
			continue // said elsewhere
		}
		if _, err := d.Secure(l.Security.MAC, l.Security.Contract); err != nil {
			faults = append(faults, fmt.Errorf("link %q: %w", l.Name, err))
		}
	}
	if c.Profile == profileProduction && c.TestKeys != "" {
		faults = append(faults, errors.New("test_keys: not in production: keys come in by ceremony or exchange"))
	}
	return faults
}

// secureLink gives a link its zone, and the dialect as the link speaks it. A
// link without MAC and PIN has none: the security module is never asked.
func (n *node) secureLink(c *LinkConfig, d *iso8583.Dialect, trouble func(payment.KeyUsage)) (*zone.Zone, *iso8583.Dialect, error) {
	if !c.Security.on() || n.hsm == nil {
		return nil, d, nil
	}
	secure, err := d.Secure(c.Security.MAC, c.Security.Contract)
	if err != nil {
		return nil, nil, fmt.Errorf("link %s: %w", c.Name, err)
	}
	z, err := zone.New(zone.Config{Link: c.Name, PIN: c.Security.PIN, InOrder: c.Security.InOrder}, zone.Deps{
		Dialect: secure, Module: n.hsm, Exchange: n.hsm, Keys: n.store, Ring: n.store.Ring, Leads: n.keeps(&c.Config), Now: wallClock, Log: n.log,
		Trouble:    trouble,
		Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"link": string(c.Name), "scheme": c.Scheme}, n.registry),
	})
	if err != nil {
		return nil, nil, err
	}
	n.zones = append(n.zones, z)
	return z, secure, nil
}

// tellStop tells every node that a link's key is under suspicion: no PIN leaves
// under it any more, wherever. The answer that was one too many does not wait.
func (n *node) tellStop(link payment.LinkName, u payment.KeyUsage) {
	k := n.store.Ring().ActiveKey(link, u)
	if u != payment.KeyPIN || k == nil {
		return
	}
	n.running.Go(func() {
		if _, err := n.store.MarkKey(k.ID, payment.KeyStopped); err != nil {
			n.log.Warn("only this node stops PIN traffic", "link", string(link), "key", k.ID.String(), "error", err)
		}
	})
}

// zonesMissing is what readiness lacks of keys: a link that has MACs on and no
// key would refuse every request.
func (n *node) zonesMissing() []string {
	var missing []string
	for _, z := range n.zones {
		for _, usage := range z.Lacking() {
			missing = append(missing, fmt.Sprintf("link %s has no active %s key", z.Link(), usage))
		}
	}
	return missing
}

// testKey is a line of what `hsmd init --test-keys` prints.
type testKey struct {
	Name       string `json:"name"` // OWNER.KIND
	Attributes string `json:"attributes"`
	KCV        string `json:"kcv"`
	Block      string `json:"block"`
}

// testKeysAgain is the pause after a try that met no leader.
const testKeysAgain = 50 * time.Millisecond

// loadTestKeys keeps the test keys of dev, as officers would bring them in
// elsewhere. What is there already stays.
func (n *node) loadTestKeys(ctx context.Context) {
	if n.cfg.TestKeys == "" {
		return
	}
	keys, err := readTestKeys(n.cfg.TestKeys)
	if err != nil {
		n.failed <- err
		return
	}
	for len(keys) > 0 && ctx.Err() == nil {
		if err := n.loadTestKey(&keys[0]); err != nil {
			n.log.Debug("test key not kept yet", "key", keys[0].Name, "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(testKeysAgain):
			}
			continue
		}
		keys = keys[1:]
	}
}

func (n *node) loadTestKey(t *testKey) error {
	a, err := hsm.ParseAttributes(t.Attributes)
	if err != nil {
		return fmt.Errorf("test key %s: %w", t.Name, err)
	}
	owner, _, _ := strings.Cut(t.Name, ".")
	usage := payment.KeyUsageOf(a.Usage, a.Mode)
	if n.store.Ring().ActiveKey(payment.LinkName(owner), usage) != nil {
		return nil
	}
	check, err := hex.DecodeString(t.KCV)
	if err != nil {
		return fmt.Errorf("test key %s: kcv: %w", t.Name, err)
	}
	k, err := n.store.PutKey(&payment.Key{
		Link: payment.LinkName(owner), Usage: usage, Letters: [5]byte([]byte(t.Attributes)), CheckValue: check, Block: []byte(t.Block), Master: 1,
		Officers: [2]string{"dev", "dev"},
	})
	if err != nil {
		return fmt.Errorf("test key %s: %w", t.Name, err)
	}
	if k.State != payment.KeyPending {
		return nil
	}
	if _, err := n.store.AdvanceKey(&payment.KeyAdvance{ID: k.ID, To: payment.KeyActive}); err != nil {
		return fmt.Errorf("test key %s: %w", t.Name, err)
	}
	return nil
}

func readTestKeys(path string) ([]testKey, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("test_keys: %w", err)
	}
	defer f.Close()
	var keys []testKey
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var k testKey
		if err := json.Unmarshal(lines.Bytes(), &k); err != nil || k.Name == "" {
			return nil, fmt.Errorf("test_keys: %s: line %d is no test key", path, len(keys)+1)
		}
		keys = append(keys, k)
	}
	return keys, lines.Err()
}

// guarded are the link's parts of a zone, none where there is no zone: an
// interface that holds a nil pointer is not nil.
func guarded(deps *link.Deps, z *zone.Zone) {
	if z != nil {
		deps.Guard, deps.Keys = z, z
	}
}

// exchangeWithin is less than the admin port takes for an answer.
const exchangeWithin = 9 * time.Second

// exchangeKeys gives a link new keys for whatever it has on, now.
func exchangeKeys(ctx context.Context, l *link.Link) (any, *failure) {
	ctx, cancel := context.WithTimeout(ctx, exchangeWithin)
	defer cancel()
	if err := l.ExchangeKeys(ctx, l.KeyUsages()...); err != nil {
		if errors.Is(err, link.ErrNoExchange) {
			return nil, refuse(http.StatusConflict, "link %s: %s: its dialect, or its contract, has none that starts here", l.Name(), err)
		}
		return nil, refuse(http.StatusBadGateway, "link %s: %s", l.Name(), err)
	}
	return l.Status(), nil
}
