# What people type. Each target works from a fresh clone, as root or as an ordinary user, and may be run twice.
# The longer scripts are in tools/.

.DEFAULT_GOAL := help
.PHONY: help demo check test storm soak faults bench bench-proxy install release

PREFIX ?= /usr/local
DESTDIR ?=
BINARY = $(or $(CARGO_TARGET_DIR),target)/release/tanist

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

demo: ## a cluster of three on this machine: load, switchover, a crash, a lost node, a verdict
	@tools/install demo
	@$(MAKE) --no-print-directory release
	$(BINARY) demo $(ARGS)

check: ## format, lints, house rules, pure tests; no root, no network, nothing installed
	@tools/check

test: ## all that CI runs: installs what the tests need, then check, then real servers
	@tools/install test
	@tools/test

storm: ## whole clusters by chance, a fixed set of seeds (SEEDS=1..5001)
	cargo run --locked --release --quiet --package sim -- --seeds $(or $(SEEDS),1..5001)

soak: ## what takes too long for `make test`: storms for HOURS=n, and conformance on PostgreSQL 16, 17 and 18
	@tools/soak $(or $(HOURS),1)
	@tools/install test
	@tools/conformance

bench: ## every figure of docs/benchmarks.md, beside Patroni in the same run (hours; BENCH="--help" for less)
	@tools/install bench
	@$(MAKE) --no-print-directory release
	@BENCH='$(BENCH)' bench/run --binary $(BINARY) $(BENCH)

bench-proxy: ## every figure of docs/proxy-benchmarks.md, beside PgBouncer and HAProxy (half an hour; BENCH="--help" for less)
	@tools/install proxy
	@$(MAKE) --no-print-directory release
	@PROXY_BENCH_COMMAND='make bench-proxy$(if $(BENCH), BENCH="$(BENCH)")' bench/proxy --binary $(BINARY) $(BENCH)

faults: ## every fault on a real cluster, written to docs/fault-matrix.md; goes on where it was (root, hours; ARGS="--only link")
	@tools/install test
	@$(MAKE) --no-print-directory release
	$(BINARY) faults --state docs/fault-matrix.jsonl --table docs/fault-matrix.md --commit "$$(git describe --always --dirty)" $(ARGS)

install: release ## put the binary into $(PREFIX)/bin
	install -D -m 755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/tanist

release:
	cargo build --locked --release --package cli
