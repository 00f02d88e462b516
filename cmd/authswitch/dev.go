package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// devOptions are the flags of dev.
type devOptions struct {
	keep     string
	portBase int
	nodes    int
	json     bool
	simCodec string
	inAll    int    // connections of each link, over all nodes
	scope    string // of the acquirers' sign-on
}

// Offsets from the port base: dev uses ports N … N+99.
const (
	portAPI   = 0
	portAdmin = 1
	portSim   = 10
	portPeer  = 30
	// Each node has the API's and the admin port of the one before it plus so
	// many; the simulators begin after the fifth's.
	portsPerNode = 2
	maxDevNodes  = 5
)

// devReady is how long everything may take to be ready.
const devReady = 20 * time.Second

func devCommand() *cobra.Command {
	var o devOptions
	c := &cobra.Command{
		Use:   "dev",
		Short: "Run a node, or a cluster, and acquirer simulators on this machine",
		Long: `Starts a switch node (--nodes 3: a cluster of three), a security module (hsmd on a SoftHSM token), and one simulator for each link (two for CB, one each for
Visa, Mastercard and American Express), each a process of its own, on loopback,
and prints URLs, a key and a ready curl. Without --keep everything lives in a
fresh temporary directory that is removed after a clean stop.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return dev(cmd.Context(), o, cmd.OutOrStdout())
		},
	}
	f := c.Flags()
	f.StringVar(&o.keep, "keep", "", "keep data in this directory, and use what is there")
	f.IntVar(&o.portBase, "port-base", 8080, "first of the hundred ports to use")
	f.IntVar(&o.nodes, "nodes", 1, "how many nodes: 1, or a cluster of 3 or 5")
	f.BoolVar(&o.json, "json", false, "print one line of JSON when ready")
	f.IntVar(&o.inAll, "connections-in-all", 0, "connections that each acquirer gives to all nodes together; 0: each node has one of its own")
	f.StringVar(&o.scope, "state-scope", "connection", "what an acquirer's sign-on is for: connection, station or institution")
	f.StringVar(&o.simCodec, "sim-codec", "fast", "codec of the simulators: fast, or moov (independent of the switch's)")
	return c
}

// devInfo is the line that dev --json prints (docs/operations of scripts).
type devInfo struct {
	API      string    `json:"api"`
	Admin    string    `json:"admin"`
	Key      string    `json:"key"`
	AdminKey string    `json:"admin_key"` // changes merchants
	Merchant string    `json:"merchant"`
	DataDir  string    `json:"data_dir"`
	Nodes    []devNode `json:"nodes"`
	Links    []devLink `json:"links"`
	HSM      *devHSM   `json:"hsm"` // null where bin/hsmd is missing
}

type devNode struct {
	ID      string `json:"id"`
	PID     int    `json:"pid"`
	API     string `json:"api"`
	Admin   string `json:"admin"`
	DataDir string `json:"data_dir"`
}

type devLink struct {
	Name    string `json:"name"`
	Scheme  string `json:"scheme"`
	Dialect string `json:"dialect"`
	Address string `json:"address"`
	Ledger  string `json:"ledger"`
}

// dev lays out the files, runs the processes, says when they are ready, and
// stops them: the node first, so that it can drain into its acquirers.
func dev(ctx context.Context, o devOptions, out io.Writer) error {
	if err := o.check(); err != nil {
		return err
	}
	dir, temporary, err := devDir(o.keep)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	names := make([]string, len(devLinks))
	for i, l := range devLinks {
		names[i] = string(l.name)
	}
	module, err := newDevModule(ctx, dir, names, log)
	if err != nil {
		return err
	}
	defer module.remove()
	layout, err := writeDevFiles(dir, o, module)
	if err != nil {
		return err
	}
	if err := layout.checkPorts(); err != nil {
		if temporary {
			_ = os.RemoveAll(dir) // nothing has run in it
		}
		return err
	}
	family, err := newNursery(log)
	if err != nil {
		return err
	}
	simulators, stopSimulators := context.WithCancel(context.WithoutCancel(ctx))
	defer stopSimulators()
	if module != nil {
		family.keep(simulators, module.child)
	}
	for _, c := range layout.simulators {
		family.keep(simulators, c)
	}
	nodes, stopNodes := context.WithCancel(context.WithoutCancel(ctx))
	defer stopNodes()
	nodeFamily := &nursery{exe: family.exe, log: log, starts: family.starts}
	for _, c := range layout.nodes {
		nodeFamily.keep(nodes, c)
	}
	if err = layout.awaitNodes(ctx); err == nil {
		layout.info.HSM = module.info()
		counter, cerr := module.counterExample(layout.info)
		err = errors.Join(cerr, sayReady(out, layout.info, counter, o.json))
	}
	if err == nil {
		<-ctx.Done()
	}
	stopNodes()
	nodeFamily.wait()
	stopSimulators()
	family.wait()
	if temporary && err == nil {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove temporary data: %w", err)
		}
	}
	return err
}

// check refuses what cannot be run.
func (o *devOptions) check() error {
	if o.portBase < 1024 || o.portBase > 65435 {
		return fmt.Errorf("%w: --port-base %d: ports must lie between 1024 and 65535", errUsage, o.portBase)
	}
	if o.nodes < 1 || o.nodes > maxDevNodes || o.nodes%2 == 0 {
		return fmt.Errorf("%w: --nodes %d: 1, 3 or 5: an even number survives no more deaths than one less", errUsage, o.nodes)
	}
	if o.inAll < 0 || !slices.Contains([]string{"connection", "station", "institution"}, o.scope) {
		return fmt.Errorf("%w: --connections-in-all %d, --state-scope %q: a number, and connection, station or institution", errUsage, o.inAll, o.scope)
	}
	if o.simCodec != "fast" && o.simCodec != "moov" {
		return fmt.Errorf("%w: --sim-codec %q: fast or moov", errUsage, o.simCodec)
	}
	return nil
}

// awaitNodes waits for every node to be ready, and notes its process.
func (l *devLayout) awaitNodes(ctx context.Context) error {
	for i := range l.info.Nodes {
		n := &l.info.Nodes[i]
		if err := awaitReady(ctx, n.Admin+"/ready"); err != nil {
			return fmt.Errorf("node %s: %w", n.ID, err)
		}
		n.PID = readPID(n.DataDir)
	}
	return nil
}

// checkPorts refuses ports that somebody else holds: another dev's node would
// answer "ready" for ours.
func (l *devLayout) checkPorts() error {
	for _, address := range l.addresses {
		ln, err := net.Listen("tcp", address)
		if err != nil {
			return fmt.Errorf("a port is taken (choose others with --port-base): %w", err)
		}
		if err := ln.Close(); err != nil {
			return fmt.Errorf("give a port back: %w", err)
		}
	}
	return nil
}

// devDir is the data directory, absolute, and whether it goes away at the end.
func devDir(keep string) (string, bool, error) {
	if keep == "" {
		dir, err := os.MkdirTemp("", "authswitch-dev-")
		if err != nil {
			return "", false, fmt.Errorf("make temporary data directory: %w", err)
		}
		return dir, true, nil
	}
	dir, err := filepath.Abs(keep)
	if err != nil {
		return "", false, fmt.Errorf("find data directory: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", false, fmt.Errorf("make data directory: %w", err)
	}
	return dir, false, nil
}

// awaitReady asks until the node says ready: links signed on, journal serving.
func awaitReady(ctx context.Context, url string) error {
	deadline := time.Now().Add(devReady)
	client := http.Client{Timeout: time.Second}
	last := "no answer"
	for time.Now().Before(deadline) {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // stopped while starting: not a failure
		}
		answer, err := client.Get(url)
		if err == nil {
			body, _ := io.ReadAll(io.LimitReader(answer.Body, 4096))
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
			last = strings.TrimSpace(string(body))
		}
		time.Sleep(20 * time.Millisecond) // polling another process: there is nothing to wait on
	}
	return fmt.Errorf("not ready after %s: %s", devReady, last)
}

func readPID(dir string) int {
	b, err := os.ReadFile(filepath.Join(dir, "pid"))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0
	}
	return pid
}

func sayReady(out io.Writer, info devInfo, counter string, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(out).Encode(info)
	}
	links := make([]string, len(info.Links))
	for i, l := range info.Links {
		links[i] = fmt.Sprintf("  %-13s %-11s %-12s %s", l.Name, l.Scheme, l.Dialect, l.Address)
	}
	var more strings.Builder
	for _, n := range info.Nodes[1:] {
		fmt.Fprintf(&more, "  and %s   %s, admin %s\n", n.ID, n.API, n.Admin)
	}
	_, err := fmt.Fprintf(out, `
authswitch is ready.

  API      %s
  admin    %s/metrics  (/live, /ready)
%s  key      %s
  merchant %s
  data     %s

Acquirer simulators (the last two digits of the amount choose the answer:
00 approved, 51 declined, 91 issuer down, 68 silence, 69 late answer):
%s

A first authorization, to paste into another terminal:

curl -sS %s/v1/authorizations -H 'Authorization: Bearer %s' \
  -H 'Content-Type: application/json' -H "Idempotency-Key: $RANDOM-$RANDOM" \
  -d '{"merchant":"%s","reference":"ORDER-42","amount":{"value":1000,"currency":"EUR"},"channel":"ecommerce","card":{"number":"4111111111111111","expiry":"3012","cvv":"123"}}'
%s
Stop with Ctrl-C.
`, info.API, info.Admin, more.String(), info.Key, info.Merchant, info.DataDir, strings.Join(links, "\n"), info.API, info.Key, info.Merchant, counter)
	return err
}
