#!/bin/sh
# Every C and C++ file but copied headers is as clang-format 14 leaves it.
git ls-files -z '*.c' '*.h' '*.cpp' ':!tests/api/headers-*' | xargs -0 clang-format-14 --dry-run --Werror
