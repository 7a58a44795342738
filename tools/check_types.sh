#!/bin/sh
# check_types.sh -- mypy, and stubtest, over the package as it is installed.
#
# On each Python: the stub of the extension and fpickle.compat are what is there,
# and mypy (strict, see pyproject.toml) finds nothing in them, in fpickle.ext and
# in the engines.  fpickle.ext and the engines are compared with what is there on
# one Python, with the libraries that they are for.
set -eu
cd "$(dirname "$0")/.."
root=$PWD
# From an empty folder, so that the installed package is what is seen.
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
status=0

check() { # PYTHON MODULE...
    python=$1
    shift
    echo "$("$python" -V): mypy; stubtest $*"
    (cd "$folder" && "$python" -m mypy --config-file "$root/pyproject.toml" &&
        "$python" -m mypy.stubtest --allowlist "$root/tools/stubtest.allow" \
            --ignore-unused-allowlist \
            --mypy-config-file "$root/pyproject.toml" "$@") || status=1
}

for python in $(tools/find_python.sh --all); do
    environment=$(PYTHON=$python tools/build.sh stubs)
    check "$environment" fpickle._core fpickle.compat
done
export TEST_LIBRARIES="joblib dask mpi4py celery rq pyspark ipyparallel \
diskcache mypy"
environment=$(tools/test_libraries.sh --environment)
check "$environment" fpickle._core fpickle.compat fpickle.ext fpickle._engines
exit $status
