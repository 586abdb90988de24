#!/bin/sh
# ThreadSanitizer over the queues, the whole engine, ranks as threads, and the reader of requests. Debian's oneDNN brings
# libgomp, which TSan cannot see into; a folder in which libgomp.so.1 is LLVM's libomp leaves one OpenMP runtime, and that
# one tells TSan what it does.
# usage: check_tsan.sh [short|long: of tests/lanes/threads.c, default short]
set -eu
cmake --preset tsan > build/tsan.log
cmake --build --preset tsan -j "$(nproc)" --target \
    test_engine_inbox test_engine_threads test_engine_engine test_engine_ranks test_cli_job_reader lane_threads >> build/tsan.log
mkdir -p build/tsan/shim
ln -sf /usr/lib/llvm-14/lib/libomp.so.5 build/tsan/shim/libgomp.so.1
export LD_LIBRARY_PATH="$PWD/build/tsan/shim"
export TSAN_OPTIONS=ignore_noninstrumented_modules=1:halt_on_error=1:second_deadlock_stack=1
for test in engine_inbox engine_threads engine_engine engine_ranks cli_job_reader; do
    build/tsan/tests/test_$test > build/tsan/$test.log 2>&1 || { cat build/tsan/$test.log; exit 1; }
    echo "tsan: test_$test passed"
done
build/tsan/tests/lanes/lane_threads "${1:-short}"
