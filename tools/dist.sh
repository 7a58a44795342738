#!/bin/sh
# dist.sh -- the files of a release, in dist/ (`make dist`): the source
# distribution and a wheel for each supported Python of this machine.
#
# The source distribution is that of the last commit.  It is built twice and
# must come out equal byte by byte; its times are those of the commit
# (SOURCE_DATE_EPOCH).  The wheels are built from it, not from the working
# folder, and auditwheel gives them the oldest manylinux platform that their
# symbols allow.  Other platforms are built by cibuildwheel (pyproject.toml).
set -eu
cd "$(dirname "$0")/.."
if ! git rev-parse --verify --quiet HEAD >/dev/null 2>&1; then
    echo "missing: a git checkout, of whose last commit a release is made" >&2
    exit 1
fi
if [ -n "$(git status --porcelain)" ]; then
    echo "not in the release: what is not committed (see git status)" >&2
fi
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
pythons=$(tools/find_python.sh --all)

# build_sdist FOLDER -- from a fresh clone, so that nothing of this one gets in.
build_sdist() {
    rm -rf "$1"
    mkdir -p "$1"
    git clone --quiet --no-local --depth 1 "file://$PWD" "$1/clone"
    "$release" -m build --sdist --no-isolation --outdir "$1" "$1/clone" \
        >"$1/log" 2>&1 || {
        cat "$1/log" >&2
        exit 1
    }
    rm -rf "$1/clone"
}

release=$(tools/build.sh release)
PATH=$(dirname "$release"):$PATH
export PATH
build_sdist build/sdist-1
build_sdist build/sdist-2
sdist=$(basename build/sdist-1/*.tar.gz)
if ! cmp "build/sdist-1/$sdist" "build/sdist-2/$sdist"; then
    echo "the source distribution is not reproducible" >&2
    exit 1
fi
rm -rf dist
mkdir dist
cp "build/sdist-1/$sdist" dist/
echo "reproducible: $sdist $(sha256sum "dist/$sdist" | cut -c1-64)"

rm -rf build/wheels
for python in $pythons; do
    tools=$(PYTHON=$python tools/build.sh tools)
    PATH=$(dirname "$tools"):$PATH "$tools" -m pip wheel --quiet --no-deps \
        --no-index --no-build-isolation --wheel-dir build/wheels "dist/$sdist"
done
for wheel in build/wheels/*.whl; do
    case $wheel in
    *-linux_*)
        if "$release" -m auditwheel repair --wheel-dir dist "$wheel" \
            >build/auditwheel.log 2>&1; then
            continue
        fi
        cat build/auditwheel.log >&2
        echo "not repaired, for this platform alone: $wheel" >&2
        ;;
    esac
    cp "$wheel" dist/
done
"$release" -m twine check --strict dist/*
(cd dist && ls -l ./*)
