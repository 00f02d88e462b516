// Package simulation drives the goroutine-free core — the life-cycle table, the
// journal's machine, routing, leases, a link's pending table and state machine,
// the outbox's planner and carrier, the switch's path of an authorization — under
// a seeded event heap: several nodes, acquirers that forget, answer late, twice,
// never or with another amount, gateways that repeat; crashes, partitions,
// delays, duplicates, lost answers, snapshots, clocks that jump.
//
// The deciders are driven as they are. What is simulated is only what lies
// around them: Raft's order (order_test.go), disks, wires, acquirers, gateways,
// clocks. Code that waits in a straight line (switching.Authorize, one attempt
// of the outbox) runs in a coroutine (task_test.go), so that one thread runs
// everything and a seed gives the same run, bit for bit.
//
// After every event each checker of check_test.go looks at what the event
// changed. It holds only tests:
//
//	go test ./internal/simulation -run TestSeeds -seeds 1:1000
//
// A failure prints its seed and the command that runs it again.
package simulation_test
