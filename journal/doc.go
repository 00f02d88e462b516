// Package journal is what is replicated: a deterministic state machine over
// ordered keys. A log of entries goes in; records, outbox, numbers and answers
// come out, the same on every node.
//
// It must not read a clock, draw randomness, touch a network or a disk, start a
// goroutine, or let the order of a map reach any output: time and ids are
// inside the entry. Its only callers are store, which replicates the entries
// and keeps the keys, and the tests that drive it with a map for a disk.
package journal
