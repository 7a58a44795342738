#!/bin/sh
# run.sh -- builds fpickle and runs the example with it (`make run`).
set -eu
cd "$(dirname "$0")/.."
python=$(tools/build.sh test)
exec "$python" examples/demo.py "$@"
