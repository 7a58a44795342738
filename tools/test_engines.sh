#!/bin/sh
# test_engines.sh -- the executors on real engines (`make test-engines`).
#
#   tools/test_engines.sh [ENGINE...]
#
# ENGINE is local, loky, dask, ray, mpi or spark; without one all of them run.
# Each gets an environment of its own with its library, where its workers live:
# .venv/engines-VERSION-ENGINE.  fpickle is not there, but in the environment of
# the tests, which a third one, ...-driver, adds.  The suite in tests/engines
# runs over each way to start the engine, and examples/anywhere.py has to print
# what it prints without an engine.
#
# One line an engine: green, failed, or could not run and why; what was printed
# is in build/engines.  Exit status 0 if all are green.
set -eu
cd "$(dirname "$0")/.."
root=$PWD
logs=$root/build/engines
mkdir -p "$logs"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
unset PYTHONHOME PYTHONPATH PYSPARK_PYTHON RAY_ADDRESS MASTER || true

# As root in a container, and with fewer cores than processes.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1
export PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe

python=$(tools/build.sh test)
pytest=$(dirname "$python")/pytest
version=$("$python" -I -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])')
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
status=0

purelib() {
    "$1" -I -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
}

say() { # ENGINE WORDS...
    engine=$1
    shift
    printf '%-6s %s\n' "$engine" "$*"
}

# Makes the environments of an engine: sets [worker] and [driver].
prepare() { # ENGINE PACKAGE...
    name=$1
    shift
    worker=$root/.venv/engines-$version-$name
    driver=$worker-driver/bin/python
    if [ "$(cat "$worker/packages.stamp" 2>/dev/null)" != "$python $*" ]; then
        rm -rf "$worker" "$worker-driver"
        "$python" -m venv "$worker"
        "$worker/bin/python" -m pip install --quiet "$@" || return 1
        "$worker/bin/python" -m venv --without-pip "$worker-driver"
        { purelib "$worker/bin/python"; purelib "$python"; } \
            >"$(purelib "$driver")/engines.pth"
        echo "$python $*" >"$worker/packages.stamp"
    fi
    worker=$worker/bin/python
    if "$worker" -I -c 'import fpickle' 2>/dev/null; then
        echo "fpickle is in the environment of the workers"
        return 1
    fi
    export FPICKLE_ENGINE_WORKER="$worker"
}

# Runs the suite over some variants.  "$@" is what goes before the interpreter.
suite() { # VARIANTS COMMAND...
    variants=$1
    shift
    (cd "$scratch" && FPICKLE_ENGINES=$variants timeout -k 10 900 "$@" \
        "$pytest" -q --color=no -p no:cacheprovider \
        "$root/tests/engines/${tests-test_engines.py}")
}

# Runs the example, which has to print what it prints here.
example() { # COMMAND... WHERE
    if [ ! -e "$scratch/expected" ]; then
        (cd "$scratch" && "$python" "$root/examples/anywhere.py") \
            >"$scratch/expected"
    fi
    for where in "$@"; do :; done
    echo "example with $where"
    (cd "$scratch" && timeout -k 10 300 "$@") >"$scratch/printed"
    cmp "$scratch/expected" "$scratch/printed"
}

# What each engine needs that pip does not bring, and how it is tested.

missing() { # ENGINE: prints what is missing, or nothing
    case $1 in
    mpi)
        command -v mpiexec >/dev/null ||
            echo "no MPI: apt-get install openmpi-bin libopenmpi-dev"
        ;;
    spark)
        [ -n "${JAVA_HOME-}" ] || command -v java >/dev/null ||
            echo "no Java: apt-get install default-jre-headless"
        ;;
    esac
}

packages() {
    case $1 in
    dask) echo distributed ;;
    loky) echo loky joblib ;;
    mpi) echo mpi4py ;;
    ray) echo 'ray[client]' ;;
    spark) echo pyspark ;;
    esac
}

check() { # ENGINE
    script=$root/examples/anywhere.py
    case $1 in
    local)
        tests='' suite local,standard "$python"
        ;;
    loky)
        suite loky,joblib,loky-bare "$driver" &&
            example "$driver" "$script" loky &&
            example "$driver" "$script" joblib
        ;;
    dask)
        suite dask,dask-client,dask-bare "$driver" &&
            example "$driver" "$script" dask
        ;;
    ray)
        suite ray "$driver" && suite ray-bare "$driver" &&
            suite ray-client "$driver" &&
            example "$driver" "$script" ray
        ;;
    mpi)
        # Three processes, of which two have no fpickle; then one that has two
        # more started.
        (cd "$scratch" && FPICKLE_ENGINES=mpi timeout -k 10 900 mpiexec \
            -n 1 "$driver" -m mpi4py.futures "$pytest" -q --color=no \
            -p no:cacheprovider "$root/tests/engines/test_engines.py" : \
            -n 2 "$worker" -m mpi4py.futures "$pytest") &&
            suite mpi-spawn mpiexec -n 1 "$driver" &&
            example mpiexec -n 3 "$driver" -m mpi4py.futures "$script" mpi
        ;;
    spark)
        suite spark "$driver" && suite spark-bare "$driver" &&
            example "$driver" "$script" spark
        ;;
    esac
}

run() { # ENGINE
    log=$logs/$1.log
    why=$(missing "$1")
    if [ -n "$why" ]; then
        say "$1" "could not run: $why"
        status=1
        return
    fi
    list=$(packages "$1")
    # shellcheck disable=SC2086 # several packages are meant
    if [ -n "$list" ] && ! prepare "$1" $list >"$log" 2>&1; then
        say "$1" "could not run: no environment with $list (see $log)"
        status=1
        return
    fi
    versions=
    for package in $list; do
        package=${package%%[*}
        versions="$versions $package $("$worker" -I -c 'import sys
from importlib.metadata import version
print(version(sys.argv[1]))' "$package"),"
    done
    started=$(date +%s)
    if check "$1" >"$log" 2>&1; then
        verdict=green
    else
        verdict=failed
        status=1
    fi
    seconds=$(($(date +%s) - started))
    counts=$(sed -n 's/^\(.*[0-9] passed.*\) in .*$/\1/p' "$log" |
        tr '\n' ';' | sed 's/;$//; s/;/; /g')
    say "$1" "$verdict:$versions ${counts:-no test ended}, $seconds s"
    if [ "$verdict" = failed ]; then
        tail -n 25 "$log" | sed 's/^/    | /'
    fi
}

if [ $# -eq 0 ]; then
    set -- local loky dask ray mpi spark
fi
for engine in "$@"; do
    case $engine in
    local | loky | dask | ray | mpi | spark) run "$engine" ;;
    *)
        say "$engine" "could not run: there is no such engine"
        status=1
        ;;
    esac
done
exit $status
