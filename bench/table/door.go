package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"syscall"
)

// doorRate is well below what either door can do, so that neither queues.
const doorRate = "4000"

// door measures what a request costs in HTTP and JSON alone. Ours is asked for
// a currency that no contract takes, so that it does all a door does (read,
// parse, authenticate, check, answer) and the switch behind it nothing; the
// peer has nothing behind it. Both meet the same generator.
func (t *table) door(ctx context.Context) (err error) {
	d, err := t.startDev(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	args := []string{"--rate", doorRate, "--duration", t.step.String()}
	study, err := t.loadDev(ctx, d, "run", append(args, "--currency", "XTS")...)
	if err != nil {
		return err
	}
	r := study.Shown()
	if r.Approved+r.Declined > 0 || r.Answered == 0 {
		return fmt.Errorf("a request in XTS was not refused at the door: %v", r.Outcomes)
	}
	ours := r.CPUSplit["node"]

	c := exec.Command(t.peers(), "door") // #nosec G204 -- our own program
	out, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	defer func() {
		_ = c.Process.Signal(syscall.SIGTERM)
		err = errors.Join(err, c.Wait())
	}()
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("peers door: %w", err)
	}
	peer := &dev{Key: "peer"}
	if err := json.Unmarshal(line, peer); err != nil {
		return err
	}
	peer.process = c
	study, err = t.loadDev(ctx, peer, "run", append(args, "--pids", "node="+strconv.Itoa(c.Process.Pid))...)
	if err != nil {
		return err
	}
	theirs := study.Shown()
	if theirs.Approved == 0 {
		return fmt.Errorf("the peer's door approved nothing: %v", theirs.Outcomes)
	}
	t.figures["http.request_us"] = ours
	t.figures["http.ratio_nethttp"] = theirs.CPUSplit["node"] / ours
	return nil
}
