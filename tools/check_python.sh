#!/bin/sh
# Installs the Python package into a new virtual environment, as its users do, and runs its tests there.
# usage: check_python.sh QUIRE_TOOL [pytest options]
set -eu
tool=$(realpath "$1")
shift
venv=build/python-venv
rm -rf "$venv"
python3 -m venv "$venv"
"$venv/bin/pip" install -q --disable-pip-version-check './python[test]' > build/python-install.log 2>&1 ||
    { cat build/python-install.log; exit 1; }
"$venv/bin/mypy" --config-file python/pyproject.toml --cache-dir build/mypy python/quire
QUIRE=$tool "$venv/bin/pytest" -q -rs python/tests "$@"
