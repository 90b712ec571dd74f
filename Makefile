# `make demo` and `make test` do their own set-up: a virtual environment in .venv, filled from pyproject.toml.
# Another Python: make PYTHON=python3.12 demo

PYTHON ?= python3
VENV ?= .venv
PIP_INSTALL = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo test lint faults soak usb bench venv clean
.DELETE_ON_ERROR:

help: ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## A simulated yard, watched: prints its events and names the report; needs no network after set-up
	$(VENV)/bin/streamwatch demo

test: lint ## Style, types and tests
	$(VENV)/bin/python -m pytest -q -m "not faults and not soak and not usb"

lint: venv ## ruff and mypy
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

faults: venv ## Tests that break servers, processes and disks for real
	$(VENV)/bin/python -m pytest -q -m "faults and not soak and not usb"

soak: venv ## The same for long: ten thousand flaps, a million frames, a thousand bad reloads
	$(VENV)/bin/python -m pytest -q -s -m "soak and not usb" --timeout 7200

usb: venv ## A USB camera in a virtual machine, unplugged and plugged in again (needs QEMU)
	$(VENV)/bin/python -m pytest -q -s -m usb --timeout 1800

bench: venv ## Prints the figures that README and docs claim
	@for bench in bench/[a-z]*.py; do echo "== $$bench"; $(VENV)/bin/python "$$bench" || exit 1; done

venv: $(VENV)/.test ## The virtual environment with everything for tests

clean: ## Removes the virtual environment and the demo's files
	rm -rf $(VENV) demo-out

# The stamps make a second run do nothing until pyproject.toml changes. The demo needs no test tools.
$(VENV)/.demo: pyproject.toml | $(VENV)/.made
	@echo "Installing streamwatch and what it needs into $(VENV); PyTorch is large, so the first time takes minutes."
	$(PIP_INSTALL) --editable .
	@touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/.made
	@echo "Installing streamwatch and its test tools into $(VENV); PyTorch is large, so the first time takes minutes."
	$(PIP_INSTALL) --editable '.[test]'
	@touch $(VENV)/.demo $@

$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { echo "make: there is no $(PYTHON); install Python 3.11 or newer (Debian: apt install python3 python3-venv), or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: $(PYTHON) is $$($(PYTHON) -V 2>&1), expected Python 3.11 or newer; name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "make: $(PYTHON) cannot make virtual environments: its venv module is missing (Debian: apt install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@
