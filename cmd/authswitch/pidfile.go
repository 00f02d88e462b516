package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// writeSynced writes a file that must be whole after a power cut: what was only
// written is then often a file of no bytes. Extra is os.O_EXCL or os.O_TRUNC.
func writeSynced(path string, extra int, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|extra, 0o600)
	if err != nil {
		return fmt.Errorf("make %s: %w", path, err)
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

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
