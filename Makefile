# `make demo` and `make test` set everything up by themselves; only Python 3.11+ is needed.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS ?= test
KEEP ?= 0
PIP_FLAGS ?=

.PHONY: help install demo test clients campaign lint format system clean

help: ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

install: $(VENV)/.installed ## make the virtual environment with every dependency pinned

$(VENV)/.installed: pyproject.toml constraints.txt $(wildcard model/compiled/*.[ch])
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt -e '.[$(EXTRAS)]'
	touch $@

demo: install ## the real main job on one machine: watch, process, publish six real scenes (KEEP=1 leaves it running)
	$(BIN)/explains2a demo $(if $(filter 1,$(KEEP)),--keep)

test: install ## lint, types, import arrows and the whole test suite
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest

campaign: install ## all faults of the drills in one run over 65 acquisitions; about ten minutes
	$(BIN)/python -m pytest -m campaign tests/campaign

clients: install ## other people's STAC clients against real products: validator, schemathesis, odc-stac, STAC Browser
	$(BIN)/python -m tests.tools.clients client-data

lint: install ## lint, types and import arrows only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install ## format the sources
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

system: ## install the Debian packages that browser checks use (needs root)
	apt-get update -q && apt-get install -y -q chromium

clean: ## stop what a demo left running and remove its data
	if [ -f demo-data/explains2a.toml ]; then EXPLAINS2A_CONFIG=demo-data/explains2a.toml $(BIN)/explains2a down; fi
	rm -rf demo-data
