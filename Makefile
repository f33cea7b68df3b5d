.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash

BIN := .venv/bin
READY := .venv/.ready
PEERS := .bench-venv/.ready
JOBS ?= 2
# Tests that share a fixture follow each other: a worker begins with a half of them, and takes from the other at the
# end, where by default both would make it.
WORKERS := -n $(JOBS) --dist worksteal

# The first interpreter that is new enough; `make setup PYTHON=...` names another.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

.PHONY: help
help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

.PHONY: setup
setup: $(READY)  ## Make .venv with everything in requirements.lock, from nothing but Python 3.11+

# setuptools goes first: one dependency is built from source, and it, too, must use a hashed builder.
# The lock is complete (pip check says so): resolving it again, pip 23.2 takes newer releases for extras.
$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "vfcompare needs Python 3.11 or newer; try: make setup PYTHON=/path/to/python3"; exit 2; }
	$(PYTHON) -m venv .venv
	awk '/^[a-z]/ {keep = /^setuptools==/} keep' requirements.lock > .venv/builder.lock
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r .venv/builder.lock
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps --no-build-isolation -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	$(BIN)/python -m pip check --quiet
	@touch $@

.PHONY: compare
compare: $(READY)  ## Train the matched agents and write runs/compare/report (a few minutes)
	$(BIN)/vfcompare -m +study=compare hydra/launcher=joblib hydra.launcher.n_jobs=$(JOBS)
	$(BIN)/vfcompare report runs/compare

.PHONY: report
report: $(READY)  ## Write the report of a study again: make report STUDY=compare
	$(BIN)/vfcompare report runs/$(or $(STUDY),compare)

.PHONY: test
test: $(READY)  ## Run the fast tests
	$(BIN)/python -m pytest -q $(WORKERS) -m "not slow"

.PHONY: test-cluster
test-cluster: $(READY)  ## Run studies on a private SLURM; skipped, with the reason, where there is none
	$(BIN)/python -m pytest -q -rs -n $(JOBS) -m slow tests/test_cluster.py

.PHONY: test-survival
test-survival: $(READY)  ## Run the most telling kills, interrupts, rivals, full disks and devices
	$(BIN)/python -m pytest -q -rs $(WORKERS) -m essential tests/test_survival.py

.PHONY: test-slow
test-slow: $(READY)  ## Run the slow tests: statistics, learning, packaging
	$(BIN)/python -m pytest -q -n $(JOBS) -m slow

.PHONY: latex
latex: $(READY)  ## Compile a paper with every exported table and figure; needs pdflatex
	@command -v pdflatex > /dev/null || { echo "pdflatex is missing; on Debian: \
	apt-get install texlive-latex-base texlive-latex-recommended"; exit 2; }
	$(BIN)/python -m pytest -q tests/test_latex.py

.PHONY: coverage
coverage: $(READY)  ## Run the fast tests and show branch coverage
	$(BIN)/python -m pytest -q -n $(JOBS) -m "not slow" --cov --cov-report=term-missing:skip-covered

.PHONY: check
check: $(READY)  ## Check formatting, lint and types
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

.PHONY: format
format: $(READY)  ## Format the code and apply the linter's safe fixes
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

.PHONY: bench
bench: $(READY) $(PEERS)  ## Compare speed with rejax and Stable-Baselines3 on this machine
	$(BIN)/python -m benchmarks.speed

$(PEERS): benchmarks/peers/requirements.txt
	$(PYTHON) -m venv .bench-venv
	.bench-venv/bin/python -m pip install --quiet -r benchmarks/peers/requirements.txt
	@touch $@

.PHONY: bench-tokens
bench-tokens: $(READY) .trl-venv/.ready  ## Compare speed on tokens with TRL on this machine
	$(BIN)/python -m benchmarks.tokens

.trl-venv/.ready: benchmarks/peers/requirements-trl.txt
	$(PYTHON) -m venv .trl-venv
	.trl-venv/bin/python -m pip install --quiet -r benchmarks/peers/requirements-trl.txt
	@touch $@

.PHONY: reproduce
reproduce: $(READY)  ## Train what others have published, and print the table of the README
	$(BIN)/python benchmarks/reproduce.py

.PHONY: wheel
wheel: $(READY)  ## Build the wheel into dist/
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

.PHONY: lock
lock: $(READY)  ## Resolve requirements.lock anew, for every supported Python
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 \
		--extra dev --extra slurm --extra joblib --extra tune --upgrade pyproject.toml --output-file requirements.lock

.PHONY: clean
clean:  ## Remove caches and build products; results in runs/ stay
	rm -rf build dist htmlcov .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -path './.*venv' -prune -o -name __pycache__ -type d -exec rm -rf {} +
