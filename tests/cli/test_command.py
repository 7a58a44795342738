"""The command line itself: options, help, mistakes."""

import importlib
import sys

import fpickle
import pytest

COMMAND = (sys.executable, "-m", "fpickle")


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_version(run, option):
    result = run(*COMMAND, option)
    assert (result.status, result.err) == (0, "")
    assert result.out == f"fpickle {fpickle.__version__}\n"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["-h"], ["help"], ["run", "--help"], ["run", "-h"]]
)
def test_help(run, arguments):
    result = run(*COMMAND, *arguments)
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith("usage: fpickle run SCRIPT")


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        ([], "usage:"),
        (["fly"], "fpickle: unknown command 'fly'"),
        (["run"], "fpickle: run: a program is missing"),
        (["run", "-c"], "argument expected for the -c option"),
        (["run", "-m"], "argument expected for the -m option"),
        (["run", "--fast", "x.py"], "unknown option --fast"),
        (["run", "-O", "x.py"], "unknown option -O"),
    ],
)
def test_mistakes(run, arguments, complaint):
    result = run(*COMMAND, *arguments)
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith(("fpickle: ", "usage: ")) and complaint in result.err
    assert "usage: fpickle run SCRIPT" in result.err


def test_options_after_the_program_are_the_program_s(run, tmp_path):
    (tmp_path / "show.py").write_text("import sys; print(sys.argv[1:])")
    result = run(*COMMAND, "run", "show.py", "--help", "-m", "--", "-", cwd=tmp_path)
    assert result.out == "['--help', '-m', '--', '-']\n"


def test_main_as_a_function(capsys):
    main = importlib.import_module("fpickle.__main__").main
    main(["--version"])
    assert capsys.readouterr().out == f"fpickle {fpickle.__version__}\n"
    with pytest.raises(SystemExit) as exit:
        main([])
    assert exit.value.code == 2


def test_the_console_script(run, command_path, tmp_path):
    (tmp_path / "neighbour.py").write_text("value = 5")
    (tmp_path / "show.py").write_text(
        "import sys, neighbour; print(sys.argv, sys.path[0], neighbour.value)"
    )
    result = run(command_path, "run", "show.py", "x", cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    assert result.out == f"['show.py', 'x'] {tmp_path.resolve()} 5\n"


def test_multiprocessing_under_run(run, tmp_path):
    (tmp_path / "lambdas.py").write_text(
        "import multiprocessing\n"
        "if __name__ == '__main__':\n"
        "    k = 3\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(pool.map(lambda x: x * k, [1, 2]))\n"
    )
    plain = run(sys.executable, "lambdas.py", cwd=tmp_path)
    assert plain.status == 1 and "lambda" in plain.err
    result = run(*COMMAND, "run", "lambdas.py", cwd=tmp_path)
    assert (result.status, result.out, result.err) == (0, "[3, 6]\n", "")
    result = run(*COMMAND, "run", "-m", "lambdas", cwd=tmp_path)
    assert (result.status, result.out, result.err) == (0, "[3, 6]\n", "")


def test_a_program_that_imported_multiprocessing_by_parts(run):
    code = (
        "import concurrent.futures.process, sys\n"
        "from multiprocessing import reduction\n"
        "print('reducer_override' in vars(reduction.ForkingPickler))\n"
        "print(type(reduction.__loader__).__name__, reduction.__spec__.loader\n"
        "      is reduction.__loader__, len(sys.meta_path))\n"
    )
    plain = run(sys.executable, "-c", code)
    result = run(*COMMAND, "run", "-c", code)
    assert plain.out.splitlines()[0] == "False", plain
    assert result.out.splitlines()[0] == "True", result
    assert plain.out.splitlines()[1] == result.out.splitlines()[1]
