# The verbs of the house. Each works from a fresh clone, and again and again.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

.PHONY: help quickstart install uninstall venv test test-fast lint bench lock transcript clean

help:  ## say what there is
	@sed -n 's/^\([a-z-]*\):.*  ## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

quickstart:  ## install what is missing, start a daemon, run a service, ask it (as root)
	@scripts/install-debian-packages runtime quickstart
	@scripts/venv runtime
	@scripts/quickstart

install:  ## install enxame and enxamed for everyone on this machine (as root)
	@scripts/install-debian-packages runtime quickstart
	@scripts/install

uninstall:  ## undo both: containers end, rules and links go; PURGE=1 removes images, volumes and state, too (as root)
	@scripts/uninstall

venv:  ## make or refresh .venv with all that tests and checks need
	@scripts/venv dev

test: venv  ## run everything that CI runs: lint, then all tests (as root)
	@scripts/install-debian-packages
	@scripts/lint
	@scripts/test all

test-fast: venv  ## lint and unit tests: no root, no containers
	@scripts/lint
	@scripts/test fast

lint: venv  ## ruff, format, types, imports
	@scripts/lint

bench: venv  ## measure enxamed beside dockerd, in one run (as root); BENCH_ARGS="--only enxame --rounds 1"
	@scripts/install-debian-packages
	@.venv/bin/python -m bench $(BENCH_ARGS)

lock:  ## write the lock files anew from pyproject.toml
	@scripts/lock

transcript: venv  ## run the trips of the READMEs and the pages for real and write down what was seen (as root)
	@scripts/install-debian-packages
	@.venv/bin/python scripts/transcript
	@.venv/bin/python scripts/machine-transcript

clean:  ## remove what the verbs above made inside this directory
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
