#!/bin/sh
# build.sh -- makes a virtual environment with fpickle built into it, and prints
# the path of its Python on standard output; all else goes to standard error.
#
#   tools/build.sh FLAVOUR
#
# FLAVOUR   test    the release build and what the tests need
#           bench   the release build and what the benchmarks compare with
#           faults  the release build and the pools that the fault table shows
#           asan    with AddressSanitizer and UndefinedBehaviorSanitizer
#           fuzz    the same for libFuzzer, with clang
#           coverage  with line counts
#           real    the release build; tools/real_objects.sh adds the libraries
#           libraries  the release build; tools/test_libraries.sh adds libraries
#           docs    the release build and what the documentation needs
#           stubs   the release build and what compares it with its stub
#           tools   the build tools alone, nothing of fpickle
#           release the same, and what builds and checks a release
#
# PYTHON chooses the interpreter, CC the compiler.  Everything lives in
# .venv/VERSION-FLAVOUR and build/VERSION-FLAVOUR; a second call does only what
# changed since: requirements are installed again when pyproject.toml asks for
# others, sources are compiled by ninja when they are newer.
set -eu
flavour=$1
cd "$(dirname "$0")/.."
exec 3>&1 1>&2
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
unset PYTHONHOME PYTHONPATH || true

python=$(tools/find_python.sh)
version=$("$python" -I -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])')
name=$version
if [ "$flavour" != test ]; then
    name=$version-$flavour
fi
venv=.venv/$name
build=build/$name

# Prints what is missing and the Debian packages that bring it, in one line.
check_prerequisites() {
    "$python" -I - <<'END'
import os, shlex, shutil, subprocess, sys, sysconfig, tempfile
missing, packages = [], []
minor = "python%d.%d" % sys.version_info[:2]
default = os.path.realpath("/usr/bin/python3")
stem = "python3" if os.path.realpath(sys.executable) == default else minor
include = sysconfig.get_path("include")
if not os.path.exists(os.path.join(include, "Python.h")):
    missing.append("Python headers")
    packages.append(stem + "-dev")
try:
    import ensurepip, venv
except ImportError:
    missing.append("the venv module of Python")
    packages.append(stem + "-venv")
command = shlex.split(os.environ.get("CC") or "") or next(
    ([name] for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
works = False
if command:
    with tempfile.TemporaryDirectory() as folder:
        source = os.path.join(folder, "try.c")
        with open(source, "w") as file:
            file.write("#include <stdio.h>\nint main(void) { return 0; }\n")
        try:
            works = subprocess.run(
                [*command, source, "-o", os.path.join(folder, "try")],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            ).returncode == 0
        except OSError:
            pass
if not works:
    missing.append("a C compiler" if not os.environ.get("CC")
                   else "the C compiler CC=" + os.environ["CC"])
    packages += ["gcc", "libc6-dev"]
if missing:
    print("missing: %s - apt-get install %s"
          % (", ".join(missing), " ".join(packages)))
    sys.exit(1)
END
}

# One requirement a line: the build tools and the extra of this flavour.
list_requirements() {
    "$python" -I - "$1" <<'END'
import sys, tomllib
with open("pyproject.toml", "rb") as file:
    settings = tomllib.load(file)
extras = settings["project"]["optional-dependencies"]
flavour = {"asan": "test", "coverage": "test", "libraries": "test"}.get(sys.argv[1], sys.argv[1])
print(*settings["build-system"]["requires"], *extras.get(flavour, ()),
      sep="\n")
END
}

# The environment, with everything but fpickle.
requirements=$(list_requirements "$flavour")
optional=
if [ "$flavour" = test ]; then
    optional=$(list_requirements notebook && list_requirements peers)
fi
key=$(echo "$python $version $PWD" && echo "$requirements" && echo "$optional")
if [ "$(cat "$venv/requirements.stamp" 2>/dev/null)" != "$key" ]; then
    check_prerequisites
    echo "making $venv with $python"
    rm -rf "$venv" "$build"
    "$python" -m venv "$venv"
    echo "$requirements" >"$venv/requirements.txt"
    if ! "$venv/bin/python" -m pip install --quiet \
        -r "$venv/requirements.txt"; then
        echo "could not install the requirements of $venv (see above)"
        exit 1
    fi
    echo "$optional" >"$venv/optional.txt"
    if ! "$venv/bin/python" -m pip install --quiet \
        -r "$venv/optional.txt"; then
        echo "no IPython kernel, or no cloudpickle and the like, can be" \
            "installed: their tests will be skipped"
    fi
    echo "$key" >"$venv/requirements.stamp"
fi
if [ "$flavour" = tools ] || [ "$flavour" = release ]; then
    echo "$PWD/$venv/bin/python" >&3
    exit 0
fi

# fpickle itself.  Folders count as sources: a removed file changes its folder.
installed=$venv/fpickle.stamp
if [ -e "$installed" ] && [ -z "$(find src fpickle meson.build pyproject.toml \
    tools/*.ini -name __pycache__ -prune -o -newer "$installed" -print)" ]; then
    echo "$PWD/$venv/bin/python" >&3
    exit 0
fi
check_prerequisites
echo "building fpickle for Python $version ($flavour)"
touch "$installed.new"
set -- "--config-settings=build-dir=$build"
if [ -e "tools/$flavour.ini" ]; then
    set -- "$@" "--config-settings=setup-args=--native-file=$PWD/tools/$flavour.ini"
fi
# meson and ninja are found in the environment's own bin.
if ! PATH=$PWD/$venv/bin:$PATH "$venv/bin/python" -m pip install --quiet \
    --no-build-isolation --no-deps --no-index "$@" .; then
    echo "could not build fpickle for Python $version (see above)"
    exit 1
fi
mv "$installed.new" "$installed"
echo "$PWD/$venv/bin/python" >&3
