PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTEST := $(BIN)/pytest -q -n 2 --dist worksteal --durations 25
LOCK = $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
  --no-annotate --all-extras $(LOCKFLAGS) pyproject.toml
BENCHES = $(filter-out bench/_%,$(wildcard bench/*.py))

.DEFAULT_GOAL := help
.PHONY: help setup servers demo test test-fast lint chaos bench lock clean

help:  ## list what can be done here
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(READY)  ## make .venv with everything locked and checked by hash; PYTHON=... picks the interpreter

$(READY): requirements.lock pyproject.toml scripts/setup.sh scripts/common.sh
	@scripts/setup.sh "$(PYTHON)" $(VENV) && touch $@

servers:  ## install RabbitMQ, PostgreSQL, SoftHSM and Azurite where they are missing; tests start their own
	@scripts/servers.sh

demo: setup  ## the whole story in a temporary home, with real mail
	@$(BIN)/twinlock demo

test: setup servers  ## every test
	@$(PYTEST)

test-fast: setup  ## the tests that need no other process: unit, conformance, vectors
	@$(PYTEST) -m 'not servers' tests/unit tests/conformance tests/vectors

lint: setup  ## style, types, direction of imports, docstrings of tests
	@$(BIN)/ruff check -q .
	@$(BIN)/ruff format -q --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/interrogate tests

chaos: setup servers  ## a fleet under faults, 8 to 10 minutes; SEED= repeats a run, MINUTES= is how long faults go on
	@$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES))

bench: setup servers  ## every benchmark, one after the other
	@set -e; for script in $(BENCHES); do echo "== $$script"; $(BIN)/python $$script; done

lock: setup  ## write the lock files again; LOCKFLAGS=--upgrade takes newer versions
	@$(LOCK) --group dev -o requirements.lock
	@$(LOCK) --group build --constraint requirements.lock -o requirements-image.lock

clean:  ## remove .venv, caches and built files
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .servers dist build
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
