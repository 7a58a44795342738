"""An error reaches whoever waits for the message, with path, reason, remedy."""

import importlib.util
import sys

import pytest
from start_methods import METHODS, SCRIPTS, run_python


def lost_module():
    spec = importlib.util.spec_from_file_location(
        "errors_script", SCRIPTS / "errors.py"
    )
    module = importlib.util.module_from_spec(spec)
    arguments, sys.argv = sys.argv, ["errors.py", "fork", "folder"]
    try:
        spec.loader.exec_module(module)
    finally:
        sys.argv = arguments
    return module.LOST


@pytest.mark.parametrize("method", METHODS)
def test_errors_of_messages(method, tmp_path):
    (tmp_path / "lost.py").write_text(lost_module())
    status, out, err = run_python(SCRIPTS / "errors.py", method, tmp_path)
    assert status == 0 and out.endswith("done\n"), err
    # The feeder thread still says what the standard one does.
    assert "RefusedError: cannot pickle '_thread.lock' object" in err
    assert "at: obj['a'][0]" in err or method != "fork"
