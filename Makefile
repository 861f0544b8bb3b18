# Everything a person or CI needs, from a bare clone with only Python >= 3.11.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Two threads by default: what a small machine has, and what all committed figures were measured with.
export OMP_NUM_THREADS ?= 2

.PHONY: install demo test lint bench wheel clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "fallow needs Python 3.11 or newer: set PYTHON=/path/to/python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[offline,test]'
	touch $@

demo: install
	$(BIN)/fallow demo

lint: install
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# A process for each core, with one thread each: two that spin for the same core are many times slower.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

# Resumable per cell: finished cells are kept in benchmarks/results and skipped.
bench: install
	$(BIN)/python benchmarks/run.py all

wheel: install
	$(BIN)/python -m pip install --quiet hatchling
	$(BIN)/python -m hatchling build -t wheel

clean:
	rm -rf dist build .mypy_cache .ruff_cache .pytest_cache
