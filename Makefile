# The whole study and its tests, on a machine that has Python 3.11 and GNU make.
#
#   make study                                    the quick preset on a digital cohort -> data/runs/quick/report/index.html
#   make study PRESET=desk COHORT=folder RUN=name another preset, your own volumes, another run folder
#   make study SET="training.seed=1"              parameters of the preset changed for one run (its own folder)
#   make test                                     lint, types and tests
#   make lab                                      JupyterLab with the right kernel
#
# On Linux torch's default build carries CUDA libraries of some gigabytes. For the small CPU build of the same version, give the
# address of PyTorch's index of CPU wheels at the first start: make study TORCH_INDEX=<address>

PRESET ?= quick
RUN ?=
COHORT ?=
SET ?=
TORCH_INDEX ?=
PYTHON ?= $(shell command -v python3.11 || command -v python3)

BIN := .venv/bin
INSTALLED := .venv/.installed
BROWSER = $(shell command -v "$$FHLIB_BROWSER" || command -v chromium || command -v chromium-browser || command -v google-chrome || command -v google-chrome-stable)

.PHONY: help study test lab install browser
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# \{0,1\}//p' Makefile

study: $(INSTALLED)
	@$(BIN)/python -m fhlib study --preset "$(PRESET)" $(if $(RUN),--run "$(RUN)") $(if $(COHORT),--cohort "$(COHORT)") $(if $(SET),--set $(foreach change,$(SET),"$(change)"))

test: $(INSTALLED) browser
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest

lab: $(INSTALLED)
	$(BIN)/jupyter lab --notebook-dir notebooks

install: $(INSTALLED)

$(INSTALLED): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "fhlib needs Python 3.11 and found no python3: install it, or name one with PYTHON=path" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
	    || { echo "fhlib needs Python 3.11 and $(PYTHON) is $$("$(PYTHON)" --version 2>&1): install 3.11, or name it with PYTHON=path" >&2; exit 1; }
	@test -x $(BIN)/pip || "$(PYTHON)" -m venv .venv \
	    || { rm -rf .venv; echo "$(PYTHON) could not make a virtual environment; on Debian and Ubuntu: apt-get install python3.11-venv" >&2; exit 1; }
	@$(if $(TORCH_INDEX),$(BIN)/pip install --index-url "$(TORCH_INDEX)" "$$(grep '^torch==' requirements.lock)",\
	    $(BIN)/python -c 'import torch' 2>/dev/null || test "$$(uname -s)" != Linux \
	    || echo "On Linux this downloads torch with CUDA libraries (some GB); 'make help' tells how to take the small CPU build.")
	$(BIN)/pip install --quiet -r requirements.lock
	$(BIN)/pip install --quiet --no-deps -e .
	@touch $@

# The report and the figures are tested in a real browser.
browser:
	@if [ -n "$(BROWSER)" ]; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -qq && apt-get install -y -qq chromium; \
	else echo "The tests need a Chromium browser: install the package chromium (or Google Chrome), or set FHLIB_BROWSER to its program" >&2; exit 1; fi
