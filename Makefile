# Two commands do everything on a fresh Debian 12 machine, set-up included:
#   make test     builds and runs the tests
#   make bench    builds and runs the default benchmark on a synthetic model
# `make build` is the part they share; it leaves the tool at build/release/quire.
JOBS ?= $(shell nproc)

.PHONY: build test bench setup clean

build: setup
	@cmake --preset release > build/configure.log || { cat build/configure.log; exit 1; }
	@cmake --build --preset release --target quire -j $(JOBS)

test: build
	@cmake --build --preset release -j $(JOBS)
	@ctest --preset release -j $(JOBS) -LE long

bench: build
	@build/release/quire bench
	@echo "What the words mean: docs/BENCHMARKING.md. A page with pictures: build/release/quire bench -o bench.html"

setup:
	@mkdir -p build
	@tools/setup.sh

clean:
	rm -rf build
