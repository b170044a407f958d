# What a bare machine needs: Python 3.11 or newer, Rust (https://rustup.rs) and a C compiler. The rest lands in .venv/.

PYTHON ?= python3
ARGS ?=

BIN := .venv/bin
STAMPS := .venv/stamps
INSTALL := $(BIN)/python -m pip --disable-pip-version-check install
DEVELOP := $(BIN)/maturin develop --locked --extras grpc,image,sklearn
NATIVE_SOURCES := $(shell find native -name '*.rs' -not -path '*/target/*') \
	$(wildcard Cargo.toml Cargo.lock native/*/Cargo.toml)
MODULE := src/servable/_native.abi3.so

# One interpreter for every Rust build: another one would make PyO3, and all that stands on it, compile again.
export PYO3_PYTHON := $(CURDIR)/$(BIN)/python
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_REQUIRE_VIRTUALENV := true

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-12s %s\n", $$1, $$2 }'

.PHONY: run
run: $(STAMPS)/release ## the quickstart: train, save, serve, swap, roll back
	$(BIN)/python examples/quickstart/quickstart.py $(ARGS)

.PHONY: test
test: test-rust test-python ## all tests; ARGS="-k name" chooses among those in Python

.PHONY: test-rust
test-rust: $(STAMPS)/venv
	cargo test --locked --package dataplane

.PHONY: test-python
test-python: $(STAMPS)/release $(STAMPS)/test
	$(BIN)/python -m pytest $(ARGS)

.PHONY: lint
lint: $(STAMPS)/release $(STAMPS)/test $(STAMPS)/lint ## formats, lints, types, layers, licences
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	MYPYPATH=src $(BIN)/stubtest servable._native
	$(BIN)/lint-imports
	$(BIN)/hadolint deploy/container/Dockerfile
	$(BIN)/shellcheck deploy/container/*.sh .ci/run
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	$(BIN)/cargo-deny --log-level warn --workspace --locked check bans licenses sources

.PHONY: advisories
advisories: $(STAMPS)/lint ## known faults in dependencies (fetches the list of RustSec)
	$(BIN)/cargo-deny --workspace --locked check advisories

.PHONY: format
format: $(STAMPS)/lint ## brings the code into the form that lint asks for
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	cargo fmt --all

.PHONY: bench
bench: $(STAMPS)/release $(STAMPS)/test $(STAMPS)/bench ## measurements; needs wrk, nginx and nghttp2 (bench/README.md)
	$(BIN)/python -m bench $(or $(ARGS),run all)

.PHONY: docs
docs: $(STAMPS)/release $(STAMPS)/docs ## the documentation as a site, in site/
	$(BIN)/python docs/generate.py
	$(BIN)/zensical build --clean --strict

.PHONY: wheel
wheel: $(STAMPS)/build ## the wheel that users install, in dist/
	$(BIN)/maturin build --release --locked --out dist

.PHONY: dev
dev: $(STAMPS)/build $(STAMPS)/test $(STAMPS)/lint ## the native module in its fast-to-build profile, for work on it
	$(DEVELOP)
	rm -f $(STAMPS)/release

.PHONY: lock
lock: ## writes constraints.txt anew, with the newest versions that fit together
	$(PYTHON) tools/lock.py

.PHONY: clean
clean: ## removes what was built; the virtual environment stays
	cargo clean
	rm -rf dist site build $(MODULE) $(STAMPS)/release .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Stamps: a file for each step that takes long, newer than what the step was made from.

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'Python 3.11 or newer is needed: make PYTHON=/path/to/python3' >&2; exit 1; }
	@command -v cargo >/dev/null || { echo 'Rust is needed: https://rustup.rs' >&2; exit 1; }
	@command -v cc >/dev/null || { echo 'A C compiler is needed, e.g. apt install gcc' >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(INSTALL) --quiet --upgrade pip
	mkdir -p $(STAMPS) && touch $@

GROUPS := build test lint docs bench
$(GROUPS:%=$(STAMPS)/%): $(STAMPS)/%: $(STAMPS)/venv pyproject.toml constraints.txt
	$(INSTALL) --group $*
	touch $@

# Installs what the package needs, too.
$(STAMPS)/release: $(STAMPS)/build $(NATIVE_SOURCES)
	$(DEVELOP) --release
	touch $@
