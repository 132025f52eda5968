.DEFAULT_GOAL := help
PY := .venv/bin/python

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.ready  ## a .venv with the bulkrate command in it, from nothing but python3

.venv/.ready: pyproject.toml uv.lock
	python3 -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check uv
	.venv/bin/uv sync --frozen --all-extras --compile-bytecode --quiet
	@touch .venv/.ready

demo: setup  ## a table of support tickets, labelled by a real model on this machine
	@.venv/bin/python examples/tickets/demo.py

test: setup  ## the test suite (six and a half minutes on two cores)
	.venv/bin/pytest -n 3 --dist worksteal

lint: setup  ## ruff, mypy --strict, import directions, file lengths
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache
	.venv/bin/python tests/file_length.py

format: setup  ## apply ruff's format and safe fixes
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

soak: setup  ## each kill in turn, 5,000 runs in virtual time, 200 really killed, the planted bugs
	.venv/bin/python -m pytest -m soak
	.venv/bin/python tests/soak/soak.py --runs 5000 --real 200 --planted --seed 1

bench: setup  ## measure the budgets as ratios against plain loops
	.venv/bin/python bench/run.py

.PHONY: help setup demo test lint format bench soak
