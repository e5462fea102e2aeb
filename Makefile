# Every target that needs a cluster works on the kind cluster $(CLUSTER). CONTRIBUTING.md says how long each takes.
#   CLUSTER=name    another cluster than kvfleet        WORKERS=3      three worker nodes (cluster-up)
#   KUBECONFIG=f    the cluster that load, install and uninstall act on: f's current context
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

CLUSTER ?= kvfleet
KIND_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/kvfleet-kind
export CLUSTER KIND_CACHE
# Tests and the demo use this file alone, whatever KUBECONFIG says: they never touch the user's current context.
OWN_KUBECONFIG := $(KIND_CACHE)/$(CLUSTER).kubeconfig
CARGO_DENY := 0.20.2
# Built quickly rather than to be quick: it runs for a second.
INSTALL := env -u CARGO_TARGET_DIR CARGO_PROFILE_RELEASE_LTO=false CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=1 cargo install --quiet --locked

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' Makefile

.PHONY: build run images
build: ## compile everything (dev profile)
	cargo build --locked --workspace --all-targets
run: ## one node on this machine, with a demo tenant; prints a curl line to paste
	cargo run --locked --quiet -p kvfleet-node --bin kvnode -- --dev
images: ## release images localhost/kvfleet-operator:dev and localhost/kvfleet-node:dev, each under 25 MiB
	@images/build

.PHONY: cluster-up cluster-down load install uninstall
cluster-up: ## a kind cluster, Ready (with Docker as usual; without it, built from source: about 10 min the first time)
	@e2e/cluster/up
cluster-down: ## remove the kind cluster
	@e2e/cluster/down
load: ## put both images on the kind cluster of $KUBECONFIG
	@e2e/cluster/load
install: ## put the chart on the cluster of $KUBECONFIG, and wait until the operator is available
	@e2e/cluster/install
uninstall: ## take the chart off the cluster of $KUBECONFIG; CRDs and data stay
	@e2e/cluster/uninstall

.PHONY: demo
demo: ## cluster, images, chart, examples/quickstart.yaml, a put and a get: everything from nothing
	@KUBECONFIG=$(OWN_KUBECONFIG) $(MAKE) cluster-up images load install
	@KUBECONFIG=$(OWN_KUBECONFIG) e2e/demo

# The operator's `tests/` need an API server and fail without one, so they are left to `integration`; nothing else needs more than loopback.
.PHONY: test unit integration faults upgrade e2e
test: ## every test: unit, simulation, integration, faults, upgrade, e2e; prints how long each took
	@for step in unit test-simulation integration faults upgrade e2e; do from=$$SECONDS; $(MAKE) $$step; echo "== $$step: $$((SECONDS - from)) s"; done
unit: ## tests that need neither network nor cluster
	cargo test --locked --quiet --workspace --exclude kvfleet-e2e --exclude kvfleet-operator
	cargo test --locked --quiet -p kvfleet-operator --lib --bins
	cargo test --locked --quiet -p kvfleet-e2e --lib
integration: ## the operator against a real Kubernetes API server, started for the run
	cargo test --locked --quiet -p kvfleet-operator --test '*' --no-run
	@e2e/cluster/build helm
	@PATH=$(KIND_CACHE)/tools:$$PATH e2e/cluster/api-server run cargo test --locked --quiet -p kvfleet-operator --test '*'
e2e: ## black-box tests on the kind cluster, with freshly built images
	@KUBECONFIG=$(OWN_KUBECONFIG) $(MAKE) cluster-up images load install probe
	@e2e/cluster/run cargo test --locked -p kvfleet-e2e --test e2e --test operator_down --test operator_restart --test uninstall -- --test-threads=4

# Three processes in network namespaces, under faults. Root is needed; the seeds are printed (KVFLEET_SEED repeats one).
FAULTS := cargo test --locked -p kvfleet-e2e --test faults -- --nocapture --test-threads=1
.PHONY: faults test-faults
faults: ## the proof with real processes, a few rounds of each fault (about 5 min)
	cargo build --locked --quiet -p kvfleet-node --bin kvnode
	$(FAULTS)
test-faults: ## the whole proof with real processes: 100 histories, 100 frozen leaders, 50 failovers of each kind, 200 power cuts, 200 damaged files, 10,000 MiB over one key, tenants of 1 and 4 GiB deleted
	cargo build --locked --quiet --release -p kvfleet-node --bin kvnode
	KVNODE_BIN=$${CARGO_TARGET_DIR:-$(CURDIR)/target}/release/kvnode KVFLEET_HISTORIES=100 KVFLEET_PARTITION_SECONDS=30 KVFLEET_FREEZES=100 KVFLEET_GAPS=50 KVFLEET_CUTS=200 KVFLEET_CORRUPTIONS=200 KVFLEET_OVERWRITES=10000 KVFLEET_AWAY_SECONDS=60 KVFLEET_DELETIONS=1 $(FAULTS)

