# The toolchain reads PYTHON to pick another interpreter: make setup PYTHON=python3.13
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
# Some images set it; then each of thousands of processes compiles what it loads.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup up test test-long test-torch test-clients test-helm test-schema prove-budgets prove-commits chaos chaos-agents test-train test-images test-render test-simulate test-terraform test-checkov test-deploy check clean

setup: $(STAMP)  ## make the environment in .venv

$(STAMP): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $(STAMP)

up: $(STAMP)  ## run the platform on this machine
	@$(BIN)/stoker up $(ARGS)

TORCH := .venv/.torch

# Apart from what `make up` needs, since torch is large; and at once, where there is no environment yet. What pip compiles
# one file after the other takes two minutes; so it is done here, on all cores.
$(TORCH): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -e ".[dev,train,traintests]"
	@$(BIN)/python -m compileall -q -j 0 .venv/lib > /dev/null 2>&1 || true
	@touch $(STAMP) $(TORCH)

# One process more than there are cores: some of them always wait for what they have started.
SPREAD = -n $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1) --dist loadfile --no-loadscope-reorder

test: $(TORCH)  ## style, types, layers, and every test
	@scripts/system-packages
	@scripts/helm --try
	@$(MAKE) --no-print-directory -j 2 check compiled
	$(BIN)/python -m pytest $(SPREAD) $(ARGS)

# Once, and not by each process of the tests and of the platforms that they start. What cannot be loaded is said by `test`.
.PHONY: compiled
compiled: $(TORCH)
	@$(BIN)/python -m compileall -q src
	@$(BIN)/python -m pytest --collect-only -qq > /dev/null 2>&1 || true

TEST_EXAMPLES ?= 3
test-long: $(TORCH)  ## every test, each property with TEST_EXAMPLES times as many examples as in make test
	TEST_EXAMPLES=$(TEST_EXAMPLES) $(BIN)/python -m pytest $(SPREAD) $(ARGS)

test-torch: $(TORCH)  ## the tests of training alone
	$(BIN)/python -m pytest -m torch $(ARGS)

CLIENTS := .clients/.installed

$(CLIENTS): scripts/clients
	@scripts/clients $(PYTHON)
	@touch $(CLIENTS)

test-clients: $(STAMP) $(CLIENTS)  ## other people's clients against a real platform (needs node; some 450 MB in .clients)
	$(BIN)/python -m pytest -m clients tests/clients $(ARGS)

test-helm: $(STAMP)  ## real Helm (the SDK of Helm 4) installs and upgrades charts in a stand-in for a cluster (Python 3.12; 135 MB in .helm)
	@scripts/helm
	$(BIN)/python -m pytest -m "helm or not helm" tests/deploy/test_chart_helm.py $(ARGS)

SCHEMA_SECONDS ?= 240
test-schema: $(STAMP)  ## is the OpenAPI document true? schemathesis against a real platform, twice SCHEMA_SECONDS
	$(BIN)/python benchmarks/gateway/schema.py --seconds $(SCHEMA_SECONDS) $(ARGS)

SEEDS ?= 1 2 3
SECONDS ?= 60
chaos: $(STAMP)  ## budgets while gateways, Redis, the engine and clients die: make chaos SEEDS="1 2 3" SECONDS=60
	CHAOS_SEEDS="$(SEEDS)" CHAOS_SECONDS=$(SECONDS) $(BIN)/python -m pytest tests/flow/test_budget_chaos.py -s $(ARGS)

AGENT_RUNS ?= 500
chaos-agents: $(STAMP)  ## AGENT_RUNS runs of agents while a worker is killed each second, and $$1 that many spend at once
	$(BIN)/python benchmarks/agents/chaos.py --runs $(AGENT_RUNS) $(ARGS)
	$(BIN)/python benchmarks/agents/budget.py

prove-budgets: $(STAMP)  ## every state of the model of budgets, at its larger sizes (docs/proofs.md); some 20 minutes
	$(BIN)/python tests/queue/budget_model.py --large $(ARGS)

prove-commits: $(STAMP)  ## every interleaving of the model of commits, at its larger sizes (docs/training/checkpoints.md)
	$(BIN)/python tests/registry/commit_world.py --large $(ARGS)

CORRUPTIONS ?= 10000
KILLS ?= 100
test-train: $(TORCH)  ## is a run that is killed the same run (KILLS runs), is any damage silent (CORRUPTIONS damages)? 10 minutes
	COMPILE=1 KILLS=$(KILLS) CORRUPTIONS=$(CORRUPTIONS) $(BIN)/python -m pytest $(SPREAD) tests/train tests/registry $(ARGS)

RENDER_CASES ?= 1000
ifndef RENDER_SEED
RENDER_SEED := $(strip $(shell od -An -N3 -tu4 /dev/urandom))
endif
test-render: $(STAMP)  ## is any spec rendered whole? RENDER_CASES specs of the seed RENDER_SEED; some 15 minutes
	@echo "make test-render RENDER_CASES=$(RENDER_CASES) RENDER_SEED=$(RENDER_SEED)"
	RENDER_CASES=$(RENDER_CASES) $(BIN)/python -m pytest tests/render/test_render_whole.py -k TestAnySpec \
		--hypothesis-seed=$(RENDER_SEED) $(ARGS)

SIMULATE_CASES ?= 1000
ifndef SIMULATE_SEED
SIMULATE_SEED := $(strip $(shell od -An -N3 -tu4 /dev/urandom))
endif
test-simulate: $(STAMP)  ## what holds of any run: SIMULATE_CASES clusters of the seed SIMULATE_SEED; a minute
	@echo "make test-simulate SIMULATE_CASES=$(SIMULATE_CASES) SIMULATE_SEED=$(SIMULATE_SEED)"
	SIMULATE_CASES=$(SIMULATE_CASES) $(BIN)/python -m pytest tests/simulate/test_whole.py -k TestAnyCluster \
		--hypothesis-seed=$(SIMULATE_SEED) $(ARGS)

test-terraform: $(STAMP)  ## is the root module valid in every mode, and made and taken away whole against moto? needs terraform; 20 minutes
	$(BIN)/python -m pytest -m terraform tests/deploy $(ARGS)

CHECKOV := .checkov/.installed

$(CHECKOV):
	$(PYTHON) -m venv .checkov
	.checkov/bin/python -m pip install --quiet --disable-pip-version-check checkov==3.3.30
	@touch $(CHECKOV)

test-checkov: $(STAMP) $(CHECKOV)  ## what does checkov find in the root module? (some 300 MB in .checkov)
	$(BIN)/python scripts/checkov_root.py

test-images:  ## are the images what docs/deploy/images.md says? 10 minutes; builds two of them where buildah is (root)
	@scripts/test-images $(PYTHON)

test-deploy: $(STAMP)  ## a deploy that is ended at each call and goes on; the three walk-throughs with real Terraform; 30 minutes
	WALKS=1 DEPLOY_EVERY=1 $(BIN)/python -m pytest tests/deploy/test_deploying.py tests/deploy/test_destroying.py \
		tests/deploy/test_from_nothing.py tests/deploy/test_walks.py $(ARGS)

check: $(STAMP)  ## style, types and layers only
	@scripts/check

clean:  ## remove the environment and the caches; keeps .stoker, where your data is
	rm -rf .venv .clients .helm .checkov .images .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
