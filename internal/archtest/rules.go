// Package archtest holds the sources to the rules of the design: who may
// import whom, which library is used where, what the deciding packages must
// not touch, and how long a file may be.
//
// It reads the files itself: a test that asked `go list` would be answered from
// the test cache when sources change. It is run by its own test and imported by
// nobody.
package archtest

// module is the path of everything that is ours.
const module = "authswitch"

// maxFileLines is the length of a file that one can still read in one go. Test
// files may be longer: tables grow.
const maxFileLines = 500

// rule is one folder of ours and the folders of ours that it may import. To
// let a package import one more, move code rather than add a word here.
type rule struct {
	folder  string
	imports []string
}

// rules is the picture of docs/architecture.md. A folder that is not here does
// not pass: give it a row, and its sentence there.
func rules() []rule { return append(partRules(), programRules()...) }

// partRules are those of the parts.
func partRules() []rule {
	return []rule{
		// The vocabulary and what decides. Nothing here does I/O.
		{"card", nil},
		{"payment", []string{"card"}},
		{"vault", []string{"card", "payment"}},
		{"keyring", []string{"hsm", "payment"}},
		{"vault/stored", []string{"card", "hsm", "payment", "vault"}},
		{"vault/reseal", []string{"card", "hsm", "payment", "vault"}},
		{"routing", []string{"card", "payment"}},
		{"iso8583", []string{"card", "payment"}},
		{"iso8583/dialects", nil},
		{"merchant", []string{"payment", "routing"}},
		// The replicated state never sees a card: what is journalled is sealed.
		{"journal", []string{"payment"}},
		{"session", []string{"payment"}},
		{"peer", nil},
		{"handover", []string{"card", "payment"}},
		{"store", []string{"journal", "payment", "session"}},
		{"query", []string{"payment"}},
		// The wire and the steps over it. They meet the store by interfaces.
		{"link", []string{"card", "iso8583", "payment"}},
		{"switch", []string{"card", "iso8583", "payment", "routing"}},
		{"outbox", []string{"card", "iso8583", "payment"}},
		{"zone", []string{"card", "hsm", "iso8583", "payment"}},
		{"schedule", []string{"payment"}},
		{"clearing", []string{"payment"}},
		{"batch", []string{"card", "payment"}},
		{"people", []string{"payment"}},
		// Doors: no handler reads the store or packs a message.
		{"api", []string{"batch", "card", "merchant", "payment", "query", "switch"}},
		// The other side. It shares no type with the switch but the load codec,
		// and its oracle nothing at all: one mistake must not agree with itself.
		// It holds its own end of the keys, and computes with the same primitives:
		// their answers are published ones.
		{"sim", []string{"hsm/dukpt", "hsm/issuer", "hsm/key", "hsm/mac", "hsm/pinblock", "hsm/tr31", "iso8583", "sim/oracle"}},
		{"sim/oracle", nil},
		{"bench", []string{"iso8583"}},
		{"bench/table", []string{"bench", "iso8583", "iso8583/dialects"}},
		// The security module's algorithms: one family each, no I/O. They share
		// nothing with the switch, which never holds what they work on.
		{"hsm/key", nil},
		{"hsm/pinblock", nil},
		{"hsm/mac", []string{"hsm/key"}},
		{"hsm/dukpt", []string{"hsm/key"}},
		{"hsm/tr31", []string{"hsm/key", "hsm/mac"}},
		{"hsm/issuer", []string{"hsm/key", "hsm/mac"}},
		{"hsm/engine", []string{"hsm/dukpt", "hsm/issuer", "hsm/key", "hsm/mac", "hsm/pinblock", "hsm/tr31"}},
		{"hsm/wire", nil},
		{"hsm/payshield", []string{"hsm/wire"}},
		// The switch's side: no key, no algorithm, no C.
		{"hsm", []string{"card", "hsm/payshield", "hsm/wire"}},
		// hsmd's side. The root of trust is handed in: only cmd/hsmd knows PKCS#11.
		{"hsm/token", []string{"hsm/key", "hsm/mac"}},
		{"hsm/server", []string{"hsm/audit", "hsm/dukpt", "hsm/engine", "hsm/issuer", "hsm/key", "hsm/mac", "hsm/payshield", "hsm/pinblock", "hsm/tr31", "hsm/wire"}},
		// The people: what they may do is decided without clock and disk, and kept
		// at a desk that has both.
		{"hsm/ceremony", []string{"hsm/engine", "hsm/key", "hsm/tr31", "hsm/wire"}},
		{"hsm/desk", []string{"hsm/audit", "hsm/ceremony", "hsm/engine", "hsm/key", "hsm/tr31", "hsm/wire"}},
		{"hsm/selftest", []string{"hsm/dukpt", "hsm/engine", "hsm/issuer", "hsm/key", "hsm/mac", "hsm/pinblock", "hsm/tr31"}},
		// The module's book. It knows words about keys, and no key.
		{"hsm/audit", nil},
	}
}

