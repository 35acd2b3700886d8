# The toolchain reads PYTHON to pick another interpreter: make setup PYTHON=python3.13
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: setup up test test-torch prove-budgets check clean

setup: $(STAMP)  ## make the environment in .venv

$(STAMP): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $(STAMP)

up: $(STAMP)  ## run the platform on this machine
	@$(BIN)/stoker up $(ARGS)

test: $(STAMP) check  ## style, types, layers, and every test
	$(BIN)/python -m pytest $(ARGS)

test-torch: $(STAMP)  ## the tests that need torch (the train extra, 1 GB and more)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[train]"
	$(BIN)/python -m pytest -m torch $(ARGS)

prove-budgets: $(STAMP)  ## every state of the model of budgets, at its larger sizes (docs/proofs.md); a quarter of an hour
	$(BIN)/python -m stoker.testing.budget_model --large $(ARGS)

check: $(STAMP)  ## style, types and layers only
	@scripts/check

clean:  ## remove the environment and the caches; keeps .stoker, where your data is
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
