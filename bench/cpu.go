package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrProcess is a --pids entry that is not NAME=PID or PID.
var ErrProcess = errors.New("processes are PID or NAME=PID")

// Process is another process whose CPU a run counts.
type Process struct {
	Name string
	PID  int
}

// ParseProcesses reads --pids.
func ParseProcesses(given string) ([]Process, error) {
	var out []Process
	if given == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(given, ",") {
		name, number, named := strings.Cut(strings.TrimSpace(part), "=")
		if !named {
			name, number = "pid_"+name, name
		}
		pid, err := strconv.Atoi(number)
		if err != nil || pid <= 0 {
			return nil, fmt.Errorf("%q: %w", part, ErrProcess)
		}
		out = append(out, Process{Name: name, PID: pid})
	}
	return out, nil
}

// generatorName is our own process in a CPU split.
const generatorName = "generator"

// cpuTimes is processor time by name of process. Processes of one name, three
// nodes say, are added up.
type cpuTimes map[string]time.Duration

// readCPU reads our own rusage and the others' /proc/PID/stat. A process that
// is gone is left out, and then missing from the split rather than wrong in it.
func readCPU(others []Process) cpuTimes {
	out := cpuTimes{}
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err == nil {
		out[generatorName] = time.Duration(own.Utime.Nano() + own.Stime.Nano())
	}
	for _, p := range others {
		if spent, ok := processCPU(p.PID); ok {
			out[p.Name] += spent
		}
	}
	return out
}

// processCPU is the user and system time of a process: fields 14 and 15 of its
// stat file, in ticks, which are 10 ms on every Linux that Go runs on.
func processCPU(pid int) (time.Duration, bool) {
	const tick = 10 * time.Millisecond
	content, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, false
	}
	// The command's name stands in parentheses and may hold spaces.
	fields := bytes.Fields(content[bytes.LastIndexByte(content, ')')+1:])
	if len(fields) < 13 {
		return 0, false
	}
	user, err1 := strconv.ParseInt(string(fields[11]), 10, 64)
	system, err2 := strconv.ParseInt(string(fields[12]), 10, 64)
	if err1 != nil || err2 != nil {
		return 0, false
	}
	return time.Duration(user+system) * tick, true
}

// since is what was spent after an earlier reading.
func (c cpuTimes) since(earlier cpuTimes) cpuTimes {
	out := cpuTimes{}
	for name, spent := range c {
		if before, known := earlier[name]; known && spent >= before {
			out[name] = spent - before
		}
	}
	return out
}

// per divides by a number of authorizations, in microseconds, all and by name.
func (c cpuTimes) per(count int64) (total float64, split map[string]float64) {
	split = map[string]float64{}
	if count == 0 {
		return 0, split
	}
	for name, spent := range c {
		split[name] = float64(spent.Nanoseconds()) / 1000 / float64(count)
		total += split[name]
	}
	return total, split
}
