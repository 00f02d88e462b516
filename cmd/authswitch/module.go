package main

import (
	"context"
	"errors"
	"fmt"

	"authswitch/hsm"
)

// openModule connects to the security modules, where the configuration names
// any. A node starts without them: it is live, and not ready until one of them
// answered once. What needs them while they are away is refused; what does not,
// does not notice.
func (n *node) openModule(ctx context.Context) error {
	if n.cfg.HSM == nil {
		return nil
	}
	var err error
	n.hsm, err = hsm.New(*n.cfg.HSM, hsm.Deps{Now: func() int64 { return int64(wallClock()) }, Log: n.log, Registerer: n.registry})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() { defer close(done); n.hsm.Run(ctx) }()
	n.stopHSM = func() { stop(); <-done }
	return nil
}

// moduleMissing is what readiness lacks of the security module. Once it was
// there, its loss is an alarm and no reason to take the node's other traffic
// away.
func (n *node) moduleMissing() []string {
	if n.hsm == nil || n.hsmSeen.Load() {
		return nil
	}
	if n.hsm.Up() {
		n.hsmSeen.Store(true)
		return nil
	}
	missing := []string{}
	for _, e := range n.hsm.Endpoints() {
		missing = append(missing, fmt.Sprintf("security module %s: %s", e.Name, e.Error))
	}
	return missing
}

// errNoModule is a configuration without the section hsm.
var errNoModule = errors.New("the configuration has no section hsm")

// moduleOf is the section hsm of a configuration file, for the hsm tools.
func moduleOf(path string) (hsm.Config, error) {
	c, err := readConfig(path)
	if err != nil {
		return hsm.Config{}, err
	}
	if c.HSM == nil {
		return hsm.Config{}, fmt.Errorf("%s: %w", path, errNoModule)
	}
	return *c.HSM, nil
}

// completeModule fills the section's defaults and makes its paths absolute.
func (c *Config) completeModule(dir string) {
	if c.HSM == nil {
		return
	}
	*c.HSM = c.HSM.WithDefaults()
	for i := range c.HSM.Endpoints {
		e := &c.HSM.Endpoints[i]
		absolute(&e.Unix, dir)
		if e.TLS != nil {
			for _, path := range []*string{&e.TLS.CAFile, &e.TLS.CertFile, &e.TLS.KeyFile} {
				absolute(path, dir)
			}
		}
	}
}
