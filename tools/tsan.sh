#!/bin/sh
# tsan.sh -- the C tests of the transport under ThreadSanitizer, with threads in
# place of processes (`make tsan`).
set -eu
cd "$(dirname "$0")/.."
# shellcheck disable=SC2086 # a command with its arguments is meant
set -- ${CC:-cc}
if ! command -v "$1" >/dev/null; then
    echo "missing: the C compiler $1 - apt-get install gcc libc6-dev" >&2
    exit 1
fi
if ! printf 'int main(void) { return 0; }\n' |
    ${CC:-cc} -fsanitize=thread -x c - -o /dev/null 2>/dev/null; then
    echo "missing: ThreadSanitizer for ${CC:-cc} - apt-get install libtsan2" >&2
    exit 1
fi
PYTEST_ARGS="${PYTEST_ARGS-} -k under_thread_sanitizer tests/transport"
export PYTEST_ARGS
exec tools/test.sh test