// programRules are those of whoever wires, which sees all parts; nothing imports
// cmd.
func programRules() []rule {
	return []rule{
		{"cmd/authswitch", []string{
			"api", "batch", "card", "clearing", "cmd/authswitch/auditcmd", "cmd/authswitch/benchcmd", "cmd/authswitch/ceremonycmd", "cmd/authswitch/hsmcmd", "cmd/authswitch/pcap", "cmd/authswitch/routecmd", "cmd/authswitch/simcmd",
			"cmd/authswitch/topcmd", "handover", "hsm", "hsm/ceremony", "hsm/wire", "iso8583", "iso8583/dialects",
			"journal", "keyring", "link", "merchant", "outbox", "payment", "people", "peer", "query", "routing", "schedule", "store", "switch", "vault", "vault/reseal", "vault/stored", "zone",
		}},
		{"cmd/authswitch/auditcmd", []string{"hsm/audit"}},
		{"cmd/authswitch/benchcmd", []string{"bench"}},
		{"cmd/authswitch/ceremonycmd", []string{"hsm", "hsm/ceremony", "hsm/engine", "hsm/key", "hsm/wire"}},
		{"cmd/authswitch/hsmcmd", []string{"hsm"}},
		{"cmd/authswitch/pcap", nil},
		{"cmd/authswitch/routecmd", []string{"card", "payment", "routing"}},
		{"cmd/authswitch/simcmd", []string{"iso8583/dialects", "sim"}},
		{"cmd/authswitch/topcmd", nil},
		{"cmd/hsmd", []string{"hsm/audit", "hsm/ceremony", "hsm/desk", "hsm/engine", "hsm/key", "hsm/selftest", "hsm/server", "hsm/token", "hsm/tr31", "hsm/wire"}},
		{"internal/archtest", nil},
		{"internal/limits", nil},
		{"internal/runs", nil},
		{"internal/replay", nil},
	}
}

// library is a module of others: the folders that may import it ("cmd/..." is
// a folder and all below, "..." every folder), the name it must be imported by where that matters,
// and what it is for.
type library struct {
	path    string
	folders []string
	name    string
	why     string
}

// libraries are all that the product imports. A test may import any; a library
// that is not here does not pass: give it a row with its reason.
func libraries() []library {
	return []library{
		{"github.com/moov-io/iso8583/encoding", []string{"iso8583"}, "", "moov's character tables"},
		{"github.com/moov-io/iso8583", []string{"iso8583", "sim/oracle"}, "moov", "the specification format and the oracle; the hot path is our own codec"},
		{"github.com/valyala/fasthttp", []string{"api", "bench"}, "", "the gateways' door and the load on it; all else is net/http"},
		{"github.com/valyala/fastjson", []string{"bench", "sim"}, "", "JSON without reflection where it is hot"},
		{"github.com/go-json-experiment/json", []string{"api"}, "", "what administrators send: strict names, each once, and a fault's place"},
		{"github.com/cockroachdb/pebble/v2", []string{"store"}, "", "the state beneath the journal"},
		{"github.com/hashicorp/raft", []string{"store"}, "", "the order of the journal"},
		{"github.com/prometheus/client_golang", []string{"api", "cmd/...", "handover", "hsm", "hsm/server", "keyring", "link", "outbox", "store", "switch", "vault/reseal", "vault/stored", "zone"}, "", "metrics; deciders have none"},
		{"github.com/miekg/pkcs11", []string{"hsm/token"}, "", "the token; the one library that needs a C compiler, so nothing of the switch may reach it"},
		{"github.com/hashicorp/go-hclog", []string{"store"}, "", "what Raft logs through; it comes with it"},
		{"golang.org/x/sys/unix", []string{"cmd/..."}, "", "the clock that goes on in suspend; it comes with raft and pebble"},
		{"github.com/HdrHistogram/hdrhistogram-go", []string{"bench"}, "", "latencies without averages"},
		{"github.com/spf13/cobra", []string{"cmd/..."}, "", "the command line"},
		{"go.yaml.in/yaml/v3", []string{"bench/table", "cmd/...", "iso8583", "sim"}, "", "configuration, dialect and scenario files"},
		{"golang.org/x/crypto/argon2", []string{"hsm/ceremony", "people"}, "", "an officer's key of a passphrase, and what is kept of an operator's credential: Argon2id, RFC 9106"},
		{"golang.org/x/term", []string{"cmd/..."}, "", "key components typed with the echo off"},
		{"golang.org/x/sync", []string{"..."}, "", "goroutines with an owner"},
		{"golang.org/x/time", []string{"..."}, "", "rates"},
	}
}

// deciders are the packages without goroutine, clock and randomness of their
// own: what they need of them is an argument, so that a simulation drives them
// as they are.
func deciders() []string {
	return []string{
		"card", "payment", "vault", "routing", "iso8583", "journal", "merchant", "query",
		"hsm/key", "hsm/pinblock", "hsm/mac", "hsm/dukpt", "hsm/tr31", "hsm/issuer", "hsm/engine", "hsm/ceremony", "hsm/selftest", "hsm/payshield", "hsm/wire",
		"session",
	}
}

// injected are the packages that wait but never read the wall clock: what they
// write down comes from an injected Now.
func injected() []string { return []string{"api", "outbox", "switch", "vault/stored"} }

// clockReads are the functions of package time that read a clock or wait.
func clockReads() []string {
	return []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}
}

// exempt are folders with rules of their own: a Go module each, or the cluster
// inside testing/synctest, which only tests import.
func exempt() []string {
	return []string{"bench/peers", "api/client", "tools", "store/bubble", "bin", "dist"}
}
