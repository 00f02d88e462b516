// Package bubble runs the real cluster — Raft, Pebble on crashable file systems
// in memory, sessions, links, the switch, the outbox — as three nodes in one
// testing/synctest bubble, on a network and a clock of its own, with acquirer
// simulators at the far end. Gateways authorize, capture, increment, release, void,
// correct, refund and cancel through any node. Processes are killed, machines lose
// their power, one or all, lines are cut both ways and one way, disks sync slowly,
// lie or are lost, and their nodes are rebuilt from the others; clocks step; then
// everything heals, and the journal, the acquirers' ledgers and what gateways were
// told must agree; the money of each payment is a register whose history
// porcupine explains.
//
// Nothing of the product is replaced but what store.Deps and link.Deps take:
// network, file system, clock, randomness. It holds only tests:
//
//	go test ./store/bubble -run TestBubble -seeds 1:20
//
// Go schedules goroutines as it likes: the same seed brings the same faults at
// the same moments of the fake clock, not the same run. make bubble-replay builds
// it with a Go that does not (internal/replay): there a seed is one run, whose
// trace has the same hash every time.
package bubble_test
