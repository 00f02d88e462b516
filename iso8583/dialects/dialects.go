// Package dialects holds the dialect files: data, one file per acquirer or
// scheme family, each its difference from the base it extends. It has no
// logic; package iso8583 compiles what it holds. Called by: cmd.
package dialects

import "embed"

// FS holds the files; a dialect's name is its file's without ".yaml". Files
// whose name starts with "base-" only serve to be extended.
//
//go:embed *.yaml
var FS embed.FS
