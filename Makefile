# Two commands: `make run` and `make test`. Each makes on a fresh checkout whatever it needs.
# PYTHON=/path/to/python3 chooses the interpreter that the environment is made with.

PYTHON ?= python3
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
CHECKED := $(wildcard src tests tools bench)
export PYTHON
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help run test setup agents check-agents lint types fmt bench clean

help:
	@echo "make run    start Holdfast here and open a first thread on the scripted agent"
	@echo "make test   every check and every test, with the pinned real agent programs"

run: setup
	@$(BIN)/python tools/demo.py

test: setup check-agents lint types
	@$(BIN)/python -m pytest -n 2 --dist loadgroup --strict-run --inline-snapshot=disable

# What the two commands stand on; stamp files make a repeated call instant.

setup: .venv/.installed
	@:

.venv/.installed: pyproject.toml requirements/constraints.txt
	@tools/need.sh python venv git
	@[ -x $(BIN)/python ] || "$$PYTHON" -m venv .venv
	@echo "installing Holdfast and its test tools into .venv"
	@$(BIN)/python -m pip install --quiet -c requirements/constraints.txt hatchling editables
	@$(BIN)/python -m pip install --quiet -c requirements/constraints.txt --no-build-isolation -e '.[test]'
	@touch $@

agents: .agents/.installed
	@:

.agents/.installed: tests/agents.lock.json tools/agents.py | .venv/.installed
	@tools/need.sh npm
	@$(BIN)/python tools/agents.py install
	@touch $@

check-agents: agents
	@$(BIN)/python tools/agents.py check

lint: setup
	@$(BIN)/ruff check --quiet $(CHECKED)
	@$(BIN)/ruff format --check --quiet $(CHECKED) || \
		{ echo "the files above are not formatted; run make fmt" >&2; exit 1; }
	@$(BIN)/python tools/reference.py --check

types: setup
	@$(BIN)/mypy $(CHECKED)

fmt: setup
	@$(BIN)/ruff check --quiet --fix $(CHECKED) || true
	@$(BIN)/ruff format $(CHECKED)

bench: agents
	@$(BIN)/python -m bench

clean:
	rm -rf .venv .agents .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
