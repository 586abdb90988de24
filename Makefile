# Three commands do everything on a fresh Debian 12 machine, set-up included:
#   make test     builds and runs the tests
#   make bench    builds and runs the default benchmark on a synthetic model
#   make serve    builds the Python package and serves SmolLM2, or MODEL=PATH, at http://127.0.0.1:8000
# `make build` is the part of the first two; it leaves the tool at build/release/quire.
# `make install PREFIX=/usr/local` builds the libraries too and installs them with headers, tool and manual pages.
JOBS ?= $(shell nproc)
PREFIX ?= /usr/local

.PHONY: build test bench serve install setup clean

build: setup
	@cmake --preset release > build/configure.log || { cat build/configure.log; exit 1; }
	@cmake --build --preset release --target quire -j $(JOBS)

test: build
	@cmake --build --preset release -j $(JOBS)
	@ctest --preset release -j $(JOBS) -LE long

bench: build
	@build/release/quire bench
	@echo "What the words mean: docs/BENCHMARKING.md. A page with pictures: build/release/quire bench -o bench.html"

serve: setup
	@echo "building the Python package into build/venv: minutes, the first time"
	@python3 -m venv build/venv
	@build/venv/bin/pip install --quiet --disable-pip-version-check './python[serve]'
	@model="$(MODEL)"; [ -n "$$model" ] || model=$$(tools/fetch_smollm2.sh build/models build/venv/bin/python); \
		exec build/venv/bin/quire-serve "$$model"

install: build
	@cmake --build --preset release -j $(JOBS) --target quire_shared quire_static man
	@cmake --install build/release --prefix "$(PREFIX)"

setup:
	@mkdir -p build
	@tools/setup.sh

clean:
	rm -rf build
