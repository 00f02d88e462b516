package main

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"authswitch/payment"
	"authswitch/peer"
	"authswitch/store"
	"authswitch/vault"
)

// devHeartbeat is twice the default: all nodes, their acquirers and the load
// share one machine, which does not give each its turn every 150 ms.
const devHeartbeat = 300 * time.Millisecond

// writeNodes writes each node's configuration, which differs from the others'
// only in its name and its places.
func (l *devLayout) writeNodes(dir string, o devOptions, common Config) error {
	var members []store.Member
	var names []string
	// An address of its own each, from which it also dials: what can be told
	// apart can be cut off.
	for i := range o.nodes {
		name := fmt.Sprintf("n%d", i+1)
		names = append(names, name)
		members = append(members, store.Member{Node: payment.NodeID(name), Address: fmt.Sprintf("127.0.0.%d:%d", i+1, o.portBase+portPeer+i)})
	}
	certificates := filepath.Join(dir, "tls")
	if o.nodes > 1 {
		if err := peer.Issue(certificates, rand.Reader, time.Now(), names...); err != nil {
			return err
		}
	}
	for i, name := range names {
		c := common
		api, admin := o.portBase+portAPI+portsPerNode*i, o.portBase+portAdmin+portsPerNode*i
		c.Node = NodeConfig{ID: payment.NodeID(name), DataDir: filepath.Join(dir, name)}
		c.API.Listen, c.Admin.Listen = hostPort(api), hostPort(admin)
		l.addresses = append(l.addresses, c.API.Listen, c.Admin.Listen)
		if o.nodes > 1 {
			c.Cluster.Listen, c.Cluster.Members = members[i].Address, members
			c.Cluster.CAFile = filepath.Join(certificates, "ca.pem")
			c.Cluster.CertFile, c.Cluster.KeyFile = filepath.Join(certificates, name+".pem"), filepath.Join(certificates, name+".key")
			l.addresses = append(l.addresses, c.Cluster.Listen)
			c.Store.HeartbeatTimeout = devHeartbeat
		}
		if err := os.MkdirAll(c.Node.DataDir, 0o700); err != nil {
			return fmt.Errorf("make node's directory: %w", err)
		}
		file := filepath.Join(dir, name+".yaml")
		if err := writeYAML(file, c); err != nil {
			return err
		}
		l.nodes = append(l.nodes, child{name: "node " + name, args: []string{"serve", "--config", file}, logs: os.Stderr})
		l.info.Nodes = append(l.info.Nodes, devNode{ID: name, API: loopback(api), Admin: loopback(admin), DataDir: c.Node.DataDir})
	}
	if o.nodes > 1 {
		return l.shareKeys(common.Vault.KeyFile)
	}
	return nil
}

// shareKeys gives every node the first one's data keys: what one seals, another
// must open to reverse it.
func (l *devLayout) shareKeys(rootFile string) error {
	first := filepath.Join(l.info.Nodes[0].DataDir, vaultKeys)
	root, err := vault.OpenKeyFile(rootFile, rand.Reader)
	if err != nil {
		return err
	}
	if _, err := vault.Load(root, first, rand.Reader); err != nil {
		return err
	}
	wrapped, err := os.ReadFile(first)
	if err != nil {
		return fmt.Errorf("read the data keys: %w", err)
	}
	for _, n := range l.info.Nodes[1:] {
		if err := writeSynced(filepath.Join(n.DataDir, vaultKeys), os.O_TRUNC, wrapped); err != nil {
			return fmt.Errorf("share the data keys: %w", err)
		}
	}
	return nil
}
