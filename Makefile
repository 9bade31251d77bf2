# The two commands of the README are `make demo` and `make test`; each sets up what it needs.

VENV := .venv
PYTHON := $(VENV)/bin/python
PYTHON311 := $(shell command -v python3.11 || command -v python3)
DEMO_WORKSPACE := workspace/demo
DEMO_PICTURE := workspace/demo.png
BENCH_RESULTS := workspace/bench/results.json

# Servers start in most tests, each with processes of its own; more at once than this only wait for each other.
TEST_PROCESSES := 2

BROWSER_TESTS := tests/browser
NPM_PACKAGES := $(BROWSER_TESTS)/node_modules/.package-lock.json

.PHONY: demo test slow screenshots bench lint types clean install

demo: $(VENV)/.installed
	$(PYTHON) app.py -t index -d toy-data --workspace $(DEMO_WORKSPACE)
	$(PYTHON) app.py -t query --workspace $(DEMO_WORKSPACE) -k 4 \
	    --query-text "the sun sets over a field of flowers" --query-image data/toy-data/images/stair-tower.jpg --picture $(DEMO_PICTURE)

test: $(VENV)/.installed-test $(NPM_PACKAGES) lint types
	$(PYTHON) -m pytest -m "not slow" --numprocesses $(TEST_PROCESSES) --dist loadfile

slow: $(VENV)/.installed-test
	$(PYTHON) -m pytest -m slow

# Writes docs/screenshots anew.
screenshots: $(VENV)/.installed-test $(NPM_PACKAGES)
	CI=true $(PYTHON) -m pytest -m screenshots $(BROWSER_TESTS)

# Every benchmark, which takes about an hour; `python -m bench` lists them, and docs/performance.md explains them.
bench: $(VENV)/.installed-test
	$(PYTHON) -m bench all --json $(BENCH_RESULTS)

lint: $(VENV)/.installed-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/.installed-test
	$(VENV)/bin/mypy

install: $(VENV)/.installed

$(VENV)/.installed: requirements.txt constraints.txt
	@$(PYTHON311) -c 'import sys; sys.exit(0 if sys.version_info[:2] == (3, 11) else "error: this needs Python 3.11, not " + sys.version.split()[0] + ": jina has no packages for others")'
	$(PYTHON311) -m venv $(VENV)
	$(PYTHON) -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed requirements-test.txt
	$(PYTHON) -m pip install --quiet -r requirements-test.txt
	touch $@

# npm writes this file itself, so a failed installation is tried again.
$(NPM_PACKAGES): $(BROWSER_TESTS)/package.json $(BROWSER_TESTS)/package-lock.json
	@if command -v npm >/dev/null; then \
	    npm ci --prefix $(BROWSER_TESTS) --ignore-scripts --no-audit --no-fund; \
	else \
	    echo "npm is not installed: the browser tests that need its packages will be skipped"; \
	fi

clean:
	rm -rf $(VENV) workspace $(BROWSER_TESTS)/node_modules
