package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// trial is one node and its acquirers, each started as its operator would. Not
// by `authswitch dev`, which would have one that was killed back at once, and
// whose node has no profiles.
type trial struct {
	*table
	dev        *dev // the addresses and the key
	folder     string
	hsmd       *exec.Cmd // nil where dev wrote none: its binary or its token is not there
	node       *exec.Cmd
	simulators map[string]*exec.Cmd // by link
	http       http.Client
}

// newTrial lets dev write keys and files, and changes the node's configuration.
func (t *table) newTrial(ctx context.Context, name string, change func([]byte) ([]byte, error)) (*trial, error) {
	o := &trial{table: t, folder: filepath.Join(t.scratch, name), simulators: map[string]*exec.Cmd{}}
	o.http.Timeout = 2 * silenceLimit
	d, err := t.startDev(ctx, "--keep", o.folder)
	if err != nil {
		return nil, err
	}
	if err := d.stop(); err != nil {
		return nil, err
	}
	o.dev = d
	if err := os.WriteFile(filepath.Join(o.scratch, "key"), []byte(d.Key), 0o600); err != nil {
		return nil, err
	}
	file := filepath.Join(o.folder, "n1.yaml")
	content, err := os.ReadFile(file) // #nosec G304 -- our own
	if err != nil {
		return nil, err
	}
	if content, err = change(content); err != nil {
		return nil, err
	}
	return o, os.WriteFile(file, content, 0o600)
}

// start runs the node, the security module and the acquirers of its links, and
// waits until it would take a payment.
func (o *trial) start(ctx context.Context) error {
	if err := o.secure(); err != nil {
		return err
	}
	for _, l := range o.dev.Links {
		if err := o.simulate(l.Name); err != nil {
			return err
		}
	}
	c, err := o.run("serve", "--config", filepath.Join(o.folder, "n1.yaml"))
	if err != nil {
		return err
	}
	o.node = c
	return watch(ctx, readyWithin, "the node is ready", func() bool {
		_, err := o.get(ctx, o.dev.Admin+"/ready")
		return err == nil
	})
}

// secure starts the security module: a link with MACs is not ready without it.
func (o *trial) secure() error {
	file := filepath.Join(o.folder, "hsm", "hsmd.yaml")
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	c, err := o.launch(filepath.Join(filepath.Dir(o.binary), "hsmd"), "serve", "--config", file)
	o.hsmd = c
	return err
}

// simulate starts a link's acquirer.
func (o *trial) simulate(link string) error {
	c, err := o.run("sim", "run", filepath.Join(o.folder, link+".yaml"))
	if err == nil {
		o.simulators[link] = c
	}
	return err
}

// run starts one process of the program.
func (o *trial) run(args ...string) (*exec.Cmd, error) { return o.launch(o.binary, args...) }

// launch starts a process; what it logs goes into a file.
func (o *trial) launch(binary string, args ...string) (*exec.Cmd, error) {
	log, err := os.OpenFile(filepath.Join(o.folder, filepath.Base(binary)+"-"+args[0]+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) // #nosec G304 -- our own
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	c := exec.Command(binary, args...) // #nosec G204 -- the program to measure
	c.Stdout, c.Stderr = log, log
	return c, c.Start()
}

// stop ends the node first, so that it can drain into its acquirers, and the
// security module last.
func (o *trial) stop() error {
	err := end(o.node)
	for _, c := range o.simulators {
		err = errors.Join(err, end(c))
	}
	return errors.Join(err, end(o.hsmd))
}

// end stops a process cleanly; one that has ended before is no fault.
func end(c *exec.Cmd) error {
	if c == nil || c.ProcessState != nil {
		return nil
	}
	return (&dev{process: c}).stop()
}

// get reads a page of the node.
func (o *trial) get(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+o.dev.Key)
	response, err := o.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s", url, response.Status)
	}
	return content, err
}

// watch polls until something is so: other processes have nothing to wait on.
func watch(ctx context.Context, limit time.Duration, what string, so func() bool) error {
	for deadline := time.Now().Add(limit); !so(); {
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: %w (%s)", what, errSlow, limit)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(watchEvery):
		}
	}
	return nil
}
