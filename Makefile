# The whole study and its tests, on a machine that has Python 3.11, 3.12 or 3.13 and GNU make. Without make: README.md.
#
#   make study                                    the quick preset on a digital cohort -> data/runs/quick/report/index.html
#   make study PRESET=desk COHORT=folder RUN=name another preset, your own volumes, another run folder
#   make study SET="training.seed=1"              parameters of the preset changed for one run (its own folder)
#   make lab                                      JupyterLab with the right kernel
#   make check                                    format, lint, types, imports and the fast tests, in minutes
#   make test                                     all of that and the slow tests: whole studies, a browser, a wheel
#   make docs                                     all pages, notebooks and the API as a site with search -> build/docs/html/index.html
#   make lowest                                   the fast tests with every dependency at its lowest version, on Python 3.11
#
# On Linux torch's default build carries CUDA libraries of some gigabytes. For the small CPU build of the same version, give the
# address of PyTorch's index of CPU wheels at the first start: make study TORCH_INDEX=<address>

PRESET ?= quick
RUN ?=
COHORT ?=
SET ?=
TORCH_INDEX ?=

# The first of these that is a Python this package knows; PYTHON=path names another.
KNOWN := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11; do \
    if "$$name" -c '$(KNOWN)' 2>/dev/null; then command -v "$$name"; break; fi; done)

BIN := .venv/bin
INSTALLED := .venv/.installed
TESTED := .venv/.installed-for-tests
DOCUMENTED := .venv/.installed-for-docs
BROWSER = $(shell command -v "$$FHLIB_BROWSER" || command -v chromium || command -v chromium-browser || command -v google-chrome || command -v google-chrome-stable)

# Two at a time, each with one thread; the slow ones start processes of their own, and run one after the other.
FAST_TESTS = OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow" -n 2 --dist loadfile

.PHONY: help study lab install check test docs lowest browser
.DEFAULT_GOAL := help

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

study: $(INSTALLED)
	@$(BIN)/python -m fhlib study --preset "$(PRESET)" $(if $(RUN),--run "$(RUN)") $(if $(COHORT),--cohort "$(COHORT)") $(if $(SET),--set $(foreach change,$(SET),"$(change)"))

lab: $(INSTALLED)
	$(BIN)/jupyter lab --notebook-dir . --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb

check: $(TESTED)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(FAST_TESTS)

test: $(TESTED) browser
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(FAST_TESTS)
	$(BIN)/pytest -m slow -n 2 --dist loadfile

docs: $(DOCUMENTED)
	$(BIN)/python fhlib/docs/build.py

install: $(INSTALLED)

$(INSTALLED): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "fhlib needs Python 3.11, 3.12 or 3.13 and found none: install one, or name it with PYTHON=path" >&2; exit 1; }
	@"$(PYTHON)" -c '$(KNOWN)' \
	    || { echo "fhlib needs Python 3.11, 3.12 or 3.13 and $(PYTHON) is $$("$(PYTHON)" --version 2>&1): install one of these, or name it with PYTHON=path" >&2; exit 1; }
	@test -x $(BIN)/pip || "$(PYTHON)" -m venv .venv \
	    || { rm -rf .venv; echo "$(PYTHON) could not make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(if $(TORCH_INDEX),$(BIN)/pip install --index-url "$(TORCH_INDEX)" "$$(grep '^torch==' requirements.lock)",\
	    $(BIN)/python -c 'import torch' 2>/dev/null || test "$$(uname -s)" != Linux \
	    || echo "On Linux this downloads torch with CUDA libraries (some GB); 'make help' tells how to take the small CPU build.")
	$(BIN)/pip install --quiet --constraint requirements.lock --editable ".[study,dicom]"
	@touch $@

$(TESTED): $(INSTALLED)
	$(BIN)/pip install --quiet --constraint requirements.lock --editable ".[study,dicom,docs,slurm,test]"
	@touch $@

$(DOCUMENTED): $(INSTALLED)
	$(BIN)/pip install --quiet --constraint requirements.lock --editable ".[study,dicom,docs]"
	@touch $@

# An environment of its own, some GB; remove .venv-lowest afterwards. Pages are written with the lock's pandas: older ones read fewer expressions.
lowest:
	python3.11 -m venv .venv-lowest
	.venv-lowest/bin/python tests/lowest.py > .venv-lowest/lowest.txt
	.venv-lowest/bin/pip install --quiet --constraint .venv-lowest/lowest.txt --editable ".[study,dicom,test]"
	.venv-lowest/bin/pytest -m "not slow" --ignore-glob "*test_environment.py" \
	    --deselect tests/workflow/test_publish.py::test_every_page_says_what_its_tables_say

# The report and the figures are tested in a real browser.
browser:
	@if [ -n "$(BROWSER)" ]; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -qq && apt-get install -y -qq chromium; \
	else echo "The tests need a Chromium browser: install the package chromium (or Google Chrome), or set FHLIB_BROWSER to its program" >&2; exit 1; fi
