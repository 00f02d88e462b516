# authswitch: `make help` lists what there is.

GO        ?= go
BIN       := bin
SOURCES   := $(shell find . -name '*.go' -not -path './bench/peers/*' -not -path './api/client/*' -not -path './tools/*' 2>/dev/null) $(shell find iso8583/dialects routing api -type f 2>/dev/null)
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS   := -s -w -X main.version=$(VERSION)
FUZZTIME  ?= 5m
DIALECT   ?= .
CLUSTERLOG ?= $(CURDIR)/docs/runs/cluster.jsonl
export GOTOOLCHAIN = local

.DEFAULT_GOAL := help

help: ## show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what a bare Debian machine with Go lacks, and fetch the modules
	@bash scripts/setup

build: $(BIN)/authswitch hsmd ## build bin/authswitch (static, no cgo) and bin/hsmd (PKCS#11: needs a C compiler)

# Without a C compiler there is a switch and no security module: said, and failed.
hsmd:
	@command -v $${CC:-cc} >/dev/null || { echo "bin/hsmd is not built: its PKCS#11 library needs a C compiler; make setup installs one (bin/authswitch is there)" >&2; exit 1; }
	@$(MAKE) --no-print-directory $(BIN)/hsmd

$(BIN)/hsmd: $(SOURCES) go.mod go.sum
	CGO_ENABLED=1 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $@ ./cmd/hsmd

$(BIN)/authswitch: $(SOURCES) go.mod go.sum
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $@ ./cmd/authswitch

demo: setup build ## run a node and its acquirers; prints a key and a curl to paste
	$(BIN)/authswitch dev

test: setup build ## every test, with the race detector
	@bash scripts/test

check: ## quick: format, vet, build, short tests without the race detector
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "gofmt is needed on:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(GO) test -short ./...

lint: ## golangci-lint, pinned in tools/go.mod (about 3 minutes to build, once)
	$(GO) build -modfile=tools/go.mod -o $(BIN)/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	$(BIN)/golangci-lint run ./...

fuzz: ## fuzz every parser, FUZZTIME each (5m)
	@bash scripts/fuzz $(FUZZTIME)

differential: ## our codec against moov's: a million random and 200,000 mutated messages per dialect (DIALECT=name: one)
	$(GO) test ./iso8583 -run "Differential/$(DIALECT)" -count=1 -timeout 6h -v -differential.random=1000000 -differential.mutated=200000

client: ## write again the Go client of api/openapi.yaml
	cd api/client && $(GO) generate ./...

docs: ## write again what is generated from the sources: docs/limits.md
	$(GO) run ./internal/limits

bench: build ## measure the table of docs/performance.md (17 minutes, a quiet machine); writes bench/results.json, that page and the README
	@bash scripts/bench

soak-keys: build ## 20 rounds of key rotations (local master, zone PIN, MAC, data) under 1,000 authorizations/s, each verified
	AUTHSWITCH_BIN=$(CURDIR)/bin/authswitch HSMD_BIN=$(CURDIR)/bin/hsmd $(GO) test ./cmd/authswitch -run TestRotationUnderLoad -count=1 -timeout 2h -v -rotate.rounds=20

soak: build ## ROUNDS (50) rounds of kill -9 under 1,000 authorizations/s, each verified; then soak-keys
	$(GO) test ./cmd/authswitch -run TestKillUnderLoad -count=1 -timeout 6h -v -soak.rounds=$(or $(ROUNDS),50)
	@$(MAKE) --no-print-directory soak-keys

.PHONY: simulation
simulation: ## the core under a seeded event heap: SEEDS=from:count (1:1000000), resumed where docs/runs/simulation.log ends
	$(GO) test -c -o $(BIN)/simulation.test ./internal/simulation
	$(BIN)/simulation.test -test.run '^TestSeeds$$' -test.v -test.timeout 0 -seeds $(or $(SEEDS),1:1000000) -seedlog $(CURDIR)/docs/runs/simulation.log -commit $(VERSION)

.PHONY: bubble
bubble: ## the real cluster in fake time, 5 minutes a seed: SEEDS=from:count (1:5000), resumed where docs/runs/bubble.log ends
	$(GO) test -c -o $(BIN)/bubble.test ./store/bubble
	$(BIN)/bubble.test -test.run '^TestBubble$$' -test.v -test.timeout 0 -active 5m -gateways 2 -seeds $(or $(SEEDS),1:5000) -seedlog $(CURDIR)/docs/runs/bubble.log -commit $(VERSION)

.PHONY: bubble-replay
bubble-replay: ## seeds of the bubble three times each, bit for bit the same, on a Go with a fixed schedule: SEEDS=from:count (1:50), resumed where docs/runs/replay.log ends
	$(GO) run ./internal/replay -active $(or $(ACTIVE),5m) -seeds $(or $(SEEDS),1:50) -log $(CURDIR)/docs/runs/replay.log -commit $(VERSION)

.PHONY: mutants runs
mutants: ## every deliberate break of the core, each noticed within 200 seeds (half an hour)
	$(GO) test ./internal/mutants -count=1 -all -v -timeout 6h -mutantlog $(CURDIR)/docs/runs/mutants.log -commit $(VERSION)

runs: ## write what docs/runs says was run into docs/testing.md
	$(GO) run ./internal/runs

CLUSTERSOAK = AUTHSWITCH_BIN=$(CURDIR)/bin/authswitch HSMD_BIN=$(CURDIR)/bin/hsmd $(GO) test ./cmd/authswitch -run TestClusterUnderLoad -count=1 -timeout 24h -v -cluster.log=$(CLUSTERLOG) -cluster.commit=$(VERSION) -cluster.keep=$(CURDIR)/$(BIN)/soak

.PHONY: soak-cluster
soak-cluster: build ## FOR (1h) of faults on three nodes under RATE (1000) authorizations/s, twelve a round, each round verified; adds to CLUSTERLOG and goes on where that ends
	$(CLUSTERSOAK) -cluster.rounds=$(or $(ROUNDS),1000) -cluster.for=$(or $(FOR),1h) -cluster.rate=$(or $(RATE),1000) -cluster.fault='$(FAULT)' -cluster.faults=$(or $(FAULTS),12) $(if $(SEED),-cluster.seed=$(SEED)) -cluster.powercuts=$(if $(filter 0,$(shell id -u)),true,false)

.PHONY: soak-upgrade
soak-upgrade: build ## ROUNDS (3) rolling upgrades under load, from the program of commit OLD, whose journal is a version older, to this one; adds to CLUSTERLOG
	@bash scripts/program-of $(or $(OLD),9b364b1) $(BIN)/authswitch.old
	$(CLUSTERSOAK) -cluster.rounds=$(or $(ROUNDS),3) -cluster.rate=$(or $(RATE),500) -cluster.fault='upgrade all' -cluster.fresh=1 -cluster.old=$(CURDIR)/$(BIN)/authswitch.old

.PHONY: package
package: build ## dist/authswitch_VERSION_ARCH.deb: both programs, their units, their users (nfpm, pinned in tools/package)
	@mkdir -p dist
	cd tools/package && $(GO) build -o ../../$(BIN)/nfpm github.com/goreleaser/nfpm/v2/cmd/nfpm
	ARCH=$(shell $(GO) env GOARCH) VERSION=0.0.0+$(VERSION) $(BIN)/nfpm package --config deploy/debian/nfpm.yaml --packager deb --target dist/

clean: ## remove what was built
	rm -rf $(BIN) dist

.PHONY: client help setup build hsmd demo test check lint fuzz differential docs bench soak soak-keys clean
