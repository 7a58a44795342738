#!/bin/sh
# check_wheels.sh -- installs the wheel of dist/ for each supported Python of
# this machine into a clean environment, with no compiler in PATH and no
# network, and lets it test itself.
set -eu
cd "$(dirname "$0")/.."
if ! ls dist/*.whl >/dev/null 2>&1; then
    echo "missing: wheels in dist - make dist" >&2
    exit 1
fi
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
dist=$PWD/dist
for python in $(tools/find_python.sh --all); do
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    "$python" -m venv "$folder/venv"
    # PATH has the environment alone: neither cc nor anything else is found.
    (
        cd "$folder"
        export PATH="$folder/venv/bin"
        for compiler in cc gcc clang c99; do
            if command -v "$compiler" >/dev/null; then
                echo "there is a compiler: $compiler" >&2
                exit 1
            fi
        done
        python -m pip install --quiet --no-index --find-links "$dist" \
            --only-binary :all: fpickle
        python -m pip check
        python -m fpickle selftest
        fpickle selftest >selftest.log
        python -I -c '
import fpickle, importlib.metadata, importlib.resources
assert importlib.metadata.version("fpickle") == fpickle.__version__
assert importlib.resources.files("fpickle").joinpath("py.typed").is_file()'
    )
    rm -rf "$folder"
    trap - EXIT
done
