// Command limits writes docs/limits.md: every bound of the switch with its
// default, unit and reason. `make docs` runs it.
//
// It reads the sources: names are the configuration structs' yaml tags,
// defaults are what WithDefaults fills in, reasons are the fields' comments.
// A comment that names another default than the code, a limit without a reason
// or without a unit stops it. It imports nothing of ours.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// output is the file, from the module's root.
const output = "docs/limits.md"

func main() {
	if err := write("."); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// write brings the file of a module up to date.
func write(root string) error {
	text, err := document(root)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(root, output), text, 0o644); err != nil { //nolint:gosec // a document
		return fmt.Errorf("write limits: %w", err)
	}
	return nil
}
