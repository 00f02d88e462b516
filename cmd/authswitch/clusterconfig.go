package main

import (
	"errors"
	"fmt"
	"net"

	"authswitch/payment"
	"authswitch/peer"
	"authswitch/store"
)

// ClusterConfig is how a node meets the other members. Without listen it is
// alone.
type ClusterConfig struct {
	peer.Config `yaml:",inline"`
	// Address is what the others dial; listen's where it is empty.
	Address string `yaml:"address"`
	// Members are those a new cluster begins with, this node among them. They
	// are read once: who is a member later is in the journal.
	Members []store.Member `yaml:"members"`
	// Join says that this node is to be added to a cluster that exists, whose
	// members are listed: it waits for "authswitch cluster join".
	Join bool `yaml:"join"`
}

// complete fills defaults and tells the store where it lives.
func (c *ClusterConfig) complete(s *store.Config, dir string) {
	for _, path := range []*string{&c.CAFile, &c.CertFile, &c.KeyFile} {
		absolute(path, dir)
	}
	if c.Address == "" {
		c.Address = c.Listen
	}
	s.Address, s.Members, s.Join = c.Address, c.Members, c.Join
}

// validate reports all faults.
func (c *ClusterConfig) validate(node payment.NodeID) []error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf("cluster."+format, args...)) }
	if c.Listen == "" {
		if len(c.Members) > 0 || c.Address != "" || c.CAFile != "" {
			fault("listen: needed where there are other members")
		}
		return faults
	}
	faults = append(faults, validateListen("cluster.listen", c.Listen)...)
	faults = append(faults, validateListen("cluster.address", c.Address)...)
	if host, _, err := net.SplitHostPort(c.Address); err == nil {
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			fault("address: %s is no address that another node can dial", c.Address)
		}
	}
	for name, file := range map[string]string{"ca_file": c.CAFile, "cert_file": c.CertFile, "key_file": c.KeyFile} {
		if file == "" {
			fault("%s: needed: the members know each other by certificates", name)
		}
	}
	nodes, addresses := map[payment.NodeID]bool{}, map[string]bool{}
	for _, m := range c.Members {
		if m.Node == "" || nodes[m.Node] {
			fault("members: %q: every member needs an id of its own", m.Node)
		}
		if addresses[m.Address] {
			fault("members: %s: every member needs an address of its own", m.Address)
		}
		faults = append(faults, validateListen("cluster.members", m.Address)...)
		nodes[m.Node], addresses[m.Address] = true, true
		if m.Node == node && m.Address != c.Address {
			fault("members: %s is at %s there and at %s in address", node, m.Address, c.Address)
		}
	}
	if len(c.Members) > 0 && !nodes[node] && !c.Join {
		faults = append(faults, errors.New("cluster.members: this node is not among them"))
	}
	return faults
}
