#!/bin/sh
# valgrind.sh -- the C tests, which need no interpreter, under valgrind
# (`make valgrind`).
set -eu
cd "$(dirname "$0")/.."
if ! command -v valgrind >/dev/null; then
    echo "missing: valgrind - apt-get install valgrind libc6-dbg" >&2
    exit 1
fi
PYTEST_ARGS="${PYTEST_ARGS-} -k under_valgrind tests/base tests/transport"
export PYTEST_ARGS
exec tools/test.sh test
