# Everything to try, test and check ollamad from a checkout. It keeps to .venv; `make` alone lists what there is.

PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
SAY := printf '\033[1m•\033[0m %s\n'

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help run test test-systemd check clean lock dist environment bench bench-supervision bench-sync bench-live bench-routing
.PHONY: bench-relay bench-relay-many bench-relay-leaks bench-relay-failover bench-relay-overload bench-status soak fuzz
.PHONY: attacks mutation
MAKEFLAGS += --no-print-directory

help:
	@echo 'make run     try it: ollamad in front of a real Ollama, downloaded if there is none (ARGS="--help" for more)'
	@echo 'make test    everything that must hold: the checks, then the tests (ARGS="-k word" for some of them)'
	@echo 'make test-systemd        the service, under a real systemd and a newer one; as root'
	@echo 'make check   the checks alone: ruff, mypy, import-linter'
	@echo 'make bench-supervision   what supervision costs, and how fast a dead child is back'
	@echo 'make bench-sync          what it takes to give a model to eight stores, beside cp'
	@echo 'make bench-live          simulated GPUs behind real nginx and behind ollamad, side by side'
	@echo 'make bench-routing       routing beside what nginx does, in virtual time (ARGS="half --seed 2")'
	@echo 'make bench-relay         what a streamed chunk and a request cost, beside nginx, HAProxy and plain aiohttp'
	@echo 'make bench-relay-many    5,000 streams at once; -leaks: 100,000 clients that leave; -failover: a child killed'
	@echo 'make bench-relay-overload    ten times what the children can take'
	@echo 'make bench-status        what 2,000 looks a second and 50 dashboards cost, and whether 500 streams feel it'
	@echo 'make bench   all of these and the soak, 50 minutes, into docs/BENCHMARKS.md (ARGS="--quick --only relay")'
	@echo 'make soak    a real and a simulated fleet under load, a fault every few seconds, watched (MINUTES=30)'
	@echo 'make fuzz    a million fuzzed requests: no crash, no hang, no growth (ARGS="--requests 50000 --seed 2")'
	@echo 'make mutation   whether the tests of the pure rooms notice a change: ten minutes (ARGS="ollamad.routing.room.*")'
	@echo 'make attacks what strangers try, and what each gets: the table of docs/SECURITY.md'
	@echo 'make dist    the wheel and the source archive, in dist/'
	@echo 'make lock    constraints.txt anew: the newest versions that pyproject.toml allows; run the tests with them'
	@echo 'make clean   delete .venv and the caches of this checkout'
	@echo
	@echo 'PYTHON=...   the Python, 3.11 or newer, to make .venv with; now: $(PYTHON)'

run: environment
	@$(MAKE) -s $(VENV)/.installed
	@exec $(BIN)/ollamad demo --real $(ARGS)

# All of it goes to workers, for half of it waits. Each has a PID namespace of its own: an ollamad that starts ends what
# dead ones have left behind, and would spoil the tests of just that in another worker. Where there can't be one (it
# takes root), and for some of the tests, it is one process.
WORKERS ?= 2
APART := unshare --pid --fork --kill-child --mount-proc
PARALLEL := --dist=loadscope --tx '$(WORKERS)*popen//python=$(APART) $(CURDIR)/$(BIN)/python'
test: check
	@$(SAY) pytest
	@$(BIN)/pytest $(or $(ARGS),$(if $(shell $(APART) true 2>/dev/null && echo can),$(PARALLEL)))

# Boots two systemds, this machine's and a newer one of Debian's backports; needs root. `make test` boots the first.
test-systemd: environment
	@$(MAKE) -s $(VENV)/.installed-dev
	@NEWER_SYSTEMD=1 $(BIN)/pytest tests/systemd tests/unit/systemd $(ARGS)

check: environment
	@$(MAKE) -s $(VENV)/.installed-dev
	@$(SAY) 'ruff check'
	@$(BIN)/ruff check --quiet .
	@$(SAY) 'ruff format --check'
	@$(BIN)/ruff format --quiet --check . || { $(BIN)/ruff format --diff .; exit 1; }
	@$(SAY) mypy
	@$(BIN)/mypy --no-error-summary
	@$(SAY) lint-imports
	@told=$$($(BIN)/lint-imports --no-logo 2>&1) || { echo "$$told"; exit 1; }

# Beside real peers, in one run; ARGS="--quick --json FILE". nginx and HAProxy come out of Debian's archive, unpacked
# into the cache of the demo: nothing is installed, and it needs no root.
bench-supervision:
	@$(MAKE) -s bench PART=supervision
bench-sync:
	@$(MAKE) -s bench PART=sync
