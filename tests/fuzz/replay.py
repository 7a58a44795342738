"""Runs inputs that `make fuzz` found again, without a fuzzer.

    python tests/fuzz/replay.py [TARGET] FILE ...

TARGET is the part of the file's name before the first hyphen if not given.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "fuzz"))

import fuzz_targets  # noqa: E402


def main(args):
    target = args.pop(0) if args and args[0] in fuzz_targets.TARGETS else None
    for name in args:
        path = pathlib.Path(name)
        run = fuzz_targets.TARGETS[target or path.name.partition("-")[0]]
        print(path)
        run(path.read_bytes())


if __name__ == "__main__":
    main(sys.argv[1:])
