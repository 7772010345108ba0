# make run    set up what the dashboard needs, start it and print its link
# make test   set up what the tests need and run everything that CI runs
# make test-slow  the property, fault and soak tests that `make test` leaves out
# make fuzz   10,000 hostile inputs for everything that reads files, settings and addresses (about ten minutes)
# make setup  only the set-up of both; .venv/bin/rampart is the command then. With LOCK=1, only files with known hashes (but torch)
# make lock   renew requirements.lock after a change of a requirements file (some minutes)
# make quick  the newcomer's story with the real `quick` preset in a real browser, timed (minutes)
# make screenshots  the pictures of the documents, from real runs (about ten minutes)
SHELL := /bin/sh
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: run test test-slow fuzz quick screenshots setup lock lint clean
.DELETE_ON_ERROR:

run: .venv/.runtime
	@$(BIN)/rampart ui

# Two busy OpenMP teams on two cores are many times slower than one thread each. Hundreds of interpreters import the same
# modules, so bytecode is kept even where the environment says otherwise.
test test-slow fuzz: export OMP_NUM_THREADS = 1
test test-slow fuzz: export PYTHONDONTWRITEBYTECODE =
test: lint .venv/.browser
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" --ignore tests/browser tests
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/browser

test-slow: .venv/.dev
	$(BIN)/python -m pytest -n 2 --dist loadfile -m slow --ignore tests/browser tests

fuzz: .venv/.dev
	RAMPART_FUZZ=10000 $(BIN)/python -m pytest -n 2 -o timeout=3600 tests/fuzz

quick: .venv/.browser
	$(BIN)/python -m pytest -s -o timeout=1500 tests/browser/quick_story.py

screenshots: .venv/.browser
	@$(BIN)/python -m docs.screenshots

setup: .venv/.runtime .venv/.dev .venv/.browser

# pip-tools has an environment of its own, because its requirements are not ours.
lock: | .venv/bin/python
	@rm -rf .venv/lock && $(BIN)/python -m venv .venv/lock
	@.venv/lock/bin/python -m pip install --quiet --disable-pip-version-check pip-tools==7.6.2
	@sed '/^-r/d; /^#/d' requirements.txt requirements-dev.txt requirements-onnx.txt requirements-slurm.txt requirements-store.txt > .venv/lock/all.in
	@.venv/lock/bin/pip-compile --quiet --generate-hashes --allow-unsafe --unsafe-package torch --strip-extras --no-annotate \
		--no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --output-file .venv/lock/all.txt .venv/lock/all.in
	@{ sed -n '/^#/p; /^[^#]/q' requirements.lock; sed '/^# The following packages/,$$d' .venv/lock/all.txt; } > .venv/lock/new
	@mv .venv/lock/new requirements.lock

lint: .venv/.runtime .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile

.venv/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or newer is needed and '$(PYTHON)' was not found: install python3 and python3-venv."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, found $$($(PYTHON) --version): run 'make PYTHON=python3.11 $(MAKECMDGOALS)'."; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "The virtual environment could not be made: install python3-venv."; exit 1; }

# The dashboard runs without docstrings (-OO), which has bytecode of its own. Made here, it does not slow down the first start.
.venv/.runtime: requirements.txt requirements-no-deps.txt requirements-compiler.txt pyproject.toml | .venv/bin/python
	@test -z "$(LOCK)" || $(PIP) --no-deps --require-hashes -r requirements.lock
	@echo "Installing the packages of requirements.txt into .venv (about a minute; more where torch comes with CUDA) ..."
	@$(PIP) -r requirements.txt
	@$(PIP) --no-deps -r requirements-no-deps.txt
	@command -v cc >/dev/null || command -v gcc >/dev/null || command -v clang >/dev/null || $(PIP) -r requirements-compiler.txt
	@$(PIP) --no-deps --editable .
	@$(BIN)/python -m engine.space.compiled.build
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -OO -c "import app.streamlit_server, app.session, streamlit.web.bootstrap"
	@touch $@

.venv/.dev: requirements-dev.txt .venv/.runtime
	@$(PIP) -r requirements-dev.txt
	@touch $@

# Checked at every start, since a browser can be removed from outside; it costs a tenth of a second.
.venv/.browser: .venv/.dev tests/browser/chromium.py FORCE
	@$(BIN)/python -m tests.browser.chromium
	@touch $@

FORCE:

clean:
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache
