PYTHON ?= python3
BIN := .venv/bin

# Commands of ours find the packages that the Airflow plugins folder holds
export PYTHONPATH := $(CURDIR)/plugins

.DEFAULT_GOAL := help
.PHONY: help setup demo up down status test test-unit check-ledger bench bench-%: setup ## measure one thing: bench-hive, bench-api, bench-runs, bench-collect
	@$(BIN)/python -m tools.stack run -- $(BIN)/python -m tools.bench $*

faults: setup ## kill each part 20 times while events are under way; writes docs/faults.md
	@$(BIN)/python -m tools.stack run -- $(BIN)/pytest tests/faults -s --rounds 20 --record docs/faults.md $(ARGS)

lint: setup ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: setup ## let ruff format and fix
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lock: setup ## compile requirements*.in; ARGS=--upgrade takes newer versions
	$(BIN)/uv pip compile $(LOCK) requirements.in -o requirements.txt $(ARGS)
	$(BIN)/uv pip compile $(LOCK) requirements-dev.in -o requirements-dev.txt $(ARGS)

LOCK := --quiet --python-version 3.11 --no-header --no-emit-index-url --no-emit-find-links
