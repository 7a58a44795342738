#!/bin/sh
# test.sh -- builds fpickle and runs the test suite on one Python.
#
#   tools/test.sh test|asan
#
# PYTEST_ARGS is added to pytest's arguments.
set -eu
flavour=$1
cd "$(dirname "$0")/.."
python=$(tools/build.sh "$flavour")
if [ "$flavour" = asan ]; then
    library=$(${CC:-cc} -print-file-name=libasan.so)
    if [ ! -e "$library" ]; then
        echo "missing: libasan of the compiler ${CC:-cc} -" \
            "apt-get install libgcc-12-dev, or CC=gcc" >&2
        exit 1
    fi
    # Allocations of Python must reach the sanitizer one by one.  Leaks at exit
    # are CPython's own; the suite counts references itself.  The standard
    # library's tests ask for impossible sizes and want a MemoryError.
    export FPICKLE_SANITIZER=address
    export PYTHONMALLOC=malloc
    ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0
    export ASAN_OPTIONS=$ASAN_OPTIONS:allocator_may_return_null=1
    export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
    export LD_PRELOAD="$library"
fi
# pytest by its own program, not by -m: the working folder holds the sources of
# the package and must stay off sys.path.
# shellcheck disable=SC2086 # several arguments are meant
exec "$(dirname "$python")/pytest" ${PYTEST_ARGS-}
