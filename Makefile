# The two commands of the README are `make demo` and `make test`; each sets up what it needs.
#
# PYTHON chooses the Python: a version ("3.13"), a name or a path. By default it is 3.11 where the machine has it,
# because jina has packages for no later one, and otherwise the newest.

PYTHON := 3.11 3.13 3.12 python3
INTERPRETER := $(shell .ci/find-python $(PYTHON))
DEFAULT := $(shell .ci/find-python 3.11 3.13 3.12 python3)

# The default Python has .venv, each other one a folder of its own.
VERSION := $(if $(INTERPRETER),$(shell $(INTERPRETER) -c 'import sys; print("%d.%d" % sys.version_info[:2])'))
VENV := $(if $(filter $(DEFAULT),$(INTERPRETER)),.venv,.venv-$(VERSION))
RUN := $(VENV)/bin/python

# What is installed: the base runs everything but published models, training, plots and pods.
BASE := $(VENV)/.installed-base-$(VERSION)
FULL := $(VENV)/.installed-$(VERSION)
TEST := $(VENV)/.installed-test-$(VERSION)
SHORT := $(VENV)/.installed-short-$(VERSION)

DEMO_WORKSPACE := workspace/demo
DEMO_PICTURE := workspace/demo.png
BENCH_RESULTS := workspace/bench/results.json

# Tests wait for servers and browsers a third of their time: so many keep two cores busy.
TEST_PROCESSES := 3
# In the order of their names: Chromium is started once for the browser's files, which would be scattered otherwise.
DISTRIBUTED := --numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

BROWSER_TESTS := tests/browser
NPM_PACKAGES := $(BROWSER_TESTS)/node_modules/.package-lock.json

# What the containers install: without torch, whose builds for CPUs and GPUs share a version and no hash.
LOCKED := requirements-image.txt
TOOLS := .venv-tools

# Otherwise each of the hundreds of processes that tests start would compile the project anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-short slow screenshots bench lint types package lock audit sbom clean install

demo: $(BASE)
	$(RUN) app.py -t index -d toy-data --workspace $(DEMO_WORKSPACE)
	$(RUN) app.py -t query --workspace $(DEMO_WORKSPACE) -k 4 \
	    --query-text "flowers in a meadow at sunset" --query-image data/toy-data/images/stair-tower.jpg --picture $(DEMO_PICTURE)

test: $(TEST) $(NPM_PACKAGES) lint types
	$(RUN) -m pytest -m "not slow" $(DISTRIBUTED)

# The demo, and the tests that need neither torch nor jina, in an installation without both.
test-short: $(SHORT) demo
	$(RUN) -m pytest -m "not slow" $(DISTRIBUTED) $$(sed 's/#.*//' tests/short.txt)

slow: $(TEST)
	$(RUN) -m pytest -m slow
	$(RUN) -m pytest -m "hypothesis and not slow" --hypothesis-profile thorough

# Writes docs/screenshots again.
screenshots: $(TEST) $(NPM_PACKAGES)
	CI=true $(RUN) -m pytest -m screenshots $(BROWSER_TESTS)

# Every benchmark, which takes about an hour; `python -m bench` lists them, and docs/performance.md explains them.
bench: $(TEST)
	$(RUN) -m bench all --json $(BENCH_RESULTS)

lint: $(TEST)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

types: $(TEST)
	$(RUN) -m mypy

# A wheel and an sdist in dist/.
package: $(SHORT)
	$(RUN) -m hatchling build

# Every package with its hashes, for Python 3.11 to 3.13: requirements-base.lock, and with jina requirements.lock.
# Installed by `pip install --require-hashes -r requirements.lock`.
LOCK := $(TOOLS)/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate \
    --custom-compile-command "make lock"
lock: $(TOOLS)/.installed
	$(LOCK) $(LOCKED) --output-file requirements-base.lock
	$(LOCK) $(LOCKED) requirements-jina.txt --output-file requirements.lock

# Known vulnerabilities of what is locked; .ci/audit-exceptions.txt explains those that are let pass.
audit: $(TOOLS)/.installed
	.ci/audit $(TOOLS)/bin/pip-audit

# What is locked, as CycloneDX.
sbom: $(TOOLS)/.installed
	mkdir -p dist
	$(TOOLS)/bin/cyclonedx-py requirements requirements.lock --output-format JSON --output-reproducible \
	    --output-file dist/sbom.json

install: $(FULL)

$(BASE): requirements-base.txt constraints.txt
	@test -n "$(INTERPRETER)" || { echo "error: this machine has none of these Pythons: $(PYTHON)" >&2; exit 1; }
	@$(INTERPRETER) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "error: this needs Python 3.11 or newer, not " + sys.version.split()[0])'
	$(INTERPRETER) -m venv $(VENV)
	$(RUN) -m pip install --quiet -r requirements-base.txt
	touch $@

$(FULL): $(BASE) requirements.txt requirements-jina.txt
	$(RUN) -m pip install --quiet -r requirements.txt
	touch $@

$(TEST): $(FULL) requirements-test.txt
	$(RUN) -m pip install --quiet -r requirements-test.txt
	touch $@

$(SHORT): $(BASE) requirements-test.txt
	$(RUN) -m pip install --quiet -r requirements-test.txt
	touch $@

$(TOOLS)/.installed: requirements-tools.txt
	$(INTERPRETER) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet -r requirements-tools.txt
	touch $@

# npm writes this file itself, so a failed installation is tried again.
$(NPM_PACKAGES): $(BROWSER_TESTS)/package.json $(BROWSER_TESTS)/package-lock.json
	@if command -v npm >/dev/null; then \
	    npm ci --prefix $(BROWSER_TESTS) --ignore-scripts --no-audit --no-fund; \
	else \
	    echo "npm is not installed: the browser tests that need its packages will be skipped"; \
	fi

clean:
	rm -rf .venv .venv-* dist workspace $(BROWSER_TESTS)/node_modules