# Two versions in one group: e2e/upgrade-from names the program before. KVFLEET_SEED repeats a round.
UPGRADE := cargo test --locked -p kvfleet-e2e --test upgrade -- --nocapture --test-threads=1
.PHONY: upgrade test-upgrade
upgrade: ## the program before and this one mixed in one group, one round (about 90 s)
	cargo build --locked --quiet -p kvfleet-node --bin kvnode
	$(UPGRADE)
test-upgrade: ## the same in 20 rounds of 2 min with both programs (about 70 min); ROUNDS=n SECONDS=n: others
	cargo build --locked --quiet --release -p kvfleet-node --bin kvnode
	KVNODE_BIN=$${CARGO_TARGET_DIR:-$(CURDIR)/target}/release/kvnode KVFLEET_UPGRADES=$(or $(ROUNDS),20) KVFLEET_MIXED_SECONDS=$(or $(SECONDS),120) $(UPGRADE)

# tokio's scheduling can be seeded under this cfg alone, so the simulation has a build of its own.
.PHONY: test-simulation
test-simulation: ## clusters on a simulated machine: SEEDS=2000 tries that many (60), SEED=7 replays one
	RUSTFLAGS='--cfg tokio_unstable' CARGO_PROFILE_DEV_OPT_LEVEL=1 cargo test --locked --quiet -p kvfleet-node --lib --target-dir $${CARGO_TARGET_DIR:-target}/simulation simulation -- --nocapture

.PHONY: probe
probe:
	@images/build probe
	@e2e/cluster/load localhost/kvfleet-probe:dev

.PHONY: test-mutations
test-mutations: ## breaks the code in each way of e2e/mutations and expects the named test to fail (MUTANTS='name …' for some)
	@cargo run --locked --quiet -p kvfleet-e2e --bin mutations -- $(MUTANTS)

# Whatever else runs on the machine is in the figures. The cargo benches go first: they need the disk to themselves.
BUILT = $(or $(CARGO_TARGET_DIR),target)
.PHONY: bench bench-failover
bench: ## kvfleet and etcd under one load, the log against raw fdatasync, point reads: tables, and target/bench.json (about 25 min)
	@e2e/cluster/build etcd
	cargo build --locked --release -p kvfleet-node --bin kvnode
	cargo build --locked --release -p kvfleet-e2e --bin kvbench
	@mkdir -p target
	cargo bench --locked -p kvfleet-node --bench log -- $(abspath $(BUILT)) --json $(abspath target/bench-log.json)
	cargo bench --locked -p kvfleet-node --bench reads -- $(abspath $(BUILT)) --json $(abspath target/bench-reads.json)
	$(BUILT)/release/kvbench all --log target/bench-log.json --point-reads target/bench-reads.json --output target/bench.json
bench-failover: ## the gap in writes when the primary's pod is deleted, and when its process is killed (about 10 min)
	@KUBECONFIG=$(OWN_KUBECONFIG) $(MAKE) cluster-up images load install probe
	@e2e/cluster/run cargo run --locked --quiet -p kvfleet-e2e --bin failover

.PHONY: verify fix
verify: ## format, lints, import rules, docs, generated files, chart: reads only
	cargo fmt --all --check
	cargo clippy --locked --quiet --workspace --all-targets -- -D warnings
	cargo run --locked --quiet -p kvfleet-e2e --bin mutations -- --check
	@cargo deny --version 2> /dev/null | grep -qF " $(CARGO_DENY)" || { echo "installing cargo-deny $(CARGO_DENY) (about 4 min on 2 cores)"; $(INSTALL) cargo-deny@$(CARGO_DENY); }
	cargo deny --locked --log-level error check bans licenses sources
	@! cargo tree --locked -p kvfleet-crds -e normal | grep 'kube-client' || { echo "error: crds pulls in a Kubernetes client: take kube with the feature derive only"; exit 1; }
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --quiet --workspace --no-deps
	cargo run --locked --quiet -p kvfleet-crds --bin crdgen -- --check
	@e2e/cluster/build helm
	PATH=$(KIND_CACHE)/tools:$$PATH helm lint --quiet --strict charts/kvfleet
fix: ## format, apply lint fixes, write generated files
	cargo run --locked --quiet -p kvfleet-crds --bin crdgen -- --write
	cargo clippy --quiet --workspace --all-targets --fix --allow-dirty --allow-staged
	cargo fmt --all
