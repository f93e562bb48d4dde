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
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

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
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop --quiet --release
	touch $@

.PHONY: install
install: $(VENV)/.built  ## make .venv and build meshcore into it (release mode)

.PHONY: build
build: install  ## the same as install

.PHONY: demo
demo: install  ## a small mesh with services, shown live; DEMO_SECONDS=10 ends by itself
	$(BIN)/python -m meshcore.demo

.PHONY: lock
lock: | need-python  ## renew requirements.lock with the newest versions that pyproject.toml allows
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
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	$(BIN)/ruff format --check python tests benches examples
	$(BIN)/ruff check python tests benches examples
	$(BIN)/mypy python tests examples benches/load benches/python benches/workers benches/bars.py
	$(BIN)/python -m mypy.stubtest meshcore._core

.PHONY: test-rust
test-rust: | need-rust
	cargo test --package meshcore-core --quiet

# Preemptions are bounded as CHESS does (Musuvathi et al. 2008): three find what is found.
.PHONY: loom
loom: | need-rust  ## every interleaving of two threads on the words of admission, balance and the segment
	RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/loom LOOM_MAX_PREEMPTIONS=3 \
	  cargo test --package meshcore-core --quiet --test loom_admission --test loom_balance --test loom_segment

# The pinned toolchain with its unstable flags: the address sanitizer is one. What a run finds
# is kept in rust/fuzz/artifacts.
FUZZ_TARGETS := split forward edge path configuration h2_server h2_client proxy_protocol tls
FUZZ_SECONDS ?= 60
FUZZ_CORPUS := $(CARGO_TARGET_DIR)/fuzz-corpus
TOOLS := $(CARGO_TARGET_DIR)/tools
$(TOOLS)/bin/cargo-fuzz: | need-rust
	cargo install --quiet --locked --root $(TOOLS) --version 0.13.2 cargo-fuzz
.PHONY: fuzz
fuzz: $(TOOLS)/bin/cargo-fuzz  ## feed the core what nobody meant; FUZZ_SECONDS=60 for each target
	@command -v c++ >/dev/null || { echo "missing: a C++ compiler (Debian: apt-get install g++)"; exit 1; }
	cd rust/fuzz && for target in $(FUZZ_TARGETS); do \
	  mkdir -p $(FUZZ_CORPUS)/$$target; \
	  RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/fuzz PATH=$(TOOLS)/bin:$$PATH \
	  cargo fuzz run --fuzz-dir . $$target $(FUZZ_CORPUS)/$$target ../../tests/data -- \
	    -dict=http.dict -max_len=65536 -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1; done

# Tests mostly wait for time to pass, so several do so at once; those that fill the machine run one
# by one.
.PHONY: test-python
test-python: install
	$(BIN)/pytest -n 6 --ignore tests/process
	$(BIN)/pytest -n 3 -m 'not alone' tests/process
	$(BIN)/pytest -m alone tests/process

.PHONY: soak
soak: install  ## 2,000 requests/s while the program is reloaded, killed and upgraded (a minute or two)
	MESHCORE_SOAK=1 $(BIN)/pytest -s tests/process/test_under_load.py

.PHONY: hammer
hammer: install  ## kill processes that share words wherever they are; HAMMER_SECONDS=60
	HAMMER_SECONDS=$${HAMMER_SECONDS:-60} $(BIN)/pytest -q tests/process/test_hammer.py

.PHONY: chained
chained: install  ## random requests through two proxies in a row; CHAINED_SECONDS=60, CHAINED_SEED repeats
	CHAINED_SECONDS=$${CHAINED_SECONDS:-60} $(BIN)/pytest -q -s tests/process/test_chained.py

.PHONY: points
points: install  ## connections that close at every point beside 10,000 that stay; POINTS_SECONDS=60, POINTS_SEED repeats
	POINTS_SECONDS=$${POINTS_SECONDS:-60} POINTS_HELD=$${POINTS_HELD:-10000} \
	  $(BIN)/pytest -q -s tests/process/test_every_point.py

