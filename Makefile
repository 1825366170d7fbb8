# make demo | test | test-all | test-arm | test-web | test-clients | lint | clean; the environment is built on first use.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ROOTS := dareq_edge export runtime tests examples
# One process per core, each with one thread of its own: several pools on the same cores only wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto
NODE_CLIENTS := examples/clients/node

.PHONY: demo test test-all test-arm test-web test-clients lint format clean

demo: $(STAMP)
	$(BIN)/dareq-edge demo

# The same inputs on every run, so that a change is judged by what it changed; test-all draws new ones.
test: $(STAMP)
	$(PYTEST) --hypothesis-profile=ci

test-all: $(STAMP)
	$(PYTEST) -m "not network and not arm and not web and not clients"

# The next three are skipped, and say why, where what they need cannot be had; with DAREQ_REQUIRE_ARM=1 (_WEB, _CLIENTS)
# they fail there.
test-arm: $(STAMP)
	$(PYTEST) -m arm tests/arm

test-web: $(STAMP)
	$(BIN)/python -m pytest -m web tests/web

test-clients: $(STAMP)
	if command -v npm > /dev/null; then npm --prefix $(NODE_CLIENTS) ci; fi
	$(PYTEST) -m clients tests/clients

lint: $(STAMP)
	$(BIN)/ruff check $(ROOTS)
	$(BIN)/ruff format --check $(ROOTS)
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix $(ROOTS)
	$(BIN)/ruff format $(ROOTS)

# The stamp comes last: an install that failed is tried again, one that worked is not.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -e ".[dev]" -c constraints.txt
	touch $(STAMP)

clean:
	rm -rf $(VENV) build dist out *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	rm -rf runtime/web/node_modules runtime/web/vendor $(NODE_CLIENTS)/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
