package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"authswitch/journal"
	"authswitch/payment"
	"authswitch/peer"
	"authswitch/store"
)

// clusterOptions are the flags that every cluster command has.
type clusterOptions struct {
	config string
	json   bool
}

func clusterCommand() *cobra.Command {
	var o clusterOptions
	c := &cobra.Command{
		Use: "cluster", Short: "See and change the members of a cluster; back it up",
		Long: `Asks the node that --config describes, with that node's own certificate, so that
whoever can read its key can run these commands. What only the leader can do is
passed on to it.`,
		Example: `  authswitch cluster status --config n1.yaml
  authswitch cluster snapshot save backup.as --config n1.yaml
  authswitch cluster join --config n4.yaml          n4 is running, with cluster.join: true`,
	}
	c.PersistentFlags().StringVar(&o.config, "config", "authswitch.yaml", "the configuration file of a node")
	c.PersistentFlags().BoolVar(&o.json, "json", false, "print JSON")
	simple := func(use, short, path string, args cobra.PositionalArgs, request func(*Config, []string) memberRequest) *cobra.Command {
		return &cobra.Command{Use: use, Short: short, Args: args, RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := clusterConfig(o.config)
			if err != nil {
				return err
			}
			return o.change(cmd.Context(), cmd.OutOrStdout(), cfg, path, request(cfg, args))
		}}
	}
	var noVote bool
	join := simple("join", "Add the node of --config: first without a vote, with one once it has caught up", "/join", cobra.NoArgs, func(cfg *Config, _ []string) memberRequest {
		return memberRequest{Node: cfg.Node.ID, Address: cfg.Cluster.Address, NoVote: noVote}
	})
	join.Flags().BoolVar(&noVote, "no-vote", false, "never give it a vote: a copy, for reading and backups")
	release := simple("release LANE", "Let a lane of a restored cluster go; '*' for all", "/release", cobra.ExactArgs(1), func(_ *Config, args []string) memberRequest {
		return memberRequest{Lane: payment.LinkName(args[0])}
	})
	release.PreRunE = func(_ *cobra.Command, args []string) error { return o.knowsLane(args[0]) }
	c.AddCommand(
		&cobra.Command{Use: "status", Short: "Leader, indexes, session and members, as one node sees them", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			return o.status(cmd.Context(), cmd.OutOrStdout(), true)
		}},
		&cobra.Command{Use: "members", Short: "The members", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			return o.status(cmd.Context(), cmd.OutOrStdout(), false)
		}},
		join,
		simple("remove NODE", "Take a member out; what it left open is reversed", "/remove", cobra.ExactArgs(1), func(_ *Config, args []string) memberRequest {
			return memberRequest{Node: payment.NodeID(args[0])}
		}),
		&cobra.Command{Use: "rebuild", Aliases: []string{"replace"}, Short: "Let the node of --config begin anew from the others: its disk was lost, is damaged or has less than it acknowledged", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			return o.rebuild(cmd.Context(), cmd.OutOrStdout())
		}},
		simple("transfer [NODE]", "Hand leadership to a member, or to the one that is furthest", "/transfer", cobra.MaximumNArgs(1), func(_ *Config, args []string) memberRequest {
			return memberRequest{Node: payment.NodeID(strings.Join(args, ""))}
		}),
		release,
		snapshotCommand(&o),
		certificatesCommand(),
	)
	return c
}

func clusterConfig(path string) (*Config, error) {
	cfg, err := readConfig(path)
	if err != nil {
		return nil, err
	}
	if cfg.Cluster.Listen == "" {
		return nil, fmt.Errorf("%w: %s: the node has no cluster", errUsage, path)
	}
	return cfg, nil
}

// knowsLane refuses a name that is no link's: the journal would keep it, and the
// lane that was meant would stay fenced.
func (o *clusterOptions) knowsLane(name string) error {
	cfg, err := clusterConfig(o.config)
	if err != nil || name == string(journal.EveryLane) {
		return err
	}
	for i := range cfg.Links {
		if string(cfg.Links[i].Name) == name {
			return nil
		}
	}
	return fmt.Errorf("%w: %s has no link %s; '*' releases every lane", errUsage, o.config, name)
}

