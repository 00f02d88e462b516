// Package bench puts load on a running switch and checks afterwards that
// nothing was lost.
//
// Run offers authorizations at a fixed rate, whatever the switch does (an open
// loop), and measures each from the instant it should have left. Verify
// compares three sides that share no code: what gateways were told (the
// answers file of a run), what the switch journalled (read by its API) and
// what the acquirers did (the simulators' ledgers).
//
// The package sees the switch only from outside: it imports none of its parts,
// so that one mistake cannot agree with itself, and it changes nothing but by
// POST /v1/authorizations. Its cards are the schemes' published test numbers.
// Called by: cmd/authswitch/benchcmd.
package bench