.PHONY: conformance
conformance: install  ## outside material: vectors, smuggling advisories, h2spec, gRPC interop (needs Go)
	$(BIN)/pytest -q tests/unit/codec tests/wire/test_smuggling.py
	$(BIN)/python -m tests.conformance --tools $(TOOLS) h2spec
	$(BIN)/python -m tests.conformance --tools $(TOOLS) grpc

.PHONY: conformance-websocket
conformance-websocket: install  ## Autobahn's 517 cases, directly and through meshcore, with HTTP/1.1 and HTTP/2 (40 minutes)
	$(BIN)/python -m tests.conformance --tools $(TOOLS) autobahn --over http1
	$(BIN)/python -m tests.conformance --tools $(TOOLS) autobahn --over h2

.PHONY: test
test: lint test-rust loom test-python  ## everything that must be green

.PHONY: bench
bench: install  ## the core and its calls beside other libraries, and the bars; BENCH_ARGS=--quick
	cargo bench --package meshcore-core -- $(BENCH_ARGS)
	$(BIN)/python -m benches.bars $(CARGO_TARGET_DIR)

.PHONY: bench-load
bench-load: install  ## meshcore beside HAProxy, nginx and Envoy; BENCH_ARGS="--rounds 3 --seconds 2"
	@for tool in wrk h2load:nghttp2-client nghttpd:nghttp2-server haproxy nginx:nginx-light openssl; do \
	  command -v $${tool%%:*} >/dev/null || PATH=$$PATH:/usr/sbin command -v $${tool%%:*} >/dev/null \
	  || { echo "missing: $${tool%%:*} (Debian: apt-get install $${tool##*:})"; exit 1; }; done
	$(BIN)/pip install --quiet --group load
	PATH=$$PATH:/usr/sbin $(BIN)/python -m benches.load $(BENCH_ARGS)

.PHONY: bench-against
bench-against: install  ## this tree beside another checkout; BASE=../base BENCH_ARGS="--rounds 8"
	@for tool in wrk h2load:nghttp2-client nghttpd:nghttp2-server nginx:nginx-light openssl; do \
	  command -v $${tool%%:*} >/dev/null || PATH=$$PATH:/usr/sbin command -v $${tool%%:*} >/dev/null \
	  || { echo "missing: $${tool%%:*} (Debian: apt-get install $${tool##*:})"; exit 1; }; done
	@test -x "$(BASE)/.venv/bin/python" \
	  || { echo "missing: BASE=PATH, a checkout in which make install was run"; exit 1; }
	PATH=$$PATH:/usr/sbin $(BIN)/python -m benches.load.against $(BASE) $(BENCH_ARGS)

.PHONY: profile
profile: install  ## where the CPU of a request goes: parts, functions, calls; BENCH_ARGS="--only plain grpc"
	@for tool in perf:linux-perf wrk h2load:nghttp2-client nghttpd:nghttp2-server nginx:nginx-light openssl; do \
	  command -v $${tool%%:*} >/dev/null || PATH=$$PATH:/usr/sbin command -v $${tool%%:*} >/dev/null \
	  || { echo "missing: $${tool%%:*} (Debian: apt-get install $${tool##*:})"; exit 1; }; done
	PATH=$$PATH:/usr/sbin $(BIN)/python -m benches.load.profile $(BENCH_ARGS)

.PHONY: bench-workers
bench-workers: install  ## what several workers and changes under load cost; BENCH_ARGS="--rounds 3"
	@PATH=$$PATH:/usr/sbin command -v nginx >/dev/null \
	  || { echo "missing: nginx (Debian: apt-get install nginx-light)"; exit 1; }
	PATH=$$PATH:/usr/sbin $(BIN)/python -m benches.workers $(BENCH_ARGS)

.PHONY: wheel
wheel: $(VENV)/.stamp | need-rust  ## a wheel in dist/, tried in an empty venv
	rm -rf dist build/wheel
	$(BIN)/maturin build --quiet --release --out dist
	$(PYTHON) -m venv build/wheel
	build/wheel/bin/pip install --quiet dist/meshcore-*.whl
	cd build && wheel/bin/meshcore version && wheel/bin/python -P -m meshcore schema >/dev/null
	@ls dist/*.whl

.PHONY: clean
clean:  ## remove what was built
	rm -rf $(VENV) target dist build
