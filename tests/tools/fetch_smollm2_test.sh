#!/bin/sh
# tools/fetch_smollm2.sh says which python has no pip, and fetches nothing.
# usage: fetch_smollm2_test.sh FETCH_SMOLLM2
set -eu
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
! "$1" "$scratch/models" /bin/false 2> "$scratch/errors"
grep -q "/bin/false has no pip: install Debian's python3-pip" "$scratch/errors"
[ -z "$(ls -A "$scratch/models")" ]
