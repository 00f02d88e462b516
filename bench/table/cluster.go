package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// cluster measures three nodes on this machine, all of them asked, and etcd with
// three members beside them. An authorization is two entries of the replicated
// log, so that the ratio compares entries: twice our authorizations with its
// puts.
func (t *table) cluster(ctx context.Context) (err error) {
	d, err := t.startDev(ctx, "--nodes", "3")
	if err != nil {
		return err
	}
	stopped := false
	stop := func() error {
		if stopped {
			return nil
		}
		stopped = true
		return d.stop()
	}
	defer func() { err = errors.Join(err, stop()) }()
	for _, n := range d.Nodes[1:] {
		d.API += "," + n.API
	}
	rate, err := t.climb(ctx, d, 600)
	if err != nil {
		return err
	}
	full, err := t.hold(ctx, d, rate)
	if err != nil {
		return err
	}
	t.figures["three_nodes.authorizations_per_s"] = full.Throughput()
	t.figures["three_nodes.p50_ms"], t.figures["three_nodes.p99_ms"] = full.P50, full.P99
	t.figures["three_nodes.cpu_us_per_authorization"] = full.CPU
	t.figures["three_nodes.late_ms"], t.figures["three_nodes.valid"] = full.Late, truth(full.Valid)
	for name, spent := range full.CPUSplit {
		t.figures["three_nodes.cpu_us_"+name] = spent
	}
	quiet, err := t.loadDev(ctx, d, "run", "--rate", "500", "--duration", t.load.String())
	if err != nil {
		return err
	}
	t.figures["three_nodes.p50_ms_at_500"], t.figures["three_nodes.p99_ms_at_500"] = quiet.Shown().P50, quiet.Shown().P99
	if err := t.verify(ctx, d); err != nil {
		return err
	}
	t.figures["three_nodes.verified"] = 1
	if err := stop(); err != nil {
		return err
	}
	if err := t.etcd(ctx); err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	return nil
}

// mutualTLS measures durable commits of three members with the product's network
// between them and with the same without TLS, by turns, on the same machine: all
// of them in one process, so that nothing else is compared.
func (t *table) mutualTLS(ctx context.Context) error {
	const turns = 2
	cost, rate := map[string]float64{}, map[string]float64{}
	for range turns {
		for _, network := range []string{"tls", "plain"} {
			got, err := goBench(ctx, "./store", "BenchmarkThreeNodes/"+network+"$", 3*t.short)
			if err != nil {
				return err
			}
			cost[network] += got["cpu-µs/commit"] / turns
			rate[network] += got["commits/s"] / turns
		}
	}
	t.figures["tls.commits_per_s"], t.figures["tls.plain_commits_per_s"] = rate["tls"], rate["plain"]
	t.figures["tls.commit_cpu_us"], t.figures["tls.plain_commit_cpu_us"] = cost["tls"], cost["plain"]
	t.figures["tls.cpu_ratio"] = cost["tls"] / cost["plain"]
	return nil
}

// etcd is the peer.
func (t *table) etcd(ctx context.Context) error {
	dir := filepath.Join(t.scratch, "etcd")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	theirs, err := t.peer(ctx, "etcd", "--dir", dir, "--port", strconv.Itoa(t.portBase), "--for", (5 * t.short).String())
	if err != nil {
		return err
	}
	t.figures["etcd.puts_per_s"], t.figures["etcd.p99_ms"], t.figures["etcd.failed"] = theirs["per_s"], theirs["p99_ms"], theirs["failed"]
	t.figures["three_nodes.ratio_etcd"] = 2 * t.figures["three_nodes.authorizations_per_s"] / theirs["per_s"]
	return nil
}
