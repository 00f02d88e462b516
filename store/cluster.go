package store

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/hashicorp/raft"

	"authswitch/payment"
)

// Member is one node of a cluster and where the others reach it.
type Member struct {
	Node    payment.NodeID `yaml:"id" json:"id"`
	Address string         `yaml:"address" json:"address"` // host:port
}

// The kinds of connection between members, by the names they go under on the
// wire. A change that an older node would misread takes a new number.
const (
	StreamRaft     = "authswitch-raft/1"
	StreamCommands = "authswitch-commands/1"
)

// Network is how the members reach each other.
type Network interface {
	Accept(stream string) net.Listener
	Dial(ctx context.Context, stream, address string) (net.Conn, error)
	// Peer is the name that the other end of an accepted connection proved.
	Peer(conn net.Conn) string
	Close() error
}

// Book is what a network must know of the cluster: who lives at an address, and
// who may knock.
type Book interface {
	NodeAt(address string) (node string, known bool)
	Admit(node, stream string) bool
}

// book is the cluster as Raft has it; before Raft runs, or while this node is
// no member yet, as it was configured.
type book struct{ s *Store }

func (b book) members() []Member {
	if r := b.s.running.Load(); r != nil {
		if future := r.GetConfiguration(); future.Error() == nil {
			if servers := future.Configuration().Servers; len(servers) > 0 {
				members := make([]Member, len(servers))
				for n, server := range servers {
					members[n] = Member{payment.NodeID(server.ID), string(server.Address)}
				}
				return members
			}
		}
	}
	return b.s.cfg.Members
}

// NodeAt implements Book.
func (b book) NodeAt(address string) (string, bool) {
	for _, list := range [...][]Member{b.members(), b.s.cfg.Members} {
		for _, m := range list {
			if m.Address == address {
				return string(m.Node), true
			}
		}
	}
	return "", false
}

// Admit implements Book.
func (b book) Admit(node, _ string) bool {
	for _, m := range b.members() {
		if string(m.Node) == node {
			return true
		}
	}
	return false
}

// streamLayer carries Raft over one stream of the network.
type streamLayer struct {
	net.Listener
	network Network
	address string
}

// Addr is what the others know this node by: the listener may be at 0.0.0.0.
func (l streamLayer) Addr() net.Addr { return address(l.address) }

// Dial implements raft.StreamLayer.
func (l streamLayer) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return l.network.Dial(ctx, StreamRaft, string(to))
}

type address string

// Network implements net.Addr.
func (address) Network() string { return "tcp" }

// String implements net.Addr.
func (a address) String() string { return string(a) }

// connect opens the network of a cluster.
func (s *Store) connect() (raft.Transport, error) {
	network, err := s.deps.Connect(book{s})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNetwork, err)
	}
	if s.deps.Transport != nil {
		s.network, s.close = network, network.Close
		return s.deps.Transport, nil
	}
	layer := streamLayer{network.Accept(StreamRaft), network, s.cfg.Address}
	// One RPC in flight: pipelining can wedge a follower.
	t := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: layer, MaxPool: 3, MaxRPCsInFlight: 1, Timeout: rpcTimeout, Logger: raftLogger(s.deps.Log, "WARN"),
	})
	s.network = network
	s.witness = newWitness(t, s.lessLog, s.paces.took, s.replica.appliedIndex)
	s.close = func() error {
		err := s.witness.Close()
		if closeErr := network.Close(); err == nil {
			err = closeErr
		}
		return err
	}
	return s.witness, nil
}

// rpcTimeout bounds one RPC, and a snapshot by as much for every 256 KiB of it.
const rpcTimeout = 2 * time.Second

// firstMembers is the configuration that a new cluster begins with.
func (s *Store) firstMembers(local raft.ServerAddress) (raft.Configuration, error) {
	if len(s.cfg.Members) == 0 {
		return raft.Configuration{Servers: []raft.Server{{ID: raft.ServerID(s.cfg.Node), Address: local}}}, nil
	}
	var c raft.Configuration
	for _, m := range s.cfg.Members {
		if m.Node == s.cfg.Node && m.Address != string(local) {
			return c, fmt.Errorf("cluster: the members have %s at %s, and it is at %s", m.Node, m.Address, local)
		}
		c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(m.Node), Address: raft.ServerAddress(m.Address)})
	}
	return c, nil
}
