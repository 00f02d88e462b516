// Package sim plays the other side of a link: an acquirer or issuer host that
// answers by the amount, keeps a ledger of what it decided, and misbehaves on
// order.
//
// A simulator is a witness, so it must not know what the switch knows. It
// decides from the wire alone, finds the original of a reversal only by DE 90
// (or DE 56) with DE 32 and 41, has its own framing and its own table of what
// each scheme's host says, and in correctness runs packs and unpacks with
// moov's codec (package oracle). The switch's own codec serves load runs only.
//
// A decision is in the ledger, on disk, before its answer leaves. The package
// never writes a whole card number anywhere. Called by: cmd/authswitch (`sim
// run`, and `dev` as processes of their own), tests of the whole.
package sim
