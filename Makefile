# The verbs. Each works from a bare clone and sets up what it needs.
SHELL := /bin/bash
.DEFAULT_GOAL := help
export UV_SYSTEM_CERTS := 1
# A caller's own Python must not leak into the checkout's environments.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME

PYTHON ?= python3
UV := .uv/bin/uv
BIN := .venv/bin
STAMP := .venv/.fairlead-ready

.PHONY: zendesk-app help setup demo demo-cases demo-support test check bench serve lock format clean

help: ## what each verb does
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(UV): requirements/uv.txt
	@bash requirements/bootstrap.sh "$(PYTHON)"

$(STAMP): $(UV) requirements/dev.txt requirements/schemas.txt pyproject.toml
	@[ -x $(BIN)/python ] || $(UV) venv -q --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" .venv
	@$(UV) pip sync -q --python $(BIN)/python --require-hashes requirements/dev.txt requirements/schemas.txt
	@$(UV) pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

setup: $(STAMP) ## install only; afterwards .venv/bin/fairlead works

check: $(STAMP) ## format, lint, types, imports, docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.docs

format: $(STAMP) ## rewrite the code in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

COMPILE := $(UV) pip compile -q --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11
lock: $(UV) ## resolve the pinned, hashed sets again
	$(COMPILE) requirements/dev.in -o requirements/dev.txt
	$(COMPILE) requirements/fairlead.in -c requirements/dev.txt -o requirements/fairlead.txt
	$(COMPILE) requirements/uv.in -o requirements/uv.txt
	$(COMPILE) --no-deps requirements/schemas.in -o requirements/schemas.txt

TOOLENVS := $(CURDIR)/.toolenvs
export FAIRLEAD_TOOLENV_DIR ?= $(TOOLENVS)

demo: $(STAMP) ## the main job on a local AWS: plan, approve, apply, change, verify
	@$(BIN)/fairlead demo --data-dir build/demo --toolenvs "$(FAIRLEAD_TOOLENV_DIR)"

demo-cases: $(STAMP) ## three treatment cases over SSH to verdicts, reports and pictures
	@$(BIN)/fairlead demo-cases --data-dir build/demo-cases

demo-support: $(STAMP) ## the Zendesk app in a real browser, on two customers' accounts
	@$(BIN)/fairlead demo-support --data-dir build/demo-support --toolenvs "$(FAIRLEAD_TOOLENV_DIR)"

test: $(STAMP) ## every test; servers that it needs are started and stopped by the tests
	@$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder

bench: $(STAMP) ## figures, as `name value unit` lines and in build/bench.json
	@$(BIN)/python -m tests.benchmarks

serve: $(STAMP) ## API, worker and a local AWS on loopback
	@$(BIN)/fairlead serve --sandbox

zendesk-app: $(STAMP) ## the package to upload to Zendesk
	@$(BIN)/fairlead support package-app --out build/zendesk-app.zip

clean: ## remove what the other verbs made here
	rm -rf .venv .uv .toolenvs build .mypy_cache .ruff_cache .pytest_cache .hypothesis
