"""Runs the scripts of the fault rows in child processes.

Used by test_faults.py, and by tools/faults.py for the table in docs/faults.md.
"""

import ast
import dataclasses
import pathlib
import signal
import subprocess
import sys

FOLDER = pathlib.Path(__file__).resolve().parent
DEFAULT_TIMEOUT = 60  # seconds
FIRST_OF_POOLS = 30
# The time-outs of pool_fault.py are of single trials.
TIMEOUT_OF_POOLS = 3600

PICKLERS = ("pickle", "fpickle")
POOLS = ("multiprocessing", "concurrent.futures", "loky", "mpire", "fpickle")


@dataclasses.dataclass
class Result:
    holds: bool
    outcome: str  # one line


def scripts():
    return sorted(FOLDER.glob("row_*.py"))


def escape(text):
    """The text as a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("*", "\\*").replace("_", "\\_")


class Script:
    """One row: its number, its case, what it may use, and how to run it."""

    def __init__(self, path):
        self.path = path
        self.number = int(path.stem.split("_")[1])
        tree = ast.parse(path.read_text())
        lines = ast.get_docstring(tree).split("\n")
        self.case = lines[0].rstrip(".")
        constants = {}
        for node in tree.body:
            if isinstance(node, ast.Assign) and getattr(
                    node.targets[0], "id", None) in (
                    "TIMEOUT", "LONG"):
                constants[node.targets[0].id] = ast.literal_eval(node.value)
        self.of_pools = self.number >= FIRST_OF_POOLS
        self.modules = POOLS if self.of_pools else PICKLERS
        self.timeout = constants.get(
            "TIMEOUT", TIMEOUT_OF_POOLS if self.of_pools else DEFAULT_TIMEOUT)
        self.long = constants.get("LONG", False)

    def run(self, module, python=sys.executable, arguments=()):
        """The verdict for [module]; [arguments] are more of the script's."""
        try:
            done = subprocess.run(
                [python, str(self.path), module, *arguments], text=True,
                timeout=self.timeout, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            return Result(False, f"time-out after {self.timeout} s")
        message = done.stdout.strip()
        if done.returncode < 0:
            return Result(False, signal.Signals(-done.returncode).name)
        prefix = f"{module} "
        if not message.startswith(prefix):
            return Result(False, f"exit status {done.returncode}, "
                                 f"said nothing")
        outcome = message[len(prefix):]
        holds = done.returncode == 0 and outcome.startswith("holds")
        return Result(holds, outcome)
