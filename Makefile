# Everything runs in .venv; the second run installs nothing.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: help report test lint types check lab bench clean
help: ## show this
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or later is needed; give one with: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]" -c constraints.txt
	@touch $@

report: $(STAMP) ## ingest the bundled corpora, execute the notebooks, write reports/index.html
	$(BIN)/rag-lab report

test: $(STAMP) ## run the tests
	$(BIN)/python -m pytest -n auto

lint: $(STAMP) ## ruff: rules and format, notebooks too
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## mypy, strict
	$(BIN)/mypy

check: lint types test ## all of the above checks

lab: $(STAMP) ## open JupyterLab on the notebooks
	$(BIN)/jupyter lab notebooks

bench: $(STAMP) ## measure retrieval quality on every corpus that is here
	$(BIN)/rag-lab bench quality

clean: ## remove the environment and what was made
	rm -rf $(VENV) reports runs
