package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

func serveCommand() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use: "serve", Short: "Run a switch node", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), path) },
	}
	c.Flags().StringVar(&path, "config", "authswitch.yaml", "the configuration file")
	return c
}

// stopFailed bounds the stop of a node whose store failed.
const stopFailed = 3 * time.Second

// serve runs a node until it is told to stop or a part cannot go on.
func serve(ctx context.Context, path string) error {
	cfg, err := readConfig(path)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("node", string(cfg.Node.ID))
	if err := harden(cfg.Profile == profileProduction); err != nil {
		log.Warn("this process could leave what it holds in a core file: let the unit forbid them (LimitCORE=0)", "error", err)
	}
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP) // before the pid is written: a hangup never kills
	defer signal.Stop(hangup)
	n, err := startNode(ctx, cfg, path, log)
	if err != nil {
		return fmt.Errorf("node %s: %w", cfg.Node.ID, err)
	}
	log.Info("serving", "api", cfg.API.Listen, "admin", cfg.Admin.Listen, "version", version)
	var failure error
	for running := true; running; {
		select {
		case <-hangup:
			n.reloadOnSignal()
			continue
		case <-ctx.Done():
			failure = n.leaveRotation()
			log.Info("stopping")
		case failure = <-n.failed:
			log.Error("stopping: a part cannot go on", "error", failure)
		}
		running = false
	}
	if n.storeFailed.Load() {
		// What waits for the journal, or for a disk, does not end by itself.
		time.AfterFunc(stopFailed, func() {
			log.Error("parts of the node do not stop; the process ends without them", "error", failure)
			os.Exit(exitFailed)
		})
	}
	n.stop()
	return failure
}
