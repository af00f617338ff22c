# Words that a newcomer needs; `make` alone lists them. POSIX sh only: a bare machine has nothing else.
PYTHON ?= python3
UNITS ?= 50
GATEWAYS ?= 1
DURATION ?=
JSON ?=
ONLY ?=
SEED ?=
SIZE ?=
ARGS ?=

VENV := .venv
READY := $(VENV)/ready
RUN := $(VENV)/bin/python

.DEFAULT_GOAL := help
.PHONY: help setup check test test-timescale test-faults fuzz demo scenarios bench documents

help: ## list these words
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r word meaning; do printf '%-16s %s\n' "$$word" "$$meaning"; done

setup: $(READY) ## make the virtual environment from the hash-pinned requirements

check: $(READY) ## formatting, lint, types and import contracts
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

test: $(READY) ## every test: unit, integration, acceptance, architecture (ARGS="-k word")
	$(RUN) -m pytest $(ARGS)

test-timescale: $(READY) ## unit and integration tests on the server of HELIOGRAPH_TEST_DATABASE_URL
	@test -n "$$HELIOGRAPH_TEST_DATABASE_URL" || { echo 'Name a server: HELIOGRAPH_TEST_DATABASE_URL=postgresql://superuser:password@host:port/postgres make test-timescale' >&2; exit 1; }
	$(RUN) -m pytest tests/unit tests/integration $(ARGS)

fuzz: $(READY) ## search for a message that breaks the reading of messages (needs atheris; DURATION=300)
	$(RUN) -m tests.fuzz.reading $(if $(DURATION),--seconds $(DURATION))

demo: $(READY) ## the whole system with a simulated fleet (UNITS=50 GATEWAYS=2 DURATION=30 JSON=out.json)
	$(RUN) -m deploy.local demo --units $(UNITS) --gateways $(GATEWAYS) $(if $(DURATION),--duration $(DURATION)) $(if $(JSON),--json $(JSON))

scenarios: $(READY) ## play faults against a system of their own (ONLY="lying-ack cloned")
	$(RUN) -m deploy.local scenarios $(ONLY)

bench: $(READY) ## measure, beside the baselines (ONLY=ingest)
	$(RUN) -m bench $(ONLY)

test-faults: $(READY) ## try every promise by kills, cuts and full disks (ONLY="R1 R7" SEED=7 SIZE=short)
	$(RUN) -m tests.nemesis $(ONLY) $(if $(SEED),--seed $(SEED)) $(if $(SIZE),--size $(SIZE))

documents: $(READY) ## write the generated parts of docs/ anew
	$(RUN) -m deploy.documents

$(READY): requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo 'Python 3.11 or newer is needed: type `sudo apt install python3`, or name one with `make PYTHON=python3.11`.' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo 'This Python cannot make virtual environments: type `sudo apt install python3-venv`.' >&2; exit 1; }
	@echo 'Setting up $(VENV); this takes about a minute, once.'
	@$(PYTHON) -m venv --clear $(VENV)
	@$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@
