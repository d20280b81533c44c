# `make run` and `make test` are all that a fresh Debian or Ubuntu machine needs; without make: `./run` and `./test`.

.DEFAULT_GOAL := help
TARGET := $(or $(CARGO_TARGET_DIR),target)

# Servers to test with: this machine's own, or `latest` (MySQL 9, Valkey, RabbitMQ 4), or a folder.
ENGINES :=
export IM_ENGINES := $(ENGINES)

.PHONY: help run env test fuzz-api lint check-deploy check-balancer fmt sdk load chaos clusters rolling dist bench bench-check

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 8

run: ## everything up, with a demo conversation; stays until Ctrl-C (ARGS="--port 9000 …"); DOCKER=1: with Docker Compose
	@exec ./run $(if $(DOCKER),--docker) $(ARGS)

env: ## .env with random secrets for Docker Compose, unless it exists
	deploy/compose/make-env

test: ## all tests, on real servers that are started for them (ENGINES=latest: on MySQL 9, Valkey and RabbitMQ 4)
	@exec ./test $(ARGS)

EXAMPLES := 100

fuzz-api: ## calls generated from docs/api/openapi.yaml against a real gateway; needs python3 (EXAMPLES=500, for each call)
	EXAMPLES=$(EXAMPLES) .ci/fuzz-api

lint: ## formatting, clippy, licenses, sources and advisories of all dependencies, and the rules of Prometheus
	cargo fmt --check
	cargo clippy --workspace --all-targets -- -D warnings
	.ci/deny
	.ci/rules

check-deploy: ## Dockerfile, Compose, HAProxy, Kubernetes and workflows, without starting them
	.ci/deploy

check-balancer: ## HAProxy in front of real gateways: a drain under load and more, in 90 seconds (needs haproxy and dnsmasq)
	cargo build --workspace --bins
	IM_BIN_DIR=$(TARGET)/debug deploy/haproxy/check

fmt: ## format everything
	cargo fmt

sdk: ## the TypeScript SDK: lint, unit tests, size and shape of the package (needs Node.js 20; `make test` has its tests on gateways)
	cd clients/typescript && npm ci && npm run -s lint && npm test && npm run -s check

load: ## a burst of 20,000 messages, measured and judged (ARGS="--groups 10 …")
	cargo build --release --bins
	$(TARGET)/release/loadtest burst --install $(ARGS)

chaos: ## a random mix of faults under load, judged (ARGS="--seed 7 --minutes 10", "--fault kill-rabbitmq", "--list")
	cargo build --release --bins
	$(TARGET)/release/loadtest chaos --install $(ARGS)

clusters: ## servers of clusters are lost under load, judged, with a table (ARGS="--only redis-cluster"); 15 minutes
	cargo build --release --bins
	$(TARGET)/release/loadtest clusters --install $(ARGS)

PREVIOUS := HEAD~1
EARLIER := $(TARGET)/earlier

rolling: ## the gateway and the worker of an earlier commit run beside this one's and are replaced (PREVIOUS=HEAD~5)
	rm -rf $(EARLIER) && mkdir -p $(EARLIER)/source $(EARLIER)/bin
	git archive $(PREVIOUS) | tar -x -C $(EARLIER)/source
	# In the same folder, for the sake of the libraries that both have; this one's programs come back right after.
	CARGO_TARGET_DIR=$(abspath $(TARGET)) cargo build --manifest-path $(EARLIER)/source/Cargo.toml --workspace --bins
	cp $(TARGET)/debug/gateway $(TARGET)/debug/worker $(EARLIER)/bin/
	cargo build --workspace --bins --tests
	IM_PREVIOUS_BIN_DIR=$(abspath $(EARLIER)/bin) \
		cargo test --workspace --test e2e_chaos an_earlier_version -- --nocapture

dist: ## tarball, .deb, checksums and bill of materials in target/dist (BIN_DIR=target/release: of programs that are built already)
	BIN_DIR=$(BIN_DIR) deploy/dist

bench: ## time of the pure parts of a message's way
	cargo bench -p bench

bench-check: ## instructions of the hot functions, against those that are stored (needs valgrind)
	cargo build --release --workspace --bins
	$(TARGET)/release/instructions check bench/instructions.json
