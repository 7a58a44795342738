#!/bin/sh
# test_libraries.sh -- fpickle in the place of other libraries' picklers: makes an
# environment with these libraries and runs tests/libraries (`make test-libraries`).
#
#   tools/test_libraries.sh             the tests
#   tools/test_libraries.sh --peers     the test-suites of joblib and loky, with
#                                       cloudpickle and with fpickle
#   tools/test_libraries.sh --environment   only makes it, and prints its Python
#
# Libraries are installed one by one; which could not be, and why, is said at the
# end, and their tests are skipped by name.  TEST_LIBRARIES="joblib torch" tries
# only these.  The exit status is that of the tests.
set -eu
cd "$(dirname "$0")/.."
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
python=$(tools/build.sh libraries)
bin=$(dirname "$python")
venv=$(dirname "$bin")

# The name, and what is installed for it.
libraries='joblib:joblib loky numpy psutil pytest-timeout pytest-asyncio threadpoolctl
dask:distributed numpy
mpi4py:mpi4py
celery:celery
rq:rq fakeredis
pyspark:pyspark
torch:torch==2.13.0
ipyparallel:ipyparallel
diskcache:diskcache
mypy:mypy>=1.18'

missing=
note() {
    missing="$missing
  $1: $2"
}
for name in ${TEST_LIBRARIES-joblib dask mpi4py celery rq pyspark torch \
    ipyparallel diskcache}; do
    line=$(echo "$libraries" | grep "^$name:") || {
        echo "no library of the name $name is tested here" >&2
        exit 1
    }
    stamp=$venv/$name.stamp
    if [ "$(cat "$stamp" 2>/dev/null)" = "$line" ]; then
        continue
    fi
    echo "installing $name" >&2
    # shellcheck disable=SC2086 # several requirements are meant
    if "$python" -m pip install --quiet ${line#*:} 2>"$venv/$name.log" >&2; then
        echo "$line" >"$stamp"
    else
        note "$name" "$(grep -i error "$venv/$name.log" | tail -1)"
    fi
done
for program in mpiexec:openmpi-bin redis-server:redis-server \
    java:default-jre-headless; do
    if ! command -v "${program%:*}" >/dev/null; then
        note "${program%:*}" "not found: apt-get install ${program#*:}"
    fi
done
report() {
    if [ -n "$missing" ]; then
        echo "not tested, because it could not be installed:$missing"
    fi
}

status=0
if [ "${1-}" = --environment ]; then
    echo "$python"
    report >&2
    exit 0
fi
if [ "${1-}" = --peers ]; then
    shift
    "$python" tools/peer_suites.py "build/peers" "$@" || status=$?
else
    # pytest by its own program, not by -m: see tools/test.sh.
    # shellcheck disable=SC2086 # several arguments are meant
    "$bin/pytest" tests/libraries ${PYTEST_ARGS-} || status=$?
fi
report
exit $status
