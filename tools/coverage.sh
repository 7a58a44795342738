#!/bin/sh
# coverage.sh -- the test suite on a build that counts lines, and which lines of
# the C core it ran (`make coverage`).
#
#   COVERAGE_MINIMUM=90   per cent; exit status 1 below
#   COVERAGE_TESTS=1      0: only print what earlier runs have counted
set -eu
cd "$(dirname "$0")/.."
if ! command -v "${GCOV:-gcov}" >/dev/null; then
    echo "missing: gcov - apt-get install gcc" >&2
    exit 1
fi
CC=${CC:-gcc}
export CC
python=$(tools/build.sh coverage)
build=build/$(basename "$(dirname "$(dirname "$python")")")
status=0
if [ "${COVERAGE_TESTS:-1}" = 1 ]; then
    find "$build" -name '*.gcda' -exec rm -f {} +
    # Counting makes code slow and stack frames large: as under a sanitizer.
    # shellcheck disable=SC2086 # several arguments are meant
    FPICKLE_SANITIZER=coverage "$(dirname "$python")/pytest" \
        ${PYTEST_ARGS-} || status=$?
fi
"$python" -P tools/coverage.py "$build" "${COVERAGE_MINIMUM:-90}" || status=1
exit $status
