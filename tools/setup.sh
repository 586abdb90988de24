#!/bin/sh
# Installs the Debian packages that are missing: those to build and test, and those named as arguments besides.
set -eu
packages="build-essential cmake ninja-build pkg-config python3-dev python3-venv libdnnl-dev libhwloc-dev libcmocka-dev
libtomlplusplus-dev libjansson-dev libxxhash-dev libsimde-dev libjs-chart.js zlib1g-dev libcurl4-openssl-dev ocl-icd-opencl-dev $*"

missing=
for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
mkdir -p build

as_root=
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "setup: please install as root:$missing" >&2; exit 1; }
    as_root=sudo
fi
echo "setup: installing$missing"
export DEBIAN_FRONTEND=noninteractive
{ $as_root apt-get update -q && $as_root apt-get install -qy --no-install-recommends $missing; } > build/setup.log 2>&1 ||
    { tail -n 20 build/setup.log >&2; exit 1; }
