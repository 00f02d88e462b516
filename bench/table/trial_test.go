package main

import (
	"context"
	"errors"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

const devConfig = `
node: {id: n1}
api: {listen: "127.0.0.1:1", budget: 8s, requests: 0}
admin: {listen: "127.0.0.1:2", pprof: false}
links:
  - {name: cb-a, window: 1024, answer_timeout: 3s, dialect: cb}
  - {name: visa-a, window: 1024, answer_timeout: 3s, dialect: visa}
merchants:
  - id: parcels
    contracts: [{scheme: cb, links: [cb-a]}, {scheme: visa, links: [visa-a]}]
`

func TestOnlyVisa(t *testing.T) {
	content, err := onlyVisa([]byte(devConfig))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		API struct {
			Listen   string
			Budget   time.Duration
			Requests int
		}
		Links []struct {
			Name, Dialect string
			Window        int
			AnswerTimeout time.Duration `yaml:"answer_timeout"`
		}
		Merchants []struct{ Contracts []struct{ Scheme string } }
	}
	if err := yaml.Unmarshal(content, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Links) != 1 || got.Links[0].Name != "visa-a" || got.Links[0].Dialect != "visa" || got.Links[0].Window != widest {
		t.Errorf("links: %+v", got.Links)
	}
	if len(got.Merchants) != 1 || len(got.Merchants[0].Contracts) != 1 || got.Merchants[0].Contracts[0].Scheme != "visa" {
		t.Errorf("merchants: %+v", got.Merchants)
	}
	if got.API.Listen != "127.0.0.1:1" || got.API.Requests < mostOwed || got.API.Budget <= got.Links[0].AnswerTimeout {
		t.Errorf("door: %+v", got.API)
	}
	for _, other := range []string{"", "links: 7", "[", strings.Replace(devConfig, "visa-a", "visa-b", 1), strings.Replace(devConfig, "scheme: visa", "scheme: jcb", 1)} {
		if _, err := onlyVisa([]byte(other)); !errors.Is(err, errConfig) {
			t.Errorf("%.20q: %v", other, err)
		}
	}
}

func TestProfiled(t *testing.T) {
	content, err := profiled([]byte(devConfig))
	if err != nil || !strings.Contains(string(content), "pprof: true") {
		t.Errorf("%v\n%s", err, content)
	}
	if _, err := profiled([]byte("node: {}")); !errors.Is(err, errConfig) {
		t.Errorf("no admin port: %v", err)
	}
}

func TestSum(t *testing.T) {
	const metrics = "# HELP owed Reversals.\nowed 3\nowed_by_link{link=\"a\"} 4\nowed{link=\"b c\",scheme=\"visa\"} 2.5e1\nowed{x=\"y\"} nonsense\n"
	if got := sum([]byte(metrics), "owed"); got != 28 {
		t.Errorf("%v, want 28", got)
	}
}

func TestWatchEnds(t *testing.T) {
	asked := 0
	if err := watch(t.Context(), time.Minute, "x", func() bool { asked++; return asked == 3 }); err != nil || asked != 3 {
		t.Errorf("%v after %d", err, asked)
	}
	if err := watch(t.Context(), 0, "x", func() bool { return false }); !errors.Is(err, errSlow) {
		t.Errorf("never so: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := watch(ctx, time.Minute, "x", func() bool { return false }); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

func TestStatOf(t *testing.T) {
	if pid, parent := parentOf("/proc/self/stat"); pid != 0 || parent != 0 {
		t.Errorf("not a process's number: %d, %d", pid, parent)
	}
	own := os.Getpid()
	for until := time.Now().Add(30 * time.Second); cpuOf(own) == 0 && time.Now().Before(until); {
		_ = make([]byte, 1<<16) // spend some
	}
	if cpuOf(own) == 0 || statOf(own)[statParent] == "" {
		t.Errorf("of this process: %v, %q", cpuOf(own), statOf(own))
	}
	if cpuOf(1<<30) != 0 {
		t.Error("of a process that is not there")
	}
}

const traces = `File: authswitch
Type: cpu
-----------+-------------------------------------------------------
      30us   runtime.memmove
             authswitch/payment.Copy
             authswitch/link.(*Link).Exchange
             authswitch/switch.(*Switch).Authorize
             authswitch/api.(*Server).handle
-----------+-------------------------------------------------------
      40us   internal/runtime/syscall/linux.Syscall6
             github.com/valyala/fasthttp.(*Server).serveConn
-----------+-------------------------------------------------------
      20us   runtime.futex
             runtime.findRunnable
-----------+-------------------------------------------------------
      10us   github.com/cockroachdb/pebble/v2.(*DB).Apply
             authswitch/linkage.Other
-----------+-------------------------------------------------------
`

func TestShareOut(t *testing.T) {
	got, err := shareOut([]byte(traces))
	if want := map[string]float64{"door": .4, "switch": 0, "codec": 0, "link": .3, "journal": .1, "runtime": .2}; err != nil || !maps.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	for _, other := range []string{"", "File: x\n", "-----------+---\n  xus  runtime.futex\n"} {
		if _, err := shareOut([]byte(other)); !errors.Is(err, errProfile) {
			t.Errorf("%q: %v", other, err)
		}
	}
	if owner("authswitch/linkage.Other") != "" {
		t.Error("a package is not another that its name begins with")
	}
}
