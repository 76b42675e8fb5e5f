# SPDX-License-Identifier: Apache-2.0
# Everything from a fresh clone: each target makes or updates the environment first.
# A machine with a sourced ROS 2 distro uses that; any other gets ROS 2 from PyPI (see tools/).

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup build demo bench test faults fuzz soak kill lint docs clean clean-all lock

# make setup PYTHON=python3.12; remembered by the environment.
PYTHON ?=
# Passed on to what a target runs:   make test ARGS='-k lens'
ARGS ?=
# How long or how many: make soak MINUTES=10, make kill COUNT=20, make fuzz EXAMPLES=100000
MINUTES ?= 60
COUNT ?= 100
EXAMPLES ?= 10000

in_env = source ./activate.sh &&

help:  ## Show this
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

setup:  ## Make or update .venv and the build; then: source activate.sh
	@PYTHON='$(PYTHON)' tools/set_up.sh

build: setup  ## The same; builds again when files were added or messages changed

demo: setup  ## Simulated camera, sweep and depth over DDS for 20 s; writes demo/
	@$(in_env) dualfocus demo $(ARGS)

bench: setup  ## How long everything takes here, over DDS too (15 minutes); writes bench/
	@$(in_env) dualfocus benchmark --node $(ARGS)

test: setup  ## Every test that needs no GPU
	@$(in_env) pytest -q $(ARGS)

faults: setup  ## The tests of docs/reliability.md, and a line for each of its faults
	@$(in_env) pytest -q --faults $(ARGS)

fuzz: setup  ## Ten thousand hostile messages at everything that takes messages
	@$(in_env) DUALFOCUS_FUZZ=$(EXAMPLES) pytest -q test/unit/test_fuzz.py $(ARGS)

soak: setup  ## Camera, sweep and depth for MINUTES=60; fails on growth or loss; writes soak/
	@$(in_env) python test/endurance/soak.py --minutes $(MINUTES) --output soak $(ARGS)

kill: setup  ## COUNT=100 random kills of camera and sweep, and what they cost; writes kill/
	@$(in_env) python test/endurance/kill.py --count $(COUNT) --output kill $(ARGS)

lint: setup  ## ruff, mypy and known vulnerabilities of what is pinned
	@$(in_env) ruff check . && mypy
	@tools/audit.sh

docs:  ## The documentation as a site in site/; needs no ROS, and any warning fails it
	@tools/build_docs.sh $(ARGS)

clean:  ## Remove what was built and written, but not .venv
	rm -rf build install log demo bench soak kill site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

clean-all: clean  ## Remove .venv too
	rm -rf .venv .venv-docs .venv-audit

lock:  ## Write tools/requirements*.lock anew from requirements*.in
	@tools/lock.sh
