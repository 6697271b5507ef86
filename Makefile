# `make demo` and `make test` do all their own set-up in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
# What builds the package is pinned too, by the name that older pips know and the one that newer ones do.
PIP := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt $(BIN)/python -m pip

.PHONY: demo test test-machines lint wheel bench-quick clean

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q -c constraints.txt torch
	$(PIP) install -q -c constraints.txt -e '.[test]'
	touch $@

demo: $(STAMP)
	$(BIN)/python -m bench.demo -o demo

test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

# Under settings that stand in for other machines, with one thread and with two (bench/machines.py): eight times.
test-machines: $(STAMP)
	$(BIN)/python -m bench.machines $(BIN)/python -m bench.demo -o demo
	$(BIN)/python -m bench.machines $(BIN)/python -m pytest -n auto --dist loadfile

bench-quick: $(STAMP)
	$(BIN)/python -m bench.quick -o bench-quick

lint: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: $(STAMP)
	$(BIN)/python -m build --wheel

clean:
	rm -rf $(VENV) build dist demo bench-quick *.egg-info
