# `make help` lists the targets. Everything runs in .venv, made from the hashed lock by the first target that needs it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# Tests and demo start many processes: what they import is compiled once, whatever the container says.
unexport PYTHONDONTWRITEBYTECODE
PY := .venv/bin/python
PYTEST := $(PY) -m pytest
READY := .venv/.ready
LOCK := $(PY) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

.PHONY: help setup system demo consumer test test-fast test-faults lint format ruff sizes rooms floors types bench reference sbom docs lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/\1|\2/' | column -t -s '|'

$(READY): requirements.txt pyproject.toml .ci/venv
	@.ci/venv

setup: $(READY) ## make .venv from the lock (hashes checked) and install waybill into it

system:
	@.ci/system-packages tests

demo: $(READY) ## the main job in a real Airflow on this machine; ONCE=1 checks it and leaves; PRESET=studies: exports on demand
	@.venv/bin/waybill demo $(if $(ONCE),--once) $(if $(PRESET),--preset $(PRESET))

test: $(READY) system ## the whole suite, on real servers, by three workers; a module stays with one
	@$(PYTEST) -n 3 --dist loadfile --no-loadscope-reorder

test-fast: $(READY) ## what needs no server: the modules marked `fast`
	@$(PYTEST) -m "fast and not slow" $$(grep -rl --include='test_*.py' 'pytestmark = pytest.mark.fast' tests)

test-faults: $(READY) system ## the fault campaigns in full (half an hour and more): points tried, violations
	@FAULTS=full $(PYTEST) tests/faults $$(grep -rlE --include="test_*.py" "from (hypothesis|tests.products|tests.schemathesis_sweep) import|\"FAULTS\"" tests) -s -o faulthandler_timeout=0

lint: $(READY) ## ruff, sizes, pages of rooms, import floors; all of them, whichever fails first
	@status=0; for check in ruff sizes rooms floors; do $(MAKE) $$check || status=1; done; exit $$status

consumer: $(READY) ## the wheel to hand to those who receive files: dist/waybill_consumer-<version>-py3-none-any.whl
	@$(PY) -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir $(or $(TO),dist) ./consumer
	@rm -rf consumer/build && ls $(or $(TO),dist)/waybill_consumer-*.whl

format: $(READY) ## format the code as ruff does
	@$(PY) -m ruff check --quiet --fix --select I .
	@$(PY) -m ruff format .

ruff: $(READY)
	@$(PY) -m ruff check .

sizes: $(READY)
	@$(PY) .ci/sizes.py

rooms: $(READY)
	@$(PYTEST) -q --no-header -p no:cacheprovider tests/test_rooms.py | tail -1

floors: $(READY)
	@$(PY) -c 'from importlinter.cli import lint_imports_command; lint_imports_command()' --no-logo

types: $(READY) ## mypy, strict, on include/
	@$(PY) -m mypy

bench: $(READY) system ## benchmarks that print ratios; QUICK=1 for a short round
	@$(PY) -m uv pip install --quiet --python $(PY) --require-hashes -r bench/requirements.txt
	@$(PY) -m bench $(if $(QUICK),--quick)

reference: $(READY) ## write docs/reference from the code
	@$(PY) .ci/reference.py

sbom: $(READY) ## write sbom.json: what the product runs on, with versions and hashes, as CycloneDX
	@.venv/bin/cyclonedx-py requirements requirements-runtime.txt --pyproject pyproject.toml --output-reproducible --of JSON -o sbom.json 2> >(grep -v -e UserWarning -e 'warn(' >&2 || true)

docs: $(READY) ## build the documentation as a static site in site/
	@.venv/bin/zensical build --strict

lock: $(READY) ## compile the locks anew from pyproject.toml (UPGRADE=1 moves every pin it may)
	@$(LOCK) $(if $(UPGRADE),--upgrade) --extra all --extra dev pyproject.toml --output-file requirements.txt
	@$(LOCK) --constraint requirements.txt --extra all pyproject.toml --output-file requirements-runtime.txt
	@$(LOCK) --constraint requirements.txt --extra all --extra bench pyproject.toml --output-file bench/requirements.txt

clean: ## remove everything made here, run-time state too
	rm -rf site sbom.json .venv .waybill .airflow .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
