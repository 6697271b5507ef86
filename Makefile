# `make demo` and `make test` do all their own set-up in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
# What builds the package is pinned too, by the name that older pips know and the one that newer ones do.
PIP := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt $(BIN)/python -m pip

.PHONY: demo test test-machines types lint wheel docs coverage bench-quick clean

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q -c constraints.txt torch
	$(PIP) install -q -c constraints.txt -e '.[test]'
	touch $@

# What only some targets need: .venv/.ready-docs is there when the extra `docs` is.
$(STAMP)-%: $(STAMP)
	$(PIP) install -q -c constraints.txt -e '.[test,$*]'
	touch $@

demo: $(STAMP)
	$(BIN)/python -m bench.demo -o demo

test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

# Under settings that stand in for other machines, with one thread and with two (bench/machines.py): eight times.
test-machines: $(STAMP)
	$(BIN)/python -m bench.machines $(BIN)/python -m bench.demo -o demo
	$(BIN)/python -m bench.machines $(BIN)/python -m pytest -n auto --dist loadfile

types: $(STAMP)
	$(BIN)/pyright --pythonpath $(BIN)/python

# The reference of the packages, from their docstrings: docs/api/index.html.
docs: $(STAMP)-docs
	$(BIN)/python -m docs.reference

# What the tests of `make test` reach: a table here, line by line in htmlcov/index.html.
coverage: $(STAMP)-coverage
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --cov --cov-report term --cov-report html

bench-quick: $(STAMP)
	$(BIN)/python -m bench.quick -o bench-quick

lint: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: $(STAMP)
	$(BIN)/python -m build --wheel

clean:
	rm -rf $(VENV) build dist demo bench-quick docs/api htmlcov .coverage* *.egg-info
