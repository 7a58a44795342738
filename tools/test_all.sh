#!/bin/sh
# test_all.sh -- `make test` on every supported Python of this machine.
#
# Each Python also exchanges streams with those before it: FPICKLE_PYTHONS names
# their environments.  All but the first leave out what does not depend on the
# Python.  The suites run side by side, two at a time, with their output in
# build/test-NAME.log, which is shown when they end.  With an odd number of
# Pythons the first one's suite runs in two parts, so that none runs alone.  Ends
# with one line a suite and exit status 1 if any failed.
set -u
cd "$(dirname "$0")/.." || exit 1
pythons=$(tools/find_python.sh --all) || exit 1
mkdir -p build
status=0
summary=
running=
FPICKLE_PYTHONS=

# Waits for the suite of the first Python in $running and shows what it said.
finish_first() {
    first=${running%% *}
    running=${running#* }
    ended=${first%%:*}
    if wait "${first##*:}"; then
        result=passed
    else
        result=FAILED
        status=1
    fi
    echo "== Python $ended"
    cat "build/test-$ended.log"
    summary="$summary
  $ended  $result"
}

# Runs `make test` for $python under the name $1, with $2 for pytest.
start() {
    case $running in *" "*" "*) finish_first ;; esac
    echo "== make test with Python $1: $python"
    PYTHON=$python FPICKLE_PYTHONS=$FPICKLE_PYTHONS PYTEST_ARGS=$2 \
        FPICKLE_REPEATED=$FPICKLE_PYTHONS make test \
        >"build/test-$1.log" 2>&1 &
    running="$running$1:$! "
}

# About half of the time of a suite: what starts processes.
half="tests/pool tests/faults tests/transport tests/multiprocessing \
tests/engines"
number=$(echo "$pythons" | wc -l)
for python in $pythons; do
    minor=$("$python" -I -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    # Built one after the other, since the suites use the environments of others.
    environment=$(PYTHON=$python tools/build.sh test) || environment=
    if [ $((number % 2)) = 1 ] && [ -n "$environment" ] &&
        [ -z "$FPICKLE_PYTHONS${PYTEST_ARGS-}" ]; then
        start "$minor-processes" "$half"
        start "$minor-rest" "$(echo "$half" | sed 's/tests/--ignore=tests/g')"
    else
        start "$minor" "${PYTEST_ARGS-}"
    fi
    if [ -n "$environment" ]; then
        FPICKLE_PYTHONS=$environment:$FPICKLE_PYTHONS
    fi
done
while [ -n "$running" ]; do
    finish_first
done
echo "== all Pythons$summary"
exit $status
