# SPDX-License-Identifier: Apache-2.0
# Each target first makes or updates the environment: with a sourced ROS 2 distribution, else with
# ROS 2 from PyPI (see tools/).

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup build demo bench smoke test test-all coverage faults fuzz soak kill lint docs clean clean-all lock

# make setup PYTHON=python3.12; stored in the environment.
PYTHON ?=
# Passed to the command of a target:   make test ARGS='-k lens'
ARGS ?=
# Duration or count: make soak MINUTES=10, make kill COUNT=20, make fuzz EXAMPLES=100000
MINUTES ?= 60
COUNT ?= 100
EXAMPLES ?= 10000

in_env = source ./activate.sh &&

help:  ## Show this
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

setup:  ## Make or update .venv and the build; then: source activate.sh
	@PYTHON='$(PYTHON)' tools/set_up.sh

build: setup  ## The same; rebuilds after files were added or messages changed

demo: setup  ## Simulated camera, sweep and depth over DDS for 20 s; writes demo/
	@$(in_env) dualfocus demo $(ARGS)

bench: setup  ## Latency and memory of this machine, over DDS too (15 minutes); writes bench/
	@$(in_env) dualfocus benchmark --node $(ARGS)

SMOKE = test_api.py test_architecture.py test_focal_stack.py test_topics.py bags/test_reader.py \
	inference/test_estimator.py models/test_weights.py sweep/test_assembler.py
smoke: setup  ## Core, and all nodes over DDS once; 20 s
	@$(in_env) pytest -q $(addprefix test/unit/,$(SMOKE)) \
		test/integration/test_pipeline.py::test_depth_of_the_simulated_scene $(ARGS)

test: setup  ## Every test that needs no GPU, but for slow ones; 6 minutes
ifeq ($(ARGS),)
	@$(in_env) OMP_NUM_THREADS=1 pytest -q -m 'not slow' -n auto --dist loadfile test/unit
	@$(in_env) pytest -q -m 'not slow' -rR --durations=12 --durations-min=5 test/integration test/launch
else
	@$(in_env) pytest -q -m 'not slow' $(ARGS)
endif

test-all: setup  ## Slow tests too: rehearsals in real time, kills, soak; half an hour
	@$(in_env) OMP_NUM_THREADS=1 pytest -q -n auto --dist loadfile test/unit
	@$(in_env) pytest -q -rR test/integration test/launch $(ARGS)

coverage: setup  ## Line coverage of the unit tests
	@$(in_env) OMP_NUM_THREADS=1 pytest -q -m 'not slow' -n auto --dist loadfile --cov --cov-report=term test/unit $(ARGS)

faults: setup  ## Tests of docs/reliability.md, one line per fault
	@$(in_env) pytest -q --faults $(ARGS)

fuzz: setup  ## Ten thousand hostile messages for each input
	@$(in_env) DUALFOCUS_FUZZ=$(EXAMPLES) pytest -q test/unit/test_fuzz.py $(ARGS)

soak: setup  ## Run all nodes for MINUTES=60; fail on growth or loss; writes soak/
	@$(in_env) python test/endurance/soak.py --minutes $(MINUTES) --output soak $(ARGS)

kill: setup  ## Kill camera and sweep node COUNT=100 times at random; writes kill/
	@$(in_env) python test/endurance/kill.py --count $(COUNT) --output kill $(ARGS)

lint: setup  ## ruff, mypy, prose and known vulnerabilities of pinned packages
	@$(in_env) ruff check . && ruff format --check . && mypy && python tools/check_prose.py
	@tools/audit.sh

docs:  ## Build the documentation in site/, without ROS; warnings are errors
	@tools/build_docs.sh $(ARGS)

clean:  ## Remove builds and outputs, keep .venv
	rm -rf build install log demo bench soak kill site .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

clean-all: clean  ## Remove .venv too
	rm -rf .venv .venv-docs .venv-audit

lock:  ## Write tools/requirements*.lock from requirements*.in
	@tools/lock.sh