// ask finds a node that answers: the configuration's own, then the others.
func ask(ctx context.Context, cfg *Config, method, path string, body, v any) error {
	members := append([]store.Member{{Node: cfg.Node.ID, Address: cfg.Cluster.Address}}, cfg.Cluster.Members...)
	over, err := peer.NewDialer(cfg.Cluster.Config, peer.Deps{NodeAt: func(address string) (string, bool) {
		for _, m := range members {
			if m.Address == address {
				return string(m.Node), true
			}
		}
		return "", false
	}})
	if err != nil {
		return err
	}
	var faults []error
	// A node that waits to be let in does not answer; the others do.
	asksForItself := path == "/join" || path == "/remove"
	for n, m := range members {
		if (n > 0 || asksForItself) && m.Node == cfg.Node.ID {
			continue
		}
		client := controlClient(over, m.Address)
		err := answers(ctx, client)
		if err == nil {
			err = client.do(ctx, method, path, body, v)
		}
		if err == nil {
			return nil
		}
		faults = append(faults, fmt.Errorf("%s: %w", m.Node, err))
	}
	return errors.Join(faults...)
}

// answers asks a node for little before it is asked for what may take long: one
// that hangs must not keep the command from those that do not.
func answers(ctx context.Context, c *control) error {
	ctx, cancel := context.WithTimeout(ctx, answersWithin)
	defer cancel()
	return c.do(ctx, http.MethodGet, "/status", nil, io.Discard)
}

const answersWithin = 5 * time.Second

// clusterTimeout bounds one command; joining waits for a member to catch up.
const clusterTimeout = 20 * time.Minute

func (o *clusterOptions) change(ctx context.Context, out io.Writer, cfg *Config, path string, m memberRequest) error {
	ctx, cancel := context.WithTimeout(ctx, clusterTimeout)
	defer cancel()
	var status store.Status
	if err := ask(ctx, cfg, http.MethodPost, path, m, &status); err != nil {
		return err
	}
	return o.print(out, status, false)
}

