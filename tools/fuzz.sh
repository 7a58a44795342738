#!/bin/sh
# fuzz.sh -- builds fpickle and the harness with clang's libFuzzer and runs the
# targets (`make fuzz`).
#
#   FUZZ_SECONDS=60   for each target
#   FUZZ_ARGS=...     more arguments for fuzz/run.py: names of targets
set -eu
cd "$(dirname "$0")/.."
CC=${CC:-clang}
export CC
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/try.c" <<'END'
#include <stddef.h>
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    return size > 1 && data[0] == 1 && data[1] == 2;
}
END
# shellcheck disable=SC2086 # CC may have arguments
if ! $CC -fsanitize=fuzzer,address,undefined "$folder/try.c" \
    -o "$folder/try" 2>/dev/null; then
    echo "missing: clang with libFuzzer (CC=$CC) - apt-get install clang" \
        "libclang-rt-14-dev, or the libclang-rt of another clang" >&2
    exit 1
fi
python=$(tools/build.sh fuzz)
# shellcheck disable=SC2086 # several arguments are meant
exec "$python" -P fuzz/run.py --seconds "${FUZZ_SECONDS:-60}" ${FUZZ_ARGS-} "$@"
