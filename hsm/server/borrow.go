package server

import (
	"authswitch/hsm/engine"
	"authswitch/hsm/key"
)

// Combine makes a key of components under the newest local master key: what a
// ceremony ends with. The caller has written it down.
func (s *Server) Combine(a engine.Attributes, components ...key.Secret) (engine.Sealed, error) {
	return s.Engine().Combine(a, components...)
}

// Engine is the operations under the newest local master key. It is for other
// doors of the same module, which take it anew for every request: a master key
// may have been added meanwhile.
func (s *Server) Engine() *engine.Engine { return s.masters.current.Load().sealing().engine }

// Key is the opened key of a block under any of the local master keys, shared
// with this server's own operations.
func (s *Server) Key(block []byte) (*engine.Key, error) { return s.masters.key(block) }
