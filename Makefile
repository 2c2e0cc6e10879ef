# `make search` runs the main job and `make test` all tests, each in an environment of its own making (.venv).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: search test fuzz lint clean

search: $(INSTALLED)
	$(BIN)/eqnet search --budget 4bit

test: $(INSTALLED)
	$(BIN)/python -W error -c "import eqnet, eqnet.search, eqnet.export"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q

# Damages artifacts and packed tensors; what it finds, it says how to see again.
FUZZ_SECONDS ?= 600
fuzz: $(INSTALLED)
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS)

lint: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Torch comes first and by its exact version: a range makes pip take a build with gigabytes of CUDA libraries.
$(INSTALLED): pyproject.toml constraints.txt CMakeLists.txt $(shell find cpp -type f)
	@command -v c++ >/dev/null || { echo "A C++ compiler is missing; on Debian: apt-get install g++" >&2; exit 1; }
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 10))" 2>/dev/null || \
		{ echo "Python 3.10 or newer is missing; on Debian: apt-get install python3, or give PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c "import venv, ensurepip" 2>/dev/null || \
		{ echo "Python's venv is missing; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -c "import sys, sysconfig, pathlib; sys.exit(not (pathlib.Path(sysconfig.get_path('include')) / 'Python.h').exists())" || \
		{ echo "Python's headers are missing; on Debian: apt-get install python3-dev" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build
