package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxConfigBytes bounds the file.
const maxConfigBytes = 4 << 20

// readConfig reads, completes and validates a file; all faults at once.
func readConfig(path string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open configuration: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxConfigBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if len(b) > maxConfigBytes {
		return nil, fmt.Errorf("configuration %s is larger than %d bytes", path, maxConfigBytes)
	}
	c, faults := parseConfig(b, filepath.Dir(path))
	if len(faults) > 0 {
		return nil, fmt.Errorf("configuration %s:\n%w", path, errors.Join(faults...))
	}
	return c, nil
}

// parseConfig decodes and validates: what is wrong with the file's words is
// reported together with what is wrong with their meaning, so that a person
// mends a file once. Only a file that is no YAML at all ends the reading early.
func parseConfig(b []byte, dir string) (*Config, []error) {
	var c Config
	var faults []error
	decoder := yaml.NewDecoder(bytes.NewReader(b))
	decoder.KnownFields(true)
	err := decoder.Decode(&c)
	var mistyped *yaml.TypeError
	switch {
	case errors.As(err, &mistyped):
		for _, text := range mistyped.Errors {
			faults = append(faults, wording(text))
		}
	case errors.Is(err, io.EOF):
		// An empty file: what is needed is named below.
	case err != nil:
		return nil, []error{err}
	}
	if decoder.Decode(&yaml.Node{}) == nil {
		faults = append(faults, errors.New("the file holds a second document: one is read, so there must be only one"))
	}
	c.complete(dir)
	return &c, append(faults, c.Validate()...)
}

// The library's words for a key it does not know and a value it cannot use.
var (
	unknownKey = regexp.MustCompile(`^(line \d+): field (.*) not found in type \S+$`)
	wrongValue = regexp.MustCompile("(?s)^(line \\d+): cannot unmarshal !!\\w+ ?(?:`.*`)? into (\\S+)$")
)

// wording says it without Go's types, and without the value: a secret that
// stands in the wrong place is not repeated on a terminal or in a log.
func wording(text string) error {
	if m := unknownKey.FindStringSubmatch(text); m != nil {
		return fmt.Errorf("%s: unknown key %q", m[1], m[2])
	}
	if m := wrongValue.FindStringSubmatch(text); m != nil {
		wanted := map[string]string{
			"time.Duration": "a duration such as 10s", "int": "a whole number", "int64": "a whole number", "float64": "a number",
			"bool": "true or false", "string": "a text",
		}[m[2]]
		switch {
		case wanted != "":
		case strings.HasPrefix(m[2], "[]"):
			wanted = "a list"
		default:
			wanted = "a section of keys"
		}
		return fmt.Errorf("%s: not %s", m[1], wanted)
	}
	return errors.New(text)
}
