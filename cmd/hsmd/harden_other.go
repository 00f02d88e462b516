//go:build !linux

package main

import "log/slog"

// harden can do nothing here.
func harden(log *slog.Logger) error {
	log.Warn("this system's memory locks and core files are not known to hsmd: for development only")
	return nil
}
