# What a person types; `.ci/run` and the Dockerfile use the same targets.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO_DIR ?= demo-archive
HOST ?= 127.0.0.1
PORT ?= 8080

.DEFAULT_GOAL := help
.PHONY: help demo serve test check format bench wheel clean

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

# Stamps, so that a second `make` installs nothing; a change of pyproject.toml installs anew.
# Half an environment would look like a whole one to the next `make`, so it does not stay.
$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "make: no $(PYTHON) here; say PYTHON=/path/to/python3.11 or later" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: $(PYTHON) is $$($(PYTHON) -V 2>&1), but 3.11 or later is needed; say PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "make: $(PYTHON) -m venv failed, see above; on Debian and Ubuntu install python3-venv" >&2; exit 1; }

$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

$(VENV)/.installed-check: $(VENV)/.installed-test
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,check]'
	touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	touch $@

demo: $(VENV)/.installed ## write, ingest and serve the demo archive on http://127.0.0.1:8080
	$(BIN)/soda-service demo --dir $(DEMO_DIR) --host $(HOST) --port $(PORT)

test: $(VENV)/.installed-test ## the whole test suite
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(VENV)/.installed-check ## formatter, linter, types, imports, spelling
	$(BIN)/ruff format --check soda_service tests benchmarks docs
	$(BIN)/ruff check soda_service tests benchmarks docs
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell soda_service tests benchmarks docs config votable_templates README.md CHANGELOG.md

format: $(VENV)/.installed-check ## format the code and mend what can be mended
	$(BIN)/ruff format soda_service tests benchmarks docs
	$(BIN)/ruff check --fix soda_service tests benchmarks docs

bench: $(VENV)/.installed-bench ## ratios against peers and limits, as one table
	$(BIN)/python benchmarks/run.py

wheel: $(VENV)/.installed-test ## the wheel, into dist/
	$(BIN)/python -m build --wheel

# What lies in a folder that is not the demo's is somebody's own.
clean: ## remove what the other targets made, the demo archive included
	rm -rf $(VENV) build dist
	@if test -f '$(DEMO_DIR)/demo-archive.json'; then echo "rm -rf '$(DEMO_DIR)'"; rm -rf '$(DEMO_DIR)'; \
	elif test -e '$(DEMO_DIR)'; then echo "make: $(DEMO_DIR) stays: it is not a demo archive" >&2; fi
