# make audit: set up, audit the model that ships on procedural clips, and say where the report is
# make test:  set up, and run the tests
# A CPU build of torch is taken; where pip does not find one, point it at PyTorch's CPU wheels:
#   make test TORCH_ARGS="--index-url ..."          (or, with CUDA: make test TORCH=torch==2.13.0)
PYTHON ?= python3
TORCH ?= torch==2.13.0+cpu
TORCH_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OUT ?= runs/hans

.PHONY: audit test test-slow interop interop-train check fmt bench docs clean
audit: $(READY)
	$(BIN)/earwitness audit --model hans --clips foley --protocol mma,thud,av-confuse --out $(OUT)

test: $(READY)
	$(BIN)/pytest -n 2

test-slow: $(READY)
	$(BIN)/pytest -m "slow and not gpu" --timeout 3000

# Exports opened by the tools they are for, in an environment of their own (their pins and ours exclude each other).
INTEROP := .venv-interop
PIP := $(INTEROP)/bin/python -m pip install -q --disable-pip-version-check
interop:
	test -x $(INTEROP)/bin/python || $(PYTHON) -m venv $(INTEROP)
	$(PIP) $(TORCH_ARGS) "$(TORCH)"
	$(PIP) -r tests/interop/requirements.txt
	$(PIP) --no-deps lmms-eval==0.7.3
	$(PIP) --no-deps -e .
	$(INTEROP)/bin/pytest -W default tests/interop/opened_by_the_real_tools.py

# What is exported for other trainers, trained for one step by the real ones, each in an environment of its own.
SWIFT := .venv-interop-swift
FACTORY := .venv-interop-llamafactory
PIP_SWIFT := $(SWIFT)/bin/python -m pip install -q --disable-pip-version-check
PIP_FACTORY := $(FACTORY)/bin/python -m pip install -q --disable-pip-version-check
interop-train: $(READY)
	test -x $(SWIFT)/bin/python || $(PYTHON) -m venv $(SWIFT)
	$(PIP_SWIFT) $(TORCH_ARGS) "$(TORCH)"
	$(PIP_SWIFT) --no-deps torchvision==0.28.0
	$(PIP_SWIFT) -r tests/interop/requirements-swift.txt
	$(PIP_SWIFT) --no-deps -e .
	test -x $(FACTORY)/bin/python || $(PYTHON) -m venv $(FACTORY)
	$(PIP_FACTORY) $(TORCH_ARGS) "$(TORCH)"
	$(PIP_FACTORY) --no-deps torchvision==0.28.0
	$(PIP_FACTORY) -r tests/interop/requirements-llamafactory.txt
	$(PIP_FACTORY) --no-deps llamafactory==0.9.5
	$(BIN)/pytest -W default tests/interop/trained_by_the_real_tools.py

check: $(READY)
	$(BIN)/ruff format --check src tests benchmarks examples docs
	$(BIN)/ruff check src tests benchmarks examples docs
	$(BIN)/mypy
	MYPYPATH=src $(BIN)/mypy --strict examples/*.py

fmt: $(READY)
	$(BIN)/ruff check --fix-only -q src tests benchmarks examples docs
	$(BIN)/ruff format src tests benchmarks examples docs

bench: $(READY)
	for b in benchmarks/*.py; do echo "== $$b"; $(BIN)/python $$b || exit 1; done

docs: $(READY)
	$(BIN)/python docs/make_pages.py

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Earwitness needs Python 3.11 or newer, this is " + sys.version)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt $(TORCH_ARGS) "$(TORCH)" || \
	  { echo "pip found no CPU build of torch 2.13.0: see the first lines of the Makefile"; exit 2; }
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[local,train,api,serve,scale,export,caption,dev]"
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info runs
