#!/bin/sh
# clang-tidy over the library and the tool, with the checks of .clang-tidy. Needs the clang preset configured.
set -eu
cmake --preset clang > build/clang.log
git ls-files 'base/*.c' 'topology/*.c' 'cache/*.c' 'kernels/*.c' 'scheduler/*.c' 'model/*.c' 'engine/*.c' 'bench/*.c' 'cli/*.c' |
    grep -v '^kernels/isa/' | xargs -P "$(nproc)" -n 4 clang-tidy-14 -p build/clang --quiet --warnings-as-errors='*' 2> build/tidy.log ||
    { grep -v 'warnings generated' build/tidy.log; exit 1; }