bench-status:
	@$(MAKE) -s bench PART=status
bench-live:
	@$(MAKE) -s bench PART=live_routing
bench-routing:
	@$(MAKE) -s bench PART=routing
bench-relay:
	@$(MAKE) -s bench PART=relay.compare
bench-relay-many:
	@$(MAKE) -s bench PART=relay.many
bench-relay-leaks:
	@$(MAKE) -s bench PART=relay.leaks
bench-relay-failover:
	@$(MAKE) -s bench PART=relay.failover
bench-relay-overload:
	@$(MAKE) -s bench PART=relay.overload
fuzz:
	@$(MAKE) -s bench PART=abuse.fuzz
attacks:
	@$(MAKE) -s bench PART=abuse.attacks
MINUTES ?= 30
soak:
	@$(MAKE) -s bench PART=soak ARGS="--minutes $(MINUTES) $(ARGS)"
# Not among what the tests need: it is large, and nobody needs it every day. Without ARGS it begins anew.
MUTMUT := mutmut==3.8.1
TOLD := import json; n = json.load(open("mutants/mutmut-cicd-stats.json")); \
	good, bad = n["killed"] + n["timeout"], n["survived"] + n["no_tests"]; \
	print("noticed %d of %d: %.1f %%" % (good, good + bad, 100 * good / (good + bad)))
mutation: environment
	@$(MAKE) -s $(VENV)/.installed-dev
	@$(BIN)/python -c 'import mutmut' 2>/dev/null || { $(SAY) 'installing $(MUTMUT)'; $(PIP) '$(MUTMUT)'; }
	@$(if $(ARGS),,rm -rf mutants)
	@$(BIN)/mutmut run $(ARGS)
	@$(BIN)/mutmut export-cicd-stats >/dev/null && $(BIN)/python -c '$(TOLD)'

PART ?= report
bench: environment
	@$(MAKE) -s $(VENV)/.installed-dev
	@$(BIN)/python -m bench.$(PART) $(ARGS)

dist: environment
	@$(MAKE) -s $(VENV)/.installed-dev
	@rm -rf dist
	@$(BIN)/python -m build --no-isolation --outdir dist >/dev/null
	@ls -1 dist/*

# Of all that a fresh environment gets, so that CI tests today what it tested yesterday.
LOCK_HEAD := \# Every package that ollamad and its tests are installed with, exactly. Drawn by `make lock`; pyproject.toml says why each.
lock:
	@$(SAY) 'resolving in an environment of its own'
	@rm -rf $(VENV)-lock && $(PYTHON) -m venv $(VENV)-lock
	@$(VENV)-lock/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@{ echo '$(LOCK_HEAD)'; $(VENV)-lock/bin/python -m pip freeze --exclude-editable; } > constraints.txt
	@rm -rf $(VENV)-lock

clean:
	@$(SAY) 'deleting $(VENV) and the caches'
	@rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache mutants
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: newer than the files that they were installed from.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(SAY) 'installing ollamad into $(VENV)'
	@$(PIP) --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt
	@$(SAY) 'installing ollamad and what its tests need into $(VENV)'
	@$(PIP) --editable '.[dev]'
	@touch $(VENV)/.installed $@

# A sound .venv: one that an interrupted run left half made has no pip, and one of a removed Python doesn't start.
# Made anew, it has no stamps; that is why the targets above look at these only afterwards, in a make of their own.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
FAIL := { printf '%s\n' "$$why" >&2; exit 1; }
INSTALL := sudo apt-get install python3-venv (Debian, Ubuntu), or name another: make PYTHON=/path/to/python3.11

environment:
	@$(BIN)/python -c 'import pip; $(NEW_ENOUGH)' 2>/dev/null && exit 0; \
	if [ "$$CI" = true ] && [ "$$(id -u)" = 0 ] && [ -e /etc/debian_version ]; then \
	  $(PYTHON) -c 'import ensurepip' 2>/dev/null || { $(SAY) 'installing python3-venv'; export DEBIAN_FRONTEND=noninteractive; \
	  apt-get -qq update && apt-get -qq install --yes python3-venv >/dev/null; }; fi; \
	why='no Python runs here as $(PYTHON): $(INSTALL)'; $(PYTHON) -c '' 2>/dev/null || $(FAIL); \
	why='$(PYTHON) is older than 3.11: make PYTHON=/path/to/python3.11'; $(PYTHON) -c '$(NEW_ENOUGH)' || $(FAIL); \
	why='$(PYTHON) lacks ensurepip and venv: $(INSTALL)'; $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || $(FAIL); \
	$(SAY) 'making $(VENV)'; \
	$(PYTHON) -m venv --clear $(VENV)
