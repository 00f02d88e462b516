package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// etcd starts three members of etcd (Debian's etcd-server) on this machine, with
// their data under dir, and puts values of 300 bytes one by one, inFlight at a
// time: the other replicated, durable log that anybody can install, asked for
// what an authorization asks of ours twice.
func etcd(dir string, port int, length time.Duration, inFlight int) (err error) {
	if dir == "" {
		return errUsage
	}
	urls, members, err := startEtcd(dir, port)
	defer func() {
		for _, m := range members {
			_ = m.Process.Signal(syscall.SIGTERM)
			_ = m.Wait() // ended by the signal
		}
	}()
	if err != nil {
		return err
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: urls, DialTimeout: 10 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, err = client.Put(ctx, "first", "value"); err != nil; _, err = client.Put(ctx, "first", "value") {
		if ctx.Err() != nil {
			return err
		}
	}
	return put(client, length, inFlight)
}

// startEtcd starts the members; they find each other by themselves.
func startEtcd(dir string, port int) (urls []string, members []*exec.Cmd, err error) {
	const count = 3
	var cluster []string
	for i := range count {
		urls = append(urls, "http://127.0.0.1:"+strconv.Itoa(port+2*i))
		cluster = append(cluster, fmt.Sprintf("m%d=http://127.0.0.1:%d", i, port+2*i+1))
	}
	log, err := os.Create(filepath.Join(dir, "etcd.log"))
	if err != nil {
		return nil, nil, err
	}
	defer log.Close()
	for i := range count {
		peer := "http://127.0.0.1:" + strconv.Itoa(port+2*i+1)
		c := exec.Command("etcd", "--name", fmt.Sprintf("m%d", i), "--data-dir", filepath.Join(dir, fmt.Sprintf("m%d", i)),
			"--listen-client-urls", urls[i], "--advertise-client-urls", urls[i], "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
			"--initial-cluster", strings.Join(cluster, ","), "--initial-cluster-state", "new")
		c.Stdout, c.Stderr = log, log
		if err := c.Start(); err != nil {
			return nil, members, fmt.Errorf("%w (Debian: etcd-server)", err)
		}
		members = append(members, c)
	}
	return urls, members, nil
}

// put prints how many puts a second ended, how long they took, and how many
// failed: an overloaded etcd refuses some ("request timed out"), which is part
// of what it does and no reason not to measure it.
func put(client *clientv3.Client, length time.Duration, inFlight int) error {
	value := strings.Repeat("v", 300)
	ctx, cancel := context.WithTimeout(context.Background(), length)
	defer cancel()
	var mu sync.Mutex
	var all []time.Duration
	var failures int
	var failure error // the last one
	var group sync.WaitGroup
	began := time.Now()
	for worker := range inFlight {
		group.Go(func() {
			var took []time.Duration
			for n := 0; ctx.Err() == nil; n++ {
				from := time.Now()
				_, err := client.Put(ctx, fmt.Sprintf("k/%d/%d", worker, n), value)
				switch {
				case err == nil:
					took = append(took, time.Since(from))
				case ctx.Err() == nil:
					mu.Lock()
					failures, failure = failures+1, err
					mu.Unlock()
				}
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
		})
	}
	group.Wait()
	if len(all) == 0 {
		return fmt.Errorf("no put ended: %w", failure)
	}
	spent := time.Since(began)
	slices.Sort(all)
	return json.NewEncoder(os.Stdout).Encode(map[string]float64{
		"per_s":  float64(len(all)) / spent.Seconds(),
		"failed": float64(failures),
		"p50_ms": float64(all[len(all)/2].Microseconds()) / 1000,
		"p99_ms": float64(all[len(all)*99/100].Microseconds()) / 1000,
	})
}
