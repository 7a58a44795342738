#!/bin/bash
# release_check.sh -- the check-list of a release (`make release-check`).
#
#   tools/release_check.sh [ITEM...]
#
# Runs every item, or those that are named, and prints one line of result for
# each; the output of an item is in build/release-check/ITEM.log.  Exit status
# 1 if any item fails.  Nothing is published.
set -u
cd "$(dirname "$0")/.." || exit 1
exec </dev/null
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
unset PYTHONHOME PYTHONPATH MAKEFLAGS MFLAGS MAKELEVEL
version=$(sed -n "s/^ *version: '\(.*\)',/\1/p" meson.build)
logs=build/release-check
mkdir -p "$logs"

# Each item is a function below; this is their order, and what they promise.
items='
tree       nothing uncommitted: a release is made of a commit
version    a section of CHANGELOG.md has the version; a date if it is tagged
warnings   gcc and clang compile it without a warning
suite      the test suite passes on every supported Python here
asan       the test suite passes under the sanitizers
valgrind   valgrind finds nothing in the rooms without an interpreter
dist       the source distribution is reproducible; wheels; twine check
wheels     the wheels pass their selftest, installed without a compiler
extras     [cli] [test] install beside the wheel; pip check
engines    the extra [engines] can be resolved beside the wheel
types      mypy and stubtest: the stub and the annotations are what is there
docs       the documentation builds without a warning
sources    the source distribution has what the tests need
'

check_tree() {
    git status --porcelain
    test -z "$(git status --porcelain)"
}

check_version() {
    grep -n "^## \[$version\]" CHANGELOG.md || return 1
    if git describe --exact-match --tags --match "v$version" 2>/dev/null; then
        grep -q "^## \[$version\] - 2[0-9-]*$" CHANGELOG.md
    fi
}

check_warnings() { make warnings; }
check_suite() { make test-all; }
check_asan() { make asan; }
check_valgrind() { make valgrind; }
check_dist() { make dist; }
check_wheels() { tools/check_wheels.sh; }

# The wheel of the default Python in a fresh environment: $folder/venv.
make_environment() {
    folder=$(mktemp -d) &&
        "$(tools/find_python.sh)" -m venv "$folder/venv" &&
        "$folder/venv/bin/pip" install --quiet --no-index \
            --find-links dist --only-binary :all: fpickle
}

check_extras() {
    local folder status=1
    make_environment && (
        "$folder/venv/bin/pip" install --quiet --find-links dist \
            "fpickle[cli,test]==$version" &&
            "$folder/venv/bin/pip" check &&
            "$folder/venv/bin/python" -I -c 'import rich, pytest, fpickle'
    ) && status=0
    rm -rf "$folder"
    return $status
}

check_engines() {
    local folder status=1
    make_environment && "$folder/venv/bin/pip" install --dry-run --quiet \
        --find-links dist "fpickle[engines]==$version" && status=0
    rm -rf "$folder"
    return $status
}

check_types() { tools/check_types.sh; }
check_docs() { make docs; }

check_sources() {
    local name status=0
    tar -tzf "dist/fpickle-$version.tar.gz" >"$logs/names" || return 1
    for name in LICENSE README.md CHANGELOG.md SECURITY.md PKG-INFO \
        pyproject.toml meson.build Makefile src/wire/opcodes.def \
        fpickle/py.typed tests/conftest.py docs/design.md; do
        if ! grep -qx "fpickle-$version/$name" "$logs/names"; then
            echo "not in the source distribution: $name"
            status=1
        fi
    done
    return $status
}

wanted=" $* "
failed=0
while read -r item promise; do
    if [ -z "$item" ] || { [ $# -gt 0 ] && [ "${wanted/ $item /}" = "$wanted" ]; }
    then
        continue
    fi
    wanted=${wanted/ $item / }
    started=$SECONDS
    if "check_$item" >"$logs/$item.log" 2>&1; then
        result="ok    "
    else
        result=FAILED
        failed=$((failed + 1))
    fi
    printf '%s %-9s %s (%d s)\n' "$result" "$item" "$promise" \
        $((SECONDS - started))
    if [ "$result" = FAILED ]; then
        tail -n 5 "$logs/$item.log" | sed 's/^/         | /'
    fi
done <<<"$items"
if [ $# -gt 0 ] && [ -n "${wanted// /}" ]; then
    echo "there is no item ${wanted}" >&2
    exit 2
fi
echo "fpickle $version: $failed failed"
[ "$failed" = 0 ]
