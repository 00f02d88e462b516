package main

import (
	"context"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"authswitch/handover"
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
		}, store.StreamRaft, store.StreamCommands, streamControl, handover.Stream)
		if err != nil {
			return nil, fmt.Errorf("cluster: %w", err)
		}
		n.mesh = mesh
		return network{mesh}, nil
	}
}

// openHandover builds what takes requests to the nodes that have their links.
func (n *node) openHandover(context.Context) error {
	if n.mesh == nil {
		return nil
	}
	var err error
	n.handover, err = handover.New(handover.Deps{
		Others: func() []handover.Member {
			others := n.store.Others()
			members := make([]handover.Member, len(others))
			for i, m := range others {
				members[i] = handover.Member(m)
			}
			return members
		},
		Dial: func(ctx context.Context, address string) (net.Conn, error) {
			return n.mesh.Dial(ctx, handover.Stream, address)
		},
		Peer:  func(conn net.Conn) payment.NodeID { return payment.NodeID(peer.Name(conn)) },
		Links: n.linksUp,
		Serve: func(link payment.LinkName, request []byte, within time.Duration, answer []byte) ([]byte, bool) {
			return n.door.ServeHanded(link, request, within, answer)
		},
		Log: n.log, Registerer: n.registry,
	})
	return err
}

// linksUp are the links that others may hand requests to: none while this node
// may not write.
func (n *node) linksUp(dst []payment.LinkName) []payment.LinkName {
	if !n.store.MayWrite(n.store.Session()) {
		return dst
	}
	for _, l := range n.links {
		if l.Up() {
			dst = append(dst, l.Name())
		}
	}
	return dst
}

// elsewhere is the switch's question; nil where this node is alone.
func (n *node) elsewhere() func(payment.LinkName) bool {
	if n.handover == nil {
		return nil
	}
	return n.handover.Elsewhere
}

// startHandover lets the other nodes in: the door is built.
func (n *node) startHandover() {
	if n.handover == nil {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	over := make(chan struct{})
	n.stopHandover = func() { stop(); <-over }
	go func() {
		defer close(over)
		n.handover.Run(ctx, n.mesh.Accept(handover.Stream))
	}()
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
