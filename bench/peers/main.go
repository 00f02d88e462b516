// Command peers measures what others offer for the same work, in the same run
// and on the same machine as ours: moov-io's ISO 8583 codec and connection
// package, a door of net/http and encoding/json, and a cluster of etcd. Each prints one line of
// JSON. It is a module of its own, so that their dependencies never enter
// ours, and it imports nothing of ours: message and specification come in as
// files. Called by: bench/table.
package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/moov-io/iso8583"
	"github.com/moov-io/iso8583/specs"
)

var errUsage = errors.New("usage: peers codec|connection --spec FILE --frame FILE [--for 2s], peers door --listen ADDRESS, peers etcd --dir DIR [--port N] [--for 2s]")

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errUsage
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	spec := flags.String("spec", "", "moov's JSON specification of the dialect")
	frame := flags.String("frame", "", "the message, in hexadecimal")
	length := flags.Duration("for", 2*time.Second, "how long to measure")
	inFlight := flags.Int("in-flight", 256, "requests in flight")
	dir := flags.String("dir", "", "folder for the members of etcd")
	port := flags.Int("port", 23_790, "first of six ports for them")
	listen := flags.String("listen", "127.0.0.1:0", "address of the door")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if args[0] == "door" {
		return door(*listen)
	}
	if args[0] == "etcd" {
		return etcd(*dir, *port, *length, *inFlight)
	}
	m, err := readMessage(*spec, *frame)
	if err != nil {
		return err
	}
	switch args[0] {
	case "codec":
		return codec(m, *length)
	case "connection":
		return connections(m, *length, *inFlight)
	}
	return errUsage
}

// message is the message to send, as its values.
type message struct {
	spec   *iso8583.MessageSpec
	frame  []byte
	mti    string
	fields []int
	values map[int][]byte
}

// readMessage takes a packed message apart by the specification, so that what
// is measured is the very message that our own codec packed.
func readMessage(specFile, frameFile string) (*message, error) {
	raw, err := os.ReadFile(specFile)
	if err != nil {
		return nil, err
	}
	spec, err := specs.ImportJSON(raw)
	if err != nil {
		return nil, fmt.Errorf("specification: %w", err)
	}
	text, err := os.ReadFile(frameFile)
	if err != nil {
		return nil, err
	}
	frame, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, fmt.Errorf("frame: %w", err)
	}
	m := &message{spec: spec, frame: frame, values: map[int][]byte{}}
	parsed := iso8583.NewMessage(spec)
	if err := parsed.Unpack(frame); err != nil {
		return nil, fmt.Errorf("unpacking the frame: %w", err)
	}
	if m.mti, err = parsed.GetMTI(); err != nil {
		return nil, err
	}
	for de := range 129 {
		if de < 2 || parsed.GetField(de) == nil {
			continue
		}
		value, err := parsed.GetBytes(de)
		if err != nil {
			return nil, err
		}
		if len(value) > 0 {
			m.fields = append(m.fields, de)
			m.values[de] = value
		}
	}
	packed, err := m.build("").Pack()
	if err != nil {
		return nil, fmt.Errorf("packing: %w", err)
	}
	if string(packed) != string(frame) {
		return nil, errors.New("moov packs another message than the one it was given")
	}
	return m, nil
}

// build makes the message anew, as an application would; stan replaces DE 11.
func (m *message) build(stan string) *iso8583.Message {
	out := iso8583.NewMessage(m.spec)
	out.MTI(m.mti)
	for _, de := range m.fields {
		value := m.values[de]
		if de == 11 && stan != "" {
			value = []byte(stan)
		}
		if err := out.BinaryField(de, value); err != nil {
			panic(err) // it came out of this very specification
		}
	}
	return out
}

// cpu is the processor time of this process, its collector included. On a
// machine with neighbours it repeats where a clock does not.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// per is the CPU time of one call, in nanoseconds.
func per(length time.Duration, f func()) float64 {
	for range 200 {
		f()
	}
	runtime.GC()
	began, spent, n := time.Now(), cpu(), 0
	for time.Since(began) < length {
		for range 200 {
			f()
		}
		n += 200
	}
	return float64((cpu() - spent).Nanoseconds()) / float64(n)
}

func codec(m *message, length time.Duration) error {
	out := map[string]float64{"fields": float64(len(m.fields))}
	var failed error
	out["pack_ns"] = per(length, func() {
		if _, err := m.build("").Pack(); err != nil {
			failed = err
		}
	})
	out["unpack_ns"] = per(length, func() {
		parsed := iso8583.NewMessage(m.spec)
		if err := parsed.Unpack(m.frame); err != nil {
			failed = err
		}
	})
	if failed != nil {
		return failed
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}
