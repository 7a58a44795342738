"""src/transport works without an interpreter: rings, bells, segments, arenas.

Built and run as programs of their own: plain, under the sanitizers, under
valgrind; and a model of how ring and bell work together, in every order.
"""

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
SRC = HERE.parent.parent / "src"
WARNINGS = "-Wall -Wextra -Wshadow -Wconversion -Werror".split()
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
# The sources below the dispatch, which has tests of its own.
SOURCES = ["arena", "bell", "channel", "cpus", "ring", "segment"]
TESTS = sorted(HERE.glob("*_test.c"))

pytestmark = [
    pytest.mark.any_python,
    pytest.mark.skipif(
        not sys.platform.startswith("linux"), reason="the tests ask Linux"
    ),
]


def compiler():
    """The command of the C compiler, or None."""
    if os.environ.get("CC"):
        return shlex.split(os.environ["CC"])
    for name in ("cc", "gcc", "clang"):
        if shutil.which(name):
            return [name]
    return None


def run(command, timeout=300, **options):
    # Programs of their own: nothing of a sanitized Python may leak in.
    env = {
        name: value
        for name, value in os.environ.items()
        if name not in ("LD_PRELOAD", "ASAN_OPTIONS", "UBSAN_OPTIONS")
    }
    return subprocess.run(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        **options,
    )


def build(command, folder, flags, sources=None):
    """Compiles [sources] into a program in [folder]; its path."""
    if sources is None:
        sources = [SRC / "transport" / f"{name}.c" for name in SOURCES]
        sources += TESTS
    program = folder / "program"
    linked = run(
        [*command, "-std=c11", "-g", "-O1", f"-I{SRC}", *WARNINGS, *flags,
         *map(str, sources), "-pthread", "-o", str(program)]
    )
    assert linked.returncode == 0, linked.stdout
    return program


def can_use(command, folder, flags):
    source = folder / "try.c"
    source.write_text("int main(void) { return 0; }\n")
    program = folder / "try"
    compiled = run([*command, *flags, str(source), "-o", str(program)])
    return compiled.returncode == 0 and run([program]).returncode == 0


def check_output(result):
    assert result.returncode == 0, result.stdout
    names = [
        name
        for test in TESTS
        for name in re.findall(r"^    RUN\((\w+)\);", test.read_text(), re.M)
    ]
    assert len(names) > 40
    assert [n for n in names if f"ok {n}" not in result.stdout] == []
    assert "FAILED" not in result.stdout


@pytest.fixture
def cc():
    command = compiler()
    if command is None:
        pytest.skip("no C compiler")
    return command


@pytest.mark.parametrize("flags", [[], SANITIZERS], ids=["plain", "sanitized"])
def test_transport_without_an_interpreter(cc, tmp_path, flags):
    if flags and not can_use(cc, tmp_path, flags):
        pytest.skip("the C compiler has no sanitizers")
    effort = "20" if flags else "100"
    check_output(run([build(cc, tmp_path, flags), effort]))


def test_transport_under_valgrind(cc, tmp_path):
    """Also uses of memory that has no value yet, which no sanitizer sees."""
    if shutil.which("valgrind") is None:
        pytest.skip("no valgrind")
    result = run(
        ["valgrind", "--quiet", "--error-exitcode=9", "--leak-check=full",
         "--show-leak-kinds=definite",
         # What libc keeps of ended threads is "possibly" lost.
         "--errors-for-leak-kinds=definite",
         # Threads take turns here, and each must have its turn.
         "--fair-sched=try",
         # Newer debug information is not read everywhere.
         build(cc, tmp_path, ["-gdwarf-4"]), "1"]
    )
    check_output(result)
    assert "==" not in result.stdout


def test_transport_where_there_is_no_futex(cc, tmp_path):
    """The bell of other systems, which looks again in short intervals."""
    program = build(cc, tmp_path, ["-DFPK_BELL_WITHOUT_FUTEX"])
    check_output(run([program, "2"]))


def test_dispatch_without_memory(cc, tmp_path):
    """Each allocation of the dispatch fails once."""
    flags = ["-D_GNU_SOURCE", "-Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc"]
    if not can_use(cc, tmp_path, flags):
        pytest.skip("the linker has no --wrap")
    flags += SANITIZERS if can_use(cc, tmp_path, SANITIZERS) else []
    sources = sorted((SRC / "transport").glob("*.c"))
    faults = HERE / "dispatch_faults.c"
    program = build(cc, tmp_path, flags, [*sources, faults])
    result = run([program])
    assert result.returncode == 0, result.stdout
    assert "ok answers" in result.stdout and "ok dies" in result.stdout


def test_interleavings(cc, tmp_path):
    """Ring and bell in every order of steps, with store buffers; and the same
    with one part left out each time, which has to be found."""
    program = build(cc, tmp_path, ["-O2"], [HERE / "interleavings.c"])
    result = run([program])
    assert result.returncode == 0, result.stdout
    assert "ok as it is" in result.stdout
    found = re.findall(r"^ok without (.*): ", result.stdout, re.M)
    assert len(found) >= 6, result.stdout


def test_transport_under_thread_sanitizer(cc, tmp_path):
    flags = ["-fsanitize=thread"]
    if not can_use(cc, tmp_path, flags):
        pytest.skip("the C compiler has no thread sanitizer")
    # Fences, of which it knows nothing, only ever add order.
    if can_use(cc, tmp_path, [*flags, "-Wno-tsan", "-Werror"]):
        flags.append("-Wno-tsan")
    result = run([build(cc, tmp_path, flags), "5", "threads"])
    check_output(result)
    assert "WARNING" not in result.stdout
