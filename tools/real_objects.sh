#!/bin/sh
# real_objects.sh -- builds fpickle beside the libraries that tests/real has cases
# for, runs these, and writes docs/real-objects.md (`make real-objects`).
#
#   tools/real_objects.sh [ARGS...]    of tools/real_objects.py
#
# A library that cannot be installed is named, and its rows say so.
set -eu
cd "$(dirname "$0")/.."
python=$(tools/build.sh real)
for requirement in cloudpickle dill numpy pandas polars pyarrow scipy \
    scikit-learn sympy networkx attrs pydantic SQLAlchemy numba torch; do
    "$python" -c "
import importlib.metadata, sys
try: importlib.metadata.version(sys.argv[1])
except importlib.metadata.PackageNotFoundError: sys.exit(1)
" "$requirement" && continue
    # Later builds of torch want a GPU's libraries, which nothing here needs.
    [ "$requirement" != torch ] || requirement=torch==2.13.0
    "$python" -m pip install --quiet "$requirement" ||
        echo "cannot be installed: $requirement (see above)"
done
exec "$python" tools/real_objects.py "$@"
