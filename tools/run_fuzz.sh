#!/usr/bin/env bash
# Fuzzes each target of tests/fuzz for some seconds, from its corpus, and prints a line each; stops at the first failure
# and says where the input is that shows it. New inputs stay in the build folder.
# usage: run_fuzz.sh [SECONDS of each, default 10] [TARGET...]
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-10}
[ $# -eq 0 ] || shift
mkdir -p build
cmake --preset fuzz > build/fuzz.log && cmake --build --preset fuzz --target fuzz -j "$(nproc)" >> build/fuzz.log || { tail -n 30 build/fuzz.log; exit 1; }

targets=${*:-$(cd tests/fuzz && ls fuzz_*.c | sed 's/^fuzz_//; s/\.c$//')}
for target in $targets; do
    found=build/fuzz/found/$target
    mkdir -p "$found"
    build/fuzz/tests/fuzz/fuzz_"$target" -max_total_time="$seconds" -max_len=65536 -timeout=10 -rss_limit_mb=1024 \
        -print_final_stats=1 -artifact_prefix="$found/failure-" "$found" tests/fuzz/corpus/"$target" \
        > "$found.log" 2>&1 || { grep -v '^#' "$found.log" | tail -n 40; echo "fuzz: $target failed: $found"; exit 1; }
    printf '%-16s %9s runs, no failure\n' "$target" "$(sed -n 's/^stat::number_of_executed_units: *//p' "$found.log")"
done
