package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	connection "github.com/moov-io/iso8583-connection"
)

// connections measures moov's connection package: requests of one message on
// one connection, a fixed number in flight, against a host that turns 0100
// into 0110 in place.
func connections(m *message, length time.Duration, inFlight int) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer listener.Close()
	go serve(listener)
	c, err := connection.New(listener.Addr().String(), m.spec, readLength, writeLength, connection.SendTimeout(10*time.Second))
	if err != nil {
		return err
	}
	if err := c.Connect(); err != nil {
		return err
	}
	var stan, done, lost atomic.Int64
	var group sync.WaitGroup
	began, spent := time.Now(), cpu()
	for range inFlight {
		group.Go(func() {
			for time.Since(began) < length {
				answer, err := c.Send(m.build(fmt.Sprintf("%06d", stan.Add(1)%1_000_000)))
				if err != nil || answer == nil {
					lost.Add(1)
					continue
				}
				done.Add(1)
			}
		})
	}
	group.Wait()
	elapsed, used := time.Since(began), cpu()-spent
	if done.Load() == 0 {
		return errors.New("no round trip succeeded")
	}
	out := map[string]float64{
		"roundtrips_per_s": float64(done.Load()) / elapsed.Seconds(),
		"cpu_us":           float64(used.Microseconds()) / float64(done.Load()),
		"lost":             float64(lost.Load()),
	}
	return errors.Join(c.Close(), json.NewEncoder(os.Stdout).Encode(out))
}

func readLength(r io.Reader) (int, error) {
	var b [2]byte
	_, err := io.ReadFull(r, b[:])
	return int(binary.BigEndian.Uint16(b[:])), err
}

func writeLength(w io.Writer, length int) (int, error) {
	return w.Write(binary.BigEndian.AppendUint16(nil, uint16(length)))
}

// serve answers what is read with what was read, the third digit of its MTI
// raised; it costs next to nothing beside the package under test.
func serve(listener net.Listener) {
	for {
		socket, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer socket.Close()
			r := bufio.NewReaderSize(socket, 256<<10)
			w := bufio.NewWriterSize(socket, 256<<10)
			frame := make([]byte, 2+1<<16)
			for {
				if _, err := io.ReadFull(r, frame[:2]); err != nil {
					return
				}
				n := 2 + int(binary.BigEndian.Uint16(frame))
				if _, err := io.ReadFull(r, frame[2:n]); err != nil {
					return
				}
				frame[4] = '1' // MTI in ASCII: 0100 becomes 0110
				if _, err := w.Write(frame[:n]); err != nil {
					return
				}
				if r.Buffered() == 0 {
					if err := w.Flush(); err != nil {
						return
					}
				}
			}
		}()
	}
}
