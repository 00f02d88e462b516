package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// writePID writes this process's id into dir/pid, whole or not at all, so that
// a script that reads it never sees half a number.
func writePID(dir string) error {
	file := filepath.Join(dir, "pid")
	temporary := file + ".new"
	if err := os.WriteFile(temporary, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		return fmt.Errorf("write pid file: %w", err)
	}
	if err := os.Rename(temporary, file); err != nil {
		return fmt.Errorf("write pid file: %w", err)
	}
	return nil
}
