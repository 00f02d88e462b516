package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

var errNoBenchmark = errors.New("no such benchmark")

// goBench runs one benchmark of a package and gives its figures by unit.
func goBench(ctx context.Context, folder, name string, length time.Duration) (map[string]float64, error) {
	// #nosec G204 -- constants of this program
	c := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", name, "-benchtime", length.String(), "-benchmem", "-count", "1", folder)
	out, err := c.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("go test %s: %w: %.500s", folder, err, out)
	}
	return parseBenchmark(out, name, folder)
}

// parseBenchmark reads the one result line: name, count, then value and unit
// in pairs.
func parseBenchmark(out []byte, name, folder string) (map[string]float64, error) {
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		figures := map[string]float64{}
		for i := 2; i+1 < len(fields); i += 2 {
			v, err := strconv.ParseFloat(fields[i], 64)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", fields[0], err)
			}
			figures[fields[i+1]] = v
		}
		return figures, nil
	}
	return nil, fmt.Errorf("%s in %s: %w", name, folder, errNoBenchmark)
}