func (o *clusterOptions) status(ctx context.Context, out io.Writer, all bool) error {
	cfg, err := clusterConfig(o.config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	var status store.Status
	if err := ask(ctx, cfg, http.MethodGet, "/status", nil, &status); err != nil {
		return err
	}
	return o.print(out, status, all)
}

// rebuild empties a node's disk and lets the others fill it again. A node that
// runs ends itself; its supervisor starts it again, and no more is needed. It is
// added only when that start has emptied its disk: the command returns when it has
// caught up and has its vote again.
func (o *clusterOptions) rebuild(ctx context.Context, out io.Writer) error {
	cfg, err := clusterConfig(o.config)
	if err != nil {
		return err
	}
	dir := cfg.Store.Dir
	if _, err := os.Stat(dir); err != nil {
		return fmt.Errorf("rebuild: run it where the node's data directory is: %w", err)
	}
	ctx, stop := context.WithTimeout(ctx, clusterTimeout)
	defer stop()
	removed, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	// Without the others' consent nothing is removed.
	if err := ask(removed, cfg, http.MethodPost, "/remove", memberRequest{Node: cfg.Node.ID, Gone: true}, nil); err != nil {
		return fmt.Errorf("rebuild: the others do not let %s go, and its disk was not touched: %w", cfg.Node.ID, err)
	}
	if err := store.WipeAtStart(nil, dir); err != nil {
		return fmt.Errorf("rebuild: %w", err)
	}
	fmt.Fprintf(out, "%s is taken out of the cluster. Its next start empties its journal and waits for what the leader sends;\none that runs ends itself. Start it now, unless its supervisor does. This command waits until it has caught up.\n", cfg.Node.ID)
	if err := awaitWipe(ctx, dir); err != nil {
		return fmt.Errorf("rebuild: %s is not added before its disk is emptied: %w", cfg.Node.ID, err)
	}
	return o.change(ctx, out, cfg, "/join", memberRequest{Node: cfg.Node.ID, Address: cfg.Cluster.Address})
}

// awaitWipe waits for the start that empties a node's disk.
func awaitWipe(ctx context.Context, dir string) error {
	for {
		if done, err := store.Wiped(nil, dir); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (o *clusterOptions) print(out io.Writer, s store.Status, all bool) error {
	if o.json {
		return printJSON(out, s)
	}
	if all {
		fmt.Fprintf(out, "asked      %s\nleader     %s, term %d\nversion    %d\ncommitted  %d\napplied    %d\nsnapshot   %d\nsession    %d, may write: %v\nfenced     %s\n\n",
			s.Node, cmp.Or(s.Leader, "none known"), s.Term, s.Version, s.Committed, s.Applied, s.SnapshotIndex, s.Session, s.MayWrite, fence(s))
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tADDRESS\tROLE\tSESSION\tVERSION\tBUILD")
	for _, m := range s.Members {
		role := "voter"
		switch {
		case m.Leader:
			role = "leader"
		case !m.Voter:
			role = "no vote"
		}
		session := "none"
		if m.Session != 0 {
			session = fmt.Sprint(m.Session)
		}
		version := "unknown"
		if m.Version != 0 {
			version = fmt.Sprint(m.Version)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", m.Node, m.Address, role, session, version, cmp.Or(m.Build, "unknown"))
	}
	return w.Flush()
}

func fence(s store.Status) string {
	switch {
	case !s.Fenced:
		return "no"
	case len(s.Released) == 0:
		return "yes, every lane"
	}
	released := make([]string, len(s.Released))
	for n, lane := range s.Released {
		released[n] = string(lane)
	}
	return "yes, but for " + strings.Join(released, ", ")
}

func snapshotCommand(o *clusterOptions) *cobra.Command {
	c := &cobra.Command{Use: "snapshot", Short: "Back the whole journal up, look into a backup, begin a cluster with one"}
	c.AddCommand(
		&cobra.Command{Use: "save FILE", Short: "Write a backup, and read it again to prove it", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
			return o.save(cmd.Context(), cmd.OutOrStdout(), args[0])
		}},
		&cobra.Command{Use: "inspect FILE", Short: "Read a whole backup and say what it holds", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
			return o.inspect(cmd.OutOrStdout(), args[0])
		}},
		&cobra.Command{
			Use: "restore FILE", Short: "Make the node of --config, empty and not running, begin a new cluster with a backup", Args: cobra.ExactArgs(1),
			Long: `The new cluster starts fenced: it answers what was answered before the backup and
opens, sends and cancels nothing until each lane is released by name
(authswitch cluster release LANE). Trace and reference numbers jump past those
that could have been used since. Start the node of --config, then the other
members of its file, with empty disks.`,
			RunE: func(cmd *cobra.Command, args []string) error { return o.restore(cmd.OutOrStdout(), args[0]) },
		})
	return c
}

// save writes beside the name it is given until the backup is proven whole.
func (o *clusterOptions) save(ctx context.Context, out io.Writer, path string) error {
	cfg, err := clusterConfig(o.config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, clusterTimeout)
	defer cancel()
	unfinished := path + ".unfinished"
	f, err := os.OpenFile(unfinished, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("save: %w", err)
	}
	defer os.Remove(unfinished)
	err = ask(ctx, cfg, http.MethodGet, "/snapshot", nil, f)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("save: %w", err)
	}
	if err := o.inspect(out, unfinished); err != nil {
		return err
	}
	return os.Rename(unfinished, path)
}

// inspected is what inspect and restore print as JSON.
type inspected struct {
	Backup store.BackupHead `json:"backup"`
	State  journal.Summary  `json:"state"`
}

func (o *clusterOptions) inspect(out io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("inspect: %w", err)
	}
	defer f.Close()
	scratch, err := os.MkdirTemp("", "authswitch-inspect-")
	if err != nil {
		return fmt.Errorf("inspect: %w", err)
	}
	defer os.RemoveAll(scratch)
	head, summary, err := store.Inspect(nil, f, scratch)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return o.printBackup(out, head, summary)
}

func (o *clusterOptions) restore(out io.Writer, path string) error {
	cfg, err := readConfig(o.config)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	defer f.Close()
	head, summary, err := store.Restore(cfg.Store, nil, f)
	if err != nil {
		return fmt.Errorf("restore %s: %w", path, err)
	}
	return o.printBackup(out, head, summary)
}

func (o *clusterOptions) printBackup(out io.Writer, head store.BackupHead, s journal.Summary) error {
	if o.json {
		return printJSON(out, inspected{head, s})
	}
	fenced := "no"
	if s.Fenced {
		fenced = "every lane, until it is released by name"
	}
	_, err := fmt.Fprintf(out, "taken      %s of %s\nentries    %d, the newest of %s, at version %d\nrecords    %d, sha256 %s\npayments   %d, %d of them open\nreversals  %d owed, %d for a person\nlanes      %s\nfenced     %s\n",
		head.Taken.Format(time.RFC3339), head.Node, s.Applied, time.Unix(0, int64(s.At)).UTC().Format(time.RFC3339), s.Version, s.Records, s.SHA256,
		s.Payments, s.Open, s.Owed, s.Exceptions, joined(s.Lanes), fenced)
	return err
}

func joined(lanes []payment.LinkName) string {
	names := make([]string, 0, len(lanes))
	for _, lane := range lanes {
		names = append(names, string(lane))
	}
	return cmp.Or(strings.Join(names, ", "), "none")
}
