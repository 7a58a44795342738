#!/bin/sh
# find_python.sh -- prints interpreters that this project can use, one a line.
#
#   tools/find_python.sh         the one `make` uses: $PYTHON if set, else
#                                python3 if it will do, else the newest found
#   tools/find_python.sh --all   the newest patch release of every supported
#                                minor version found on this machine
#
# Supported are the versions that pyproject.toml names as classifiers.  A later
# CPython is taken when $PYTHON or python3 leads to it.  Exit status 1 and one
# line on standard error when there is none.
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
supported=$(sed -n 's/.*Python :: \(3\.[0-9][0-9]*\)".*/\1/p' \
    "$root/pyproject.toml")

# Prints "MAJOR.MINOR.PATCH PATH" if $1 runs a CPython >= 3.11 with a GIL.
describe() {
    "$1" -I -c '
import os, sys, sysconfig
if (sys.implementation.name == "cpython" and sys.version_info >= (3, 11)
        and not sysconfig.get_config_var("Py_GIL_DISABLED")):
    print("%d.%d.%d" % sys.version_info[:3],
          os.path.realpath(sys.executable))
' 2>/dev/null </dev/null
}

candidates() {
    for version in $supported; do
        (
            IFS=:
            for folder in $PATH; do
                echo "$folder/python$version"
            done
        )
        for prefix in "${PYENV_ROOT:-${HOME:-/nonexistent}/.pyenv}" \
            "$(pyenv root 2>/dev/null)"; do
            ls -d "$prefix/versions/$version".*/bin/python3 2>/dev/null
        done
    done
    (
        IFS=:
        for folder in $PATH; do
            echo "$folder/python3"
        done
    )
}

# "VERSION PATH" of the newest patch release of each supported version, oldest
# version first; of equal ones the first in PATH.
list_all() {
    candidates | awk '!seen[$0]++' | while read -r path; do
        if [ -x "$path" ]; then
            describe "$path"
        fi
    done | while read -r version path; do
        for wanted in $supported; do
            if [ "${version%.*}" = "$wanted" ]; then
                echo "$version $path"
            fi
        done
    done | sort -s -t. -k1,1n -k2,2n -k3,3nr | awk '{
        split($1, v, ".")
        if (!seen[v[1] "." v[2]]++) { print }
    }'
}

if [ "${1-}" = --all ]; then
    found=$(list_all)
elif [ -n "${PYTHON-}" ]; then
    found=$(describe "$PYTHON")
    if [ -z "$found" ]; then
        echo "missing: PYTHON=$PYTHON is not a CPython 3.11 or later" >&2
        exit 1
    fi
else
    found=$(describe python3)
    if [ -z "$found" ]; then
        found=$(list_all | tail -n 1)
    fi
fi
if [ -z "$found" ]; then
    echo "missing: Python 3.11 or later - apt-get install" \
        "python3 python3-dev python3-venv" >&2
    exit 1
fi
echo "$found" | sed 's/^[^ ]* //'
