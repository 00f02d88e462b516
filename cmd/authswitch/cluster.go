package main

import (
	"context"
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"authswitch/payment"
	"authswitch/peer"
	"authswitch/store"
)

// network is the mesh as the store wants it.
type network struct{ *peer.Mesh }

// Accept implements store.Network.
func (n network) Accept(stream string) net.Listener { return n.Mesh.Accept(peer.Stream(stream)) }

// Dial implements store.Network.
func (n network) Dial(ctx context.Context, stream, address string) (net.Conn, error) {
	return n.Mesh.Dial(ctx, peer.Stream(stream), address)
}

// Peer implements store.Network.
func (n network) Peer(conn net.Conn) string { return peer.Name(conn) }

// connect opens the network of a cluster; nil where this node is alone.
func (n *node) connect() func(store.Book) (store.Network, error) {
	if n.cfg.Cluster.Listen == "" {
		return nil
	}
	return func(book store.Book) (store.Network, error) {
		mesh, err := peer.Start(n.cfg.Cluster.Config, peer.Deps{
			// Strangers with the right authority may ask to join, and no more.
			Admit:  func(node string, s peer.Stream) bool { return s == streamControl || book.Admit(node, string(s)) },
			NodeAt: book.NodeAt, Log: n.log,
		}, store.StreamRaft, store.StreamCommands, streamControl)
		if err != nil {
			return nil, fmt.Errorf("cluster: %w", err)
		}
		n.mesh = mesh
		return network{mesh}, nil
	}
}

// openControl lets operators' commands in.
func (n *node) openControl(context.Context) error {
	if n.mesh == nil {
		return nil
	}
	n.control = newControlServer(n.mesh, n.store, n.log)
	go n.report("control", n.control.serve)
	return nil
}

// bootTime is the clock of leases: unlike Go's monotonic one it goes on while
// the machine sleeps.
func bootTime() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic(err) // Linux has had it since 2.6.39
	}
	return t.Nano()
}

// cutLinks drops the acquirers' connections: this process was stopped for so
// long that others may have taken over what it was doing.
func (n *node) cutLinks() {
	if set := n.linkSet.Load(); set != nil {
		set.Cut()
	}
}

// dropNumbers forgets the trace numbers of a session that is over.
func (n *node) dropNumbers() {
	if set := n.linkSet.Load(); set != nil {
		set.DropNumbers()
	}
}

// mayWrite is the store's word on a session.
func (n *node) mayWrite(s payment.Session) bool { return n.store.MayWrite(s) }
