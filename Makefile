# Everything a user needs: `make demo` and `make test`. The first of either sets up .venv.
# ARGS hands arguments on: make demo ARGS="model=sd15", make test ARGS="-k flow".

# The pins of constraints.txt need Python 3.11 or later; choose another one with PYTHON=...
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
BIN := .venv/bin
ARGS ?=
QUICK := tests/test_architecture.py tests/test_story.py tests/test_contracts.py
APT := apt install libgl1 libglib2.0-0 libxcb1

.PHONY: demo test quick setup lint docs bench clean
.DEFAULT_GOAL := demo

demo: setup ## restyle the demo clip; the last lines say where the result is
	$(BIN)/python -m rerender.run $(if $(findstring data=,$(ARGS)),,data=showcase) $(ARGS)
	$(BIN)/python -m experiments.report outputs --score --vae

test: setup ## the tests, without those that take minutes or a GPU
	$(BIN)/python -m pytest -m "not slow and not gpu" -n auto --dist worksteal $(ARGS)

quick: setup ## less than a minute: one run, what every choice must fulfil, the order of the house
	$(BIN)/python -m pytest -m "not slow and not gpu" -n auto --dist worksteal $(QUICK) $(ARGS)

lint: setup ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: setup ## the documentation site, in build/docs
	$(BIN)/sphinx-build -W --keep-going -q -c docs . build/docs
	@echo "build/docs/docs/index.html"

bench: setup ## how long each stage takes on this machine
	$(BIN)/python -m rerender.run +exp=bench $(ARGS)

setup: .venv/.stamp ## .venv with the pinned packages

.venv/.stamp: pyproject.toml setup.py constraints.txt
	@test -n "$(PYTHON)" || { echo "error: python: 3.11 or later is needed; install it or set PYTHON="; exit 2; }
	@echo "setting up .venv with pinned packages; the first time this takes minutes"
	@if command -v uv >/dev/null 2>&1; then \
		set -e; test -d .venv || uv venv --quiet --python "$(PYTHON)" .venv; \
		uv pip install --python $(BIN)/python -c constraints.txt -e '.[dev]'; \
	else \
		set -e; test -x $(BIN)/python || "$(PYTHON)" -m venv .venv; \
		$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'; \
	fi
	@$(BIN)/python -c 'import cv2' 2>/dev/null || { \
		$(BIN)/python -c 'import cv2' 2>&1 | tail -n 1; \
		echo "error: opencv-python: system libraries are missing; run: $(APT)"; exit 5; }
	@touch $@

clean: ## remove what runs and tools left, but neither .venv nor outputs
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
