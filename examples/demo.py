"""Shows what fpickle is for: an ordinary script, first plain, then with it.

Runs codebase_report.py with this Python as it is, which fails; then with
`python -m fpickle run`, under spawn and under forkserver. Further arguments
are passed to the script, for example ``--limit 200``.

Exit status 0 if the plain run fails as it should and the others agree with a
serial run of the same analysis.
"""

import pathlib
import subprocess
import sys
import time

FOLDER = pathlib.Path(__file__).resolve().parent
SCRIPT = "codebase_report.py"
TIMED = " workers ("  # the one line of a report that differs between runs


def say(text):
    print(f"\n==> {text}\n", flush=True)


def run(*command):
    """Runs python and shows what it prints; returns status and output."""
    print("$ python", *command, flush=True)
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *command], cwd=FOLDER, stdout=subprocess.PIPE, text=True
    )
    lines = []
    for line in process.stdout:
        print("  |", line, end="", flush=True)
        lines.append(line)
    status = process.wait()
    seconds = time.perf_counter() - start
    print(f"  exit status {status} after {seconds:.1f} s", flush=True)
    return status, lines


def fails_plainly(arguments):
    command = [SCRIPT, "--start-method", "spawn", *arguments]
    print("$ python", *command, flush=True)
    done = subprocess.run(
        [sys.executable, *command], cwd=FOLDER, capture_output=True, text=True
    )
    for line in done.stderr.strip().splitlines()[-1:]:
        print("  |", line)
    print(f"  exit status {done.returncode}")
    return done.returncode == 1 and (
        "Can't pickle" in done.stderr or "Can't get local object" in done.stderr
    )


def main():
    arguments = sys.argv[1:]
    say("An ordinary script: its workers get lambdas, nested functions, methods.\n"
        "    With plain Python it fails:")  # fmt: skip
    if not fails_plainly(arguments):
        say("The plain run should have failed because of a lambda.")
        return 1

    say("The same file under fpickle, with spawn, compared with a serial run:")
    status, spawned = run("-m", "fpickle", "run", SCRIPT,
                          "--start-method", "spawn", "--check", *arguments)  # fmt: skip
    if status != 0:
        say("The run under spawn has failed.")
        return 1

    say("And with forkserver:")
    status, served = run("-m", "fpickle", "run", SCRIPT,
                         "--start-method", "forkserver", *arguments)  # fmt: skip
    if status != 0:
        say("The run under forkserver has failed.")
        return 1
    reports = [
        [line for line in lines[: len(served)] if TIMED not in line]
        for lines in (spawned, served)
    ]
    if reports[0] != reports[1]:
        say("The two start methods have found different things.")
        return 1

    say("All three did what they should: the script is untouched, the results are\n"
        "    those of the serial run.")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
