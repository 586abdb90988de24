#!/usr/bin/env bash
# Mutants of everything that is read: models and GGUF files whole and in parts, configurations, traces, results, logs and
# lines of requests, under a limit of time for each and of memory. Build with sanitizers.
# usage: files.sh short|long BUILD
set -u
cd "$(dirname "$0")/../.."
form=$1 build=$2
export ASAN_OPTIONS=${ASAN_OPTIONS-}:abort_on_error=1:hard_rss_limit_mb=1024:max_allocation_size_mb=512

for source in tests/fuzz/fuzz_*.c; do
    target=$(basename "$source" .c)
    corpus=tests/fuzz/corpus/${target#fuzz_}
    case $form/$target in
    short/fuzz_model) total=25 ;;
    short/*) total=300 ;;
    long/fuzz_model) total=5000 ;;
    long/fuzz_configuration) total=2500 ;;
    long/*) total=12000 ;;
    *) echo "usage: $0 short|long BUILD" >&2; exit 2 ;;
    esac
    inputs=$(find "$corpus" -type f | wc -l)
    printf '%-20s ' "$target"
    "$build/tests/fuzz/$target" "$corpus" $(((total + inputs - 1) / inputs)) 4711 2> "$build/files.log" && continue
    tail -n 40 "$build/files.log"
    echo "FAILED: $target"
    exit 1
done
