#!/bin/sh
# Installs into a folder, builds the examples against it with pkg-config and with CMake, and runs one.
set -eu
prefix=$PWD/build/installed
rm -rf "$prefix" build/examples
cmake --install build/release --prefix "$prefix" > build/install.log
export PKG_CONFIG_PATH=$prefix/lib/x86_64-linux-gnu/pkgconfig:$prefix/lib/pkgconfig
export LD_LIBRARY_PATH=$prefix/lib/x86_64-linux-gnu:$prefix/lib
for source in examples/*.c; do
    cc -std=c17 -D_GNU_SOURCE -Wall -Wextra -Werror "$source" -o "build/example-$(basename "$source" .c)" \
        $(pkg-config --cflags --libs quire) -lpthread
    [ "$(wc -l < "$source")" -lt 100 ] || { echo "$source: 100 lines or more"; exit 1; }
done
cmake -S examples -B build/examples -DCMAKE_PREFIX_PATH="$prefix" > build/examples.log
cmake --build build/examples
build/example-decode tiny
build/example-toy_model 32 > build/toy_model.log || { cat build/toy_model.log; exit 1; }
nm -D --defined-only "$prefix"/lib/*/libquire.so 2>/dev/null | awk '$2 ~ /[TDBR]/ && $3 !~ /^quire_/ {print "not quire_*: " $3; bad = 1} END {exit bad}'
grep -q _quire "$prefix/share/bash-completion/completions/quire"
if command -v scdoc > /dev/null; then
    grep -q 'max_num_seqs' "$prefix/share/man/man5/quire.toml.5" && grep -q 'QUIRE_CONFIG' "$prefix/share/man/man1/quire.1" ||
        { echo "the manual pages lack what they should say"; exit 1; }
fi
