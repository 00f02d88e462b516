//go:build !linux

package main

// slacken can do nothing here.
func slacken() {}
