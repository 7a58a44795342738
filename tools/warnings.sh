#!/bin/sh
# warnings.sh -- compiles everything with gcc and with clang, as far as they are
# installed, every warning being an error (`make warnings`).
set -eu
cd "$(dirname "$0")/.."
python=$(tools/build.sh tools)
PATH=$(dirname "$python"):$PATH
export PATH
compilers=
for compiler in gcc clang; do
    if command -v "$compiler" >/dev/null; then
        compilers="$compilers $compiler"
    fi
done
if [ -z "$compilers" ]; then
    echo "missing: gcc or clang - apt-get install gcc libc6-dev" >&2
    exit 1
fi
mkdir -p build
for compiler in $compilers; do
    version=$("$python" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])')
    build=build/warnings-$version-$compiler
    rm -rf "$build"
    CC=$compiler meson setup "$build" --buildtype=release -Dwerror=true \
        -Db_lto=false >"build/warnings-$compiler.log" 2>&1 || {
        cat "build/warnings-$compiler.log"
        exit 1
    }
    meson compile -C "$build" >"build/warnings-$compiler.log" 2>&1 || {
        grep -v '^\[' "build/warnings-$compiler.log"
        echo "warnings with $compiler, Python $version (see above)" >&2
        exit 1
    }
    echo "no warnings: $compiler, Python $version"
done
