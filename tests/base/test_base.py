"""src/base works and survives a full memory without an interpreter."""

import os
import pathlib
import re
import shlex
import shutil
import subprocess

import pytest

HERE = pathlib.Path(__file__).resolve().parent
SRC = HERE.parent.parent / "src"
WARNINGS = "-Wall -Wextra -Wshadow -Wconversion -Werror".split()
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
# base allocates through the test program, which can refuse.
ALLOCATOR = [
    f"-D{name}=test_{name}" for name in ("malloc", "calloc", "realloc", "free")
]


def compiler():
    """The command of the C compiler, or None."""
    if os.environ.get("CC"):
        return shlex.split(os.environ["CC"])
    for name in ("cc", "gcc", "clang"):
        if shutil.which(name):
            return [name]
    return None


def run(command, **options):
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
        timeout=60,
        **options,
    )


def build(command, folder, flags):
    """Compiles the test program into [folder]; its path."""
    flags = ["-std=c11", "-g", "-O1", f"-I{SRC}", *flags]
    program = folder / "base_test"
    objects = []
    for source in sorted((SRC / "base").glob("*.c")):
        objects.append(str(folder / f"{source.stem}.o"))
        compiled = run(
            [*command, *flags, *WARNINGS, *ALLOCATOR, "-c", str(source), "-o",
             objects[-1]]
        )
        assert compiled.returncode == 0, compiled.stdout
    linked = run(
        [*command, *flags, *WARNINGS, str(HERE / "base_test.c"), *objects,
         "-o", str(program)]
    )
    assert linked.returncode == 0, linked.stdout
    return program


def can_sanitize(command, folder):
    source = folder / "try.c"
    source.write_text("int main(void) { return 0; }\n")
    program = folder / "try"
    compiled = run([*command, *SANITIZERS, str(source), "-o", str(program)])
    return compiled.returncode == 0 and run([program]).returncode == 0


@pytest.mark.parametrize("flags", [[], SANITIZERS], ids=["plain", "sanitized"])
def test_base_without_an_interpreter(tmp_path, flags):
    command = compiler()
    if command is None:
        pytest.skip("no C compiler")
    if flags and not can_sanitize(command, tmp_path):
        pytest.skip("the C compiler has no sanitizers")
    result = run([build(command, tmp_path, flags)])
    assert result.returncode == 0, result.stdout
    program = (HERE / "base_test.c").read_text()
    for name in re.findall(r"RUN\((\w+)\);", program):
        assert f"ok {name}" in result.stdout


def test_base_under_valgrind(tmp_path):
    """Also uses of memory that has no value yet, which no sanitizer sees."""
    command = compiler()
    if command is None:
        pytest.skip("no C compiler")
    if shutil.which("valgrind") is None:
        pytest.skip("no valgrind")
    program = build(command, tmp_path, [])
    result = run(
        ["valgrind", "--quiet", "--error-exitcode=9", "--leak-check=full",
         "--show-leak-kinds=all", "--errors-for-leak-kinds=all", program]
    )
    assert result.returncode == 0, result.stdout
    assert "==" not in result.stdout
