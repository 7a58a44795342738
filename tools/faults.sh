#!/bin/sh
# faults.sh -- builds fpickle and writes docs/faults.md (`make faults`).
set -eu
cd "$(dirname "$0")/.."
python=$(tools/build.sh test)
exec "$python" tools/faults.py "$@"
