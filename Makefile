# How everything starts. `make run` and `make test` are all that a newcomer needs.
PYTHON ?= python3
PORT ?=
CONFIG ?= conf/gateway.toml
BIN := .venv/bin
# PostgreSQL has no part in these, or no other than SQLite
WITHOUT_DATABASE := auth bench client cluster docs plugins portal transport api/test_openapi.py test_bundle_memory.py \
	test_bundles.py test_clusters.py test_config.py test_jman_on_clusters.py \
	dialects/test_letsmt.py dialects/test_modaclouds.py dialects/test_one_job.py
# These machines are shared: a test whose patience ran out is run once more, and the summary names it (RERUN). A wrong
# answer fails at once, and so does everything in tests/faults: what is lost one time in a hundred is lost.
ONCE_MORE := --reruns 1 --only-rerun 'in time|not within|Timeout' -raR

.PHONY: run install dev test faults documents lint bench cluster-up cluster-down clean

run: install                    ## serve on 127.0.0.1:5000 (PORT=, CONFIG=) with demo certificates in var/demo
	@$(BIN)/jobgate demo --directory var/demo
	@exec $(BIN)/jobgate serve --config $(CONFIG) $(if $(PORT),--port $(PORT))

install: .venv/installed        ## .venv alone

dev: .venv/dev                  ## .venv with what the tests and tools need

test: dev                       ## everything that can run here
	@tests/packages
	@$(MAKE) --no-print-directory .venv/letsmt
	@$(BIN)/python -m pytest -n 4 --dist loadfile $(ONCE_MORE) --ignore tests/faults $(ARGS)
	@echo "what the gateway promises, with everything around it broken"
	@$(BIN)/python -m pytest -n 4 --dist worksteal tests/faults $(ARGS)
	@echo "once more what has a database, on PostgreSQL"
	@$(BIN)/python -m pytest -n 4 --dist loadfile $(ONCE_MORE) --database=postgresql \
		$(WITHOUT_DATABASE:%=--ignore tests/%) --ignore tests/faults $(ARGS)

faults: dev                     ## break things for long, and count what was lost or doubled
	@tests/packages
	@JOBGATE_FAULTS=long $(BIN)/python -m pytest -n 2 --dist worksteal tests/faults $(ARGS)

documents: dev                  ## write what docs/ has from the code
	@$(BIN)/python tools/configuration-page

lint: dev                       ## ruff and mypy
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

bench: dev                      ## measure; prints a table, writes var/bench.json
	@$(BIN)/python tests/bench/run.py $(ARGS)

cluster-up:                     ## build and start the real test cluster (root on Debian, 1 GB; tests/cluster/README.md)
	@tests/packages cluster
	@tests/cluster/cluster up

cluster-down:                   ## stop it; what was built is kept
	@tests/cluster/cluster down

.venv/bin/python:
	@tools/venv $(PYTHON) .venv

.venv/installed: setup.cfg pyproject.toml | .venv/bin/python
	@echo "installing into .venv (about half a minute)"
	@$(BIN)/python -m pip install --quiet --editable .
	@touch $@

.venv/dev: .venv/installed
	@echo "installing what the tests need (about a minute)"
	@$(BIN)/python -m pip install --quiet --editable '.[dev,postgres]'
	@touch $@

.venv/letsmt: .venv/dev         # eflomal is compiled; where that fails the tests that need it say so
	@echo "installing the tools of the LetsMT templates (about a minute)"
	@$(BIN)/python -m pip install --quiet --editable '.[letsmt]' && touch $@ || \
		echo "they cannot be installed here: their tests are skipped"

clean:                          ## everything that was made here, the demo's jobs too
	rm -rf .venv var *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
