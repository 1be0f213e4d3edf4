# `make app` opens the workbench, `make lesson` teaches the bundled model a language; `make test` runs the tests. Each sets up what it needs, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help setup app screenshots lesson notebooks notebooks-test test lint format benchmark clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.ready  ## make .venv with everything in it

# A CPU build of torch where there is no GPU: the default build brings gigabytes of CUDA.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, e.g. make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt "torch==$$(sed -n 's/^torch==//p' constraints.txt)" $(TORCH_INDEX)
	$(BIN)/python -m pip install --quiet -c constraints.txt --editable ".[test]"
	@touch $@

app: setup  ## open the workbench in the browser, on the bundled model
	$(BIN)/workbench app

lesson: setup  ## teach the bundled model a language it has never seen, and see what changed
	$(BIN)/workbench teach sample_data/zorbic.jsonl --beside-sft

test: setup  ## lint, types and tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --numprocesses=2 --no-loadscope-reorder  # tests/conftest.py says why

lint: setup  ## lint and types only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

notebooks: setup  ## open the course of notebooks in Jupyter
	$(BIN)/python -m pip install --quiet -c constraints.txt --editable ".[notebooks]"
	$(BIN)/jupyter trust notebooks/*.ipynb  # else the stored token maps are shown without their colours
	$(BIN)/jupyter lab notebooks

notebooks-test: setup  ## run every notebook from top to bottom, with its assertions and solutions
	$(BIN)/python notebooks/build.py --test

screenshots: setup  ## picture every page of the workbench; needs chromium
	$(BIN)/python docs/screenshots.py docs/pages

benchmark: setup  ## the figures of the README
	$(BIN)/python benchmarks/against_trl.py
	$(BIN)/python benchmarks/lesson.py

clean:  ## remove .venv and caches; runs are left alone
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
