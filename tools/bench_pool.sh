#!/bin/sh
# bench_pool.sh -- builds fpickle beside other process pools and measures them
# (`make bench-pool`).  BENCH_ARGS is added to the arguments.
set -eu
cd "$(dirname "$0")/.."
python=$(tools/build.sh bench)
# shellcheck disable=SC2086 # several arguments are meant
exec "$python" benchmarks/pool.py ${BENCH_ARGS-} "$@"
