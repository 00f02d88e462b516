package simcmd

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	"authswitch/sim"
)

// WireLine is one message that a simulator kept of its wire.
type WireLine = sim.WireLine

// maxWireLine is more than a described message takes.
const maxWireLine = 1 << 20

// ReadWire reads the lines about one reference number.
func ReadWire(path, rrn string) (lines []WireLine, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the wire: %w", err)
	}
	defer f.Close()
	in := bufio.NewScanner(f)
	in.Buffer(nil, maxWireLine)
	for in.Scan() {
		var l WireLine
		if json.Unmarshal(in.Bytes(), &l) == nil && l.RRN == rrn { // a last line may be half written
			lines = append(lines, l)
		}
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("read the wire: %w", err)
	}
	return lines, nil
}
