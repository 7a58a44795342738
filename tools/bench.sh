#!/bin/sh
# bench.sh -- builds fpickle beside its peers and runs the benchmarks
# (`make bench`).  BENCH_ARGS is added to the arguments.
set -eu
cd "$(dirname "$0")/.."
python=$(tools/build.sh bench)
# shellcheck disable=SC2086 # several arguments are meant
exec "$python" benchmarks/bench.py ${BENCH_ARGS-} "$@"
