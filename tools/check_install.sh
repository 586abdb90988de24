#!/bin/sh
# Installs into a folder, builds the examples against it with pkg-config and with CMake, and runs one.
set -eu
prefix=$PWD/build/installed
rm -rf "$prefix" build/examples build/release/libquire* # `make install` builds what it installs
make install PREFIX="$prefix" > build/install.log
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
if pkg-config --exists libmicrohttpd; then
    make -s -C examples/http_server OUTPUT="$PWD/build/example-serve" CFLAGS="-O2 -Wall -Wextra -Werror"
    [ "$(wc -l < examples/http_server/serve.c)" -lt 200 ] || { echo "examples/http_server/serve.c: 200 lines or more"; exit 1; }
    tests/install/http_server_test.py build/example-serve
else
    echo "examples/http_server is not built: libmicrohttpd-dev is missing"
fi
build/example-toy_model 32 > build/toy_model.log || { cat build/toy_model.log; exit 1; }
libdir=$(pkg-config --variable=libdir quire)
archive=$(pkg-config --static --libs quire | sed 's/-lquire/-l:libquire.a/') # -lquire would be the shared one
cc -std=c17 -D_GNU_SOURCE examples/minimal.c $(pkg-config --cflags quire) -o build/use-c-static $archive
g++ -std=c++17 tests/install/use.cpp $(pkg-config --cflags --libs quire) -o build/use-cxx
g++ -std=c++17 tests/install/use.cpp $(pkg-config --cflags quire) -o build/use-cxx-static $archive
for program in "c-static tiny" cxx cxx-static; do
    build/use-$program > build/use.log 2>&1 || { cat build/use.log; exit 1; }
done

# CMake projects of one language; quire::quire wants nothing that the library has inside.
for use in "C $PWD/examples/minimal.c" "CXX use.cpp"; do
    for library in quire::quire quire::static; do
        folder=build/use-cmake
        hidden=$([ $library = quire::static ] || printf -- '-DCMAKE_DISABLE_FIND_PACKAGE_%s=ON ' dnnl OpenMP PkgConfig Threads)
        rm -rf $folder
        cmake -S tests/install -B $folder -DCMAKE_PREFIX_PATH="$prefix" -DLANGUAGE="${use%% *}" -DSOURCE="${use#* }" \
            -DLIBRARY=$library $hidden > build/use.log 2>&1 && cmake --build $folder >> build/use.log 2>&1 &&
            $folder/use >> build/use.log 2>&1 || { cat build/use.log; echo "CMake, $use, $library"; exit 1; }
    done
done
if cmake -S tests/install -B build/use-cmake -DCMAKE_DISABLE_FIND_PACKAGE_dnnl=ON > build/use.log 2>&1 ||
    ! grep -q 'quire::static lacks: DNNL::dnnl' build/use.log; then
    cat build/use.log
    echo "what quire::static lacks is not said"
    exit 1
fi

# Both libraries define the functions of the headers and nothing else, of whatever class (weak, unique, ...).
nm -D --defined-only --with-symbol-versions "$libdir/libquire.so" | sed 's/@@QUIRE_0.1$//; / A QUIRE_0.1/d' > build/shared.nm
nm -g --defined-only "$libdir/libquire.a" | sed '/:$/d; /^$/d' > build/static.nm
grep -hoE '\bquire_[a-z_]+\(' $(ls "$prefix"/include/quire/*.h | grep -v /mpi.h) | tr -d '(' | sort -u > build/declared
for library in shared static; do
    if grep -v ' T quire_[a-z_]*$' build/$library.nm; then echo "the $library library defines these too"; exit 1; fi
    awk '{print $3}' build/$library.nm | sort | comm -3 - build/declared | grep . && echo "not in both the $library library and the headers" && exit 1
done
if pkg-config --exists quire_mpi; then
    cc -std=c17 -Wall -Wextra -Werror tests/mpi/refusals.c $(pkg-config --cflags --libs quire_mpi) -o build/use-mpi
    build/use-mpi alone > build/use.log || { cat build/use.log; exit 1; }
    nm -D --defined-only "$libdir/libquire_mpi.so" | grep -v ' T quire_mpi_[a-z_]*$' && echo "libquire_mpi defines these too" && exit 1
fi
readelf -d "$libdir/libquire.so" | grep -q 'soname: \[libquire.so.0.1\]' || { echo "the soname is not libquire.so.0.1"; exit 1; }
grep -q _quire "$prefix/share/bash-completion/completions/quire"
if command -v scdoc > /dev/null; then
    grep -q 'max_num_seqs' "$prefix/share/man/man5/quire.toml.5" && grep -q 'QUIRE_CONFIG' "$prefix/share/man/man1/quire.1" ||
        { echo "the manual pages lack what they should say"; exit 1; }
fi
