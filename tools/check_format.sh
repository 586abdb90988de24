#!/bin/sh
# Every C and C++ file is as clang-format 14 leaves it.
git ls-files -z '*.c' '*.h' '*.cpp' | xargs -0 clang-format-14 --dry-run --Werror
