#!/bin/sh
# test_all.sh -- the test suite on every supported Python of this machine.
#
#   tools/test_all.sh [DONE]
#
# DONE is a minor version, such as 3.11, that was tested already.  Each Python
# also exchanges streams with those before it: FPICKLE_PYTHONS names their
# environments.  Ends with one line a Python and exit status 1 if any failed.
set -u
cd "$(dirname "$0")/.." || exit 1
pythons=$(tools/find_python.sh --all) || exit 1
summary=
status=0
export FPICKLE_PYTHONS=
for python in $pythons; do
    minor=$("$python" -I -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if [ "$minor" = "${1-}" ]; then
        result="tested before"
    else
        echo "== Python $minor: $python"
        if PYTHON=$python tools/test.sh test; then
            result=passed
        else
            result=FAILED
            status=1
        fi
    fi
    if environment=$(PYTHON=$python tools/build.sh test); then
        FPICKLE_PYTHONS=$environment:$FPICKLE_PYTHONS
    fi
    summary="$summary
  $minor  $result  $python"
done
echo "== all Pythons$summary"
exit $status
