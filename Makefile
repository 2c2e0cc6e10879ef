# `make search` runs the main job and `make test` all tests, each in an environment of its own making (.venv).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: search test sanitize test-neon test-cuda fuzz lint clean

search: $(INSTALLED)
	$(BIN)/eqnet search --budget 4bit

test: $(INSTALLED) sanitize
	$(BIN)/python -W error -c "import eqnet, eqnet.search, eqnet.export"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

# The kernels under the address, undefined-behaviour and thread sanitizers.
CXX_TESTS := build/tests
sanitize:
	@command -v cmake >/dev/null || { echo "CMake is missing; on Debian: apt-get install cmake" >&2; exit 1; }
	@mkdir -p $(CXX_TESTS)
	@echo 'int main() {}' | c++ -x c++ - -fsanitize=address,undefined -o $(CXX_TESTS)/probe && \
		echo 'int main() {}' | c++ -x c++ - -fsanitize=thread -o $(CXX_TESTS)/probe || \
		{ echo "c++ has no sanitizers (libasan, libubsan, libtsan); on Debian: apt-get install g++" >&2; exit 1; }
	cmake -S tests/cpp -B $(CXX_TESTS)/sanitize -DSANITIZE=ON >/dev/null
	cmake --build $(CXX_TESTS)/sanitize -j 2
	cd $(CXX_TESTS)/sanitize && ctest --output-on-failure -j 2

# The kernels for ARM, run by an emulator.
ARM := aarch64-linux-gnu
test-neon:
	@command -v cmake >/dev/null && command -v $(ARM)-g++ >/dev/null && command -v qemu-aarch64 >/dev/null || \
		{ echo "A compiler for ARM or its emulator is missing; on Debian: apt-get install cmake g++-$(ARM) qemu-user" >&2; exit 1; }
	cmake -S tests/cpp -B $(CXX_TESTS)/neon -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
		-DCMAKE_CXX_COMPILER=$(ARM)-g++ "-DCMAKE_CROSSCOMPILING_EMULATOR=qemu-aarch64;-L;/usr/$(ARM)" >/dev/null
	cmake --build $(CXX_TESTS)/neon -j 2
	cd $(CXX_TESTS)/neon && ctest --output-on-failure -j 2

# The kernels for GPUs on the GPU that is there.
test-cuda: $(INSTALLED)
	$(BIN)/python benchmarks/cuda_gpu.py --check

# Damages artifacts and packed tensors; what it finds, it says how to see again.
FUZZ_SECONDS ?= 600
fuzz: $(INSTALLED)
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS)

lint: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Where nvcc is, kernels are compiled for the GPUs that are there, or for one: all would take minutes.
CUDA_ARCHITECTURES ?= $(or $(shell nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | \
	sed -n 's/^\([0-9]*\)[.]\([0-9]\)$$/\1\2-real/p' | sort -u | paste -sd ';'),80-real)

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
	CMAKE_ARGS="$$CMAKE_ARGS -DEQNET_CUDA_ARCHITECTURES='$(CUDA_ARCHITECTURES)'" \
		$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build
