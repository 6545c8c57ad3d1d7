PYTHON ?= python3
BIN := .venv/bin
AUDIT := yes

# Commands of ours find the packages that the Airflow plugins folder holds
export PYTHONPATH := $(CURDIR)/plugins

.DEFAULT_GOAL := help
.PHONY: help setup demo up down status test test-unit check-ledger bench faults lint format lock

help: ## list these verbs
	@sed -n 's/^\([a-z%-]*\):.*## /\1\t/p' Makefile | expand -t 12

setup: ## install what is missing: system packages and .venv
	@PYTHON=$(PYTHON) tools/setup.sh

demo: up ## set up, start, and show an event from its arrival to its report
	@$(BIN)/python -m tools.demo

up: setup ## start servers, practice hive and Airflow; harmless when they run
	@$(BIN)/python -m tools.stack up

down: ## end all that `make up` started; data stays in .stack/
	@$(BIN)/python -m tools.stack down

status: ## show what runs, the web address and its password
	@$(BIN)/python -m tools.stack status

test: setup ## all tests, or those of ARGS; starts the servers for them if need be
	@$(BIN)/python -m tools.stack run -- sh -c '$(or $(and $(ARGS),$(BIN)/pytest $(ARGS)),$(ALL_TESTS))'

# Two at a time what needs no Airflow, then what measures times, then all that one Airflow is for
WITHOUT_AIRFLOW := tests/integration tests/dags tests/unit
ALL_TESTS := bad=0; \
	$(BIN)/pytest -n 2 --dist worksteal -m "not alone" $(WITHOUT_AIRFLOW) || bad=1; \
	$(BIN)/pytest -m alone $(WITHOUT_AIRFLOW) || bad=1; \
	$(BIN)/pytest tests/distributed tests/faults tests/system || bad=1; \
	exit $$bad

test-unit: setup ## the tests that need no server
	@$(BIN)/pytest tests/unit $(ARGS)

check-ledger: setup ## compare the ledger of `make up` with hives and reports; ARGS="--hours 48"
	@test -e .stack/env || { echo "Nothing runs here: make up" >&2; exit 2; }
	@. .stack/env && $(BIN)/python -m event_hooks.consistency $(ARGS)

bench: setup ## measure everything (25 minutes); writes docs/performance.md
	@$(BIN)/python -m tools.stack run -- $(BIN)/python -m tools.bench

bench-%: setup ## measure one thing: bench-hive, bench-api, bench-runs, bench-collect
	@$(BIN)/python -m tools.stack run -- $(BIN)/python -m tools.bench $*

faults: setup ## kill each part 20 times while events are under way; writes docs/faults.md
	@$(BIN)/python -m tools.stack run -- $(BIN)/pytest tests/faults -s --rounds 20 --record docs/faults.md $(ARGS)

lint: setup ## ruff, mypy, a scan for secrets, and an audit of requirements.txt (AUDIT=no leaves that out)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	git ls-files -z | xargs -0 $(BIN)/detect-secrets-hook --baseline .secrets.baseline
	test $(AUDIT) = no || timeout 300 $(BIN)/pip-audit --strict --no-deps --disable-pip -r requirements.txt

format: setup ## let ruff format and fix
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lock: setup ## compile requirements*.in; ARGS=--upgrade takes newer versions
	$(BIN)/uv pip compile $(LOCK) requirements.in -o requirements.txt $(ARGS)
	$(BIN)/uv pip compile $(LOCK) requirements-dev.in -o requirements-dev.txt $(ARGS)

LOCK := --quiet --python-version 3.11 --no-header --no-emit-index-url --no-emit-find-links
