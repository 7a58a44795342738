#!/bin/sh
# faults.sh -- builds fpickle beside its peers and writes docs/faults.md (`make faults`).
set -eu
cd "$(dirname "$0")/.."
python=$(tools/build.sh faults)
exec "$python" tools/faults.py "$@"
