PYTHON ?= python3
BIN := .venv/bin
AUDIT := yes

# The package event_hooks is in the plugins folder of Airflow
export PYTHONPATH := $(CURDIR)/plugins

.DEFAULT_GOAL := help
.PHONY: help setup demo up down status test test-unit test-mysql test-compose screenshots check-ledger bench faults docs reference lint format lock

help: ## list these verbs
	@sed -n 's/^\([a-z%-]*\):.*## /\1\t/p' Makefile | expand -t 12

setup: ## install what is missing: system packages and .venv
	@PYTHON=$(PYTHON) tools/setup.sh

demo: up ## set up, start, and show an event from its arrival to its report
	@$(BIN)/python -m tools.demo

up: setup ## start servers, practice hive and Airflow; idempotent
	@$(BIN)/python -m tools.stack up

down: ## stop everything that `make up` started; the data stays in .stack/
	@$(BIN)/python -m tools.stack down

status: ## show what runs, the web address and its password
	@$(BIN)/python -m tools.stack status

test: setup ## all tests, or those of ARGS; starts the servers if necessary
	@$(BIN)/python -m tools.stack run -- $(BIN)/pytest $(RESULTS) $(or $(ARGS),$(ALL_TESTS))

RESULTS := --junitxml=.stack/test-results.xml
# More processes than cores: tests of the running Airflow mostly wait (tests/support/scheduling.py)
ALL_TESTS := -n 4 tests

test-unit: setup ## the tests that need no server
	@$(BIN)/pytest -n 2 tests/unit $(ARGS)

test-compose: setup ## as root: run docker-compose.yaml on a Docker Engine, kill each container; writes docs/compose.md
	@[ "$$(id -u)" = 0 ] || { echo "make test-compose starts a Docker Engine, which needs root" >&2; exit 2; }
	@{ command -v debootstrap && command -v dockerd && command -v docker && command -v iptables; } >/dev/null || \
		{ apt-get -qq update && apt-get -qq install --yes debootstrap docker.io iptables; }
	@$(BIN)/python -m tools.compose

screenshots: up ## make the pictures of the documentation; writes docs/images
	@$(BIN)/python -m tools.screenshots

check-ledger: setup ## compare the ledger of `make up` with hives and reports; ARGS="--hours 48"
	@test -e .stack/env || { echo "Nothing runs here: make up" >&2; exit 2; }
	@. .stack/env && $(BIN)/python -m event_hooks.maintain_ledger.consistency $(ARGS)

bench: setup ## measure everything (35 minutes); writes docs/performance.md
	@$(BIN)/python -m tools.stack run -- $(BIN)/python -m tools.bench

bench-%: setup ## measure one thing: bench-hive, -api, -workers, -runs, -waiting, -collect, -ledger
	@$(BIN)/python -m tools.stack run -- $(BIN)/python -m tools.bench $*

bench-compare: setup ## the working tree against the commit REV, alternating; ARGS="--pairs 9 --parts api"
	@$(BIN)/python -m tools.stack run -- $(BIN)/python -m tools.bench.compare $(or $(REV),HEAD) $(ARGS)

test-mysql: setup ## as root: install MySQL of Debian unstable, and run the tests on it; writes docs/mysql.md
	@[ "$$(id -u)" = 0 ] || { echo "make test-mysql installs MySQL with debootstrap, which needs root" >&2; exit 2; }
	@command -v debootstrap >/dev/null || { apt-get -qq update && apt-get -qq install --yes debootstrap; }
	@$(BIN)/python -m tools.mysql $(ARGS)

faults: setup ## kill each part 20 times, and change everything at random, while events run; writes docs/faults.md
	@$(BIN)/python -m tools.stack run -- $(BIN)/pytest $(FAULTS) -s --rounds 20 --record docs/faults.md $(ARGS)

FAULTS := tests/faults/test_kills.py tests/faults/test_random_changes.py tests/faults/test_slow_stops.py \
	tests/faults/test_broker_outage.py --executor local \
	tests/system/test_deleting.py::test_a_deleted_dag_is_created_again_and_waits_for_the_same_job

docs: setup ## build the documentation site into .stack/site; an invalid link is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "To read it: $(BIN)/python -m http.server --directory .stack/site 8000"

reference: setup ## write the generated parts of docs/reference/
	@$(BIN)/python -m tools.reference

lint: setup ## ruff, mypy, layers, prose, links of the docs, secrets, and an audit of requirements.txt (AUDIT=no leaves that out)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tools.style_check
	$(MAKE) --no-print-directory docs
	git ls-files -z | xargs -0 $(BIN)/detect-secrets-hook --baseline .secrets.baseline
	test $(AUDIT) = no || timeout 300 $(BIN)/pip-audit --strict --require-hashes --disable-pip -r requirements.txt

format: setup ## format and fix with ruff
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lock: setup ## compile requirements*.in; ARGS=--upgrade takes newer versions
	$(BIN)/uv pip compile $(LOCK) requirements.in -o requirements.txt $(ARGS)
	$(BIN)/uv pip compile $(LOCK) requirements-dev.in -o requirements-dev.txt $(ARGS)

LOCK := --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links
