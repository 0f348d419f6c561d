# Two commands on a fresh machine: `make demo` shows the line at work, `make test` runs the suite.
PYTHON ?= python3
VENV ?= .venv
DEMO_VENV ?= .venvs/demo
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check -c constraints.txt
BIN = $(VENV)/bin

.PHONY: demo test test-slow test-soak check lint types contracts packaging docs fuzz fuzz-c sizes aarch64-check dev system-deps system-deps-slow peers embedded-bundle \
	bench gpu-check pictures clean

# --- for users ---------------------------------------------------------------------------------------------

demo: $(DEMO_VENV)/.installed  ## what a device needs, and the bedside story on it
	$(DEMO_VENV)/bin/ecgedge demo

$(DEMO_VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(DEMO_VENV)
	$(DEMO_VENV)/bin/python $(PIP_INSTALL) '.[ort,records]'
	touch $@

test: dev system-deps peers  ## the whole suite, as CI runs it
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not slow and not soak"

# What goes by the clock runs alone; what only computes shares the cores.
BY_THE_CLOCK = tests/benchmarks tests/bridge tests/cluster tests/monitor tests/cli/test_qemu.py
test-slow: dev system-deps system-deps-slow peers  ## what takes minutes
	$(BIN)/python -m pytest -m slow --durations=12 $(BY_THE_CLOCK)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m slow --durations=12 $(addprefix --ignore ,$(BY_THE_CLOCK)) tests

pictures: dev system-deps  ## keep how the page looks now as what it is held to: look at each, then commit it
	PICTURES=renew $(BIN)/python -m pytest tests/monitor/test_page_pictures.py

test-soak: dev  ## what takes longer than CI may: hundreds of kills
	$(BIN)/python -m pytest -m soak

# --- for developers ----------------------------------------------------------------------------------------

dev: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP_INSTALL) --upgrade 'pip>=25.1'
	$(BIN)/python $(PIP_INSTALL) --editable '.[all]' --group dev
	touch $@

# Debian packages that tests need; elsewhere, and without root, those tests skip and say so. An emulated arm64
# (proot, qemu) is only for what takes minutes.
SYSTEM_PACKAGES = gcc libc6-dev make openssl systemd nats-server mosquitto mosquitto-clients dcmtk \
	clang cmake libclang-rt-dev cppcheck gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm chromium fonts-dejavu-core
SYSTEM_PROGRAMS = gcc make openssl systemd-analyze nats-server mosquitto mosquitto_pub dcmconv \
	clang cmake cppcheck arm-none-eabi-gcc qemu-system-arm chromium
# By themselves: a node from elsewhere is as good, and Debian's would not go with it.
NODE_PACKAGES = nodejs npm
NODE_PROGRAMS = node npm
SYSTEM_PACKAGES_SLOW = qemu-user-static proot
SYSTEM_PROGRAMS_SLOW = qemu-aarch64-static proot

# $(call install-debian, packages, programs that come with them)
define install-debian
@if (for program in $(2); do command -v $$program >/dev/null || exit 1; done); then :; \
elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	apt-get update -qq && apt-get install -y -qq --no-install-recommends $(1); \
else echo "install these to run every test: $(1)"; fi
endef

system-deps:
	$(call install-debian,$(SYSTEM_PACKAGES),$(SYSTEM_PROGRAMS))
	$(call install-debian,$(NODE_PACKAGES),$(NODE_PROGRAMS))

system-deps-slow:
	$(call install-debian,$(SYSTEM_PACKAGES_SLOW),$(SYSTEM_PROGRAMS_SLOW))

# Programs of others that the tests speak with, from npm, each with its version and hash (package-lock.json).
PEERS = tests/support/peers/package.json tests/support/peers/package-lock.json

peers: .peers/.installed

.peers/.installed: $(PEERS) | system-deps
	@mkdir -p .peers && cp $(PEERS) .peers/
	@npm ci --prefix .peers --ignore-scripts --no-audit --no-fund --loglevel=error && touch $@ || \
	echo "no npm packages in .peers; install to run every test: $(NODE_PACKAGES)"

check: lint types contracts packaging docs

lint: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# tensorrt-stubs depends on TensorRT and so on gigabytes of CUDA: without it, and beside the environment, where an
# empty package "tensorrt" could be taken for the real one. Two slips of the 10.13 stubs are not Python: a parameter
# called `in`, and a default before a parameter without one.
STUBS = .stubs/.installed
$(STUBS): $(VENV)/.installed
	rm -rf .stubs
	$(BIN)/python $(PIP_INSTALL) --no-deps --target .stubs tensorrt-stubs
	sed -i -e 's/\bin: list\[/in_: list[/' -e 's/channel_axis: int)/channel_axis: int = ...)/' \
		.stubs/tensorrt_bindings/tensorrt.pyi
	touch $@

types: dev $(STUBS)
	$(BIN)/mypy
	MYPYPATH=deploy/aarch64 $(BIN)/mypy --strict deploy/healthcheck.py $(addprefix deploy/aarch64/,pip_for.py arm64_probe.py arm64_check.py)
	MYPYPATH=firmware_bridge/qemu $(BIN)/mypy --strict $(addprefix firmware_bridge/qemu/,qemu_device.py play.py)

contracts: dev
	$(BIN)/lint-imports

packaging: dev  ## the wheel's contents, and a device install without torch in an environment of its own
	$(BIN)/python -m pytest tests/packaging -m "slow or not slow" -q

docs: dev  ## the site, into build/site; a broken link fails it
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

fuzz: dev  ## every parser, coverage-guided, about five seconds each (Linux, Python 3.11 or newer; else it says so)
	OMP_NUM_THREADS=1 $(BIN)/python fuzz/run.py --seconds 5

fuzz-c: dev system-deps  ## the firmware bridge's C decoder, with the Python codec beside it (clang)
	$(BIN)/python fuzz/c_decoder.py --seconds 8

sizes: dev system-deps  ## text, stack and instructions a frame of the C library on a Cortex-M4, held to budgets
	$(MAKE) -C firmware_bridge/c sizes counts PYTHON=$(abspath $(BIN)/python)

aarch64-check: dev system-deps-slow  ## the wheel in an emulated arm64 root says what it says here
	$(BIN)/python deploy/aarch64/arm64_check.py

embedded-bundle: dev  ## rebuild ecgedge/embedded.ecgb from its recipe (simulated patients; about half an hour)
	$(BIN)/python export/build_embedded.py

bench: dev  ## ratios side by side, one script a hot path (the others want arguments: see their heads)
	for script in front_end bed train_step triplet; do OMP_NUM_THREADS=1 $(BIN)/python benchmarks/$$script.py || exit 1; done

gpu-check: dev  ## training speed, DTW kernel, loader on this machine's GPU, into benchmarks/results/
	$(BIN)/python benchmarks/gpu_check.py

clean:
	rm -rf $(VENV) .venvs .aarch64 .peers build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .stubs
