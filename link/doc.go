// Package link speaks to one acquirer: its TCP connections, framing, sign-on,
// echo, window, numbers and the table of what waits for an answer.
//
// It knows of a message only what correlates it: type, DE 7, 11, 32, 37, 41
// and, of network management, DE 70. It decides nothing about payments, stores
// nothing, and never sends a request twice: what it reports is what is known
// of the wire, payment.ErrNotSent (no byte left) or payment.ErrUnknownOutcome
// (bytes may have left), and the caller acts on it.
//
// Deciders: wheel, table, memory, numbers, machine, core. They have no
// goroutine, no clock and no I/O, are tested by the conversations in testdata,
// and are driven by the simulation as they are, through Decider. Shells: Link and connection,
// which own the goroutines, the sockets and the only lock.
//
// Order of locks: Link.mu is the only one. Nothing that can block is called
// under it; sockets are only ever touched there by SetDeadline.
//
// Called by: switching (authorizations), outbox (reversals), cmd (life),
// api and the command line (Status).
package link
