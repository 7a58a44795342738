"""``%load_ext fpickle`` in a real IPython kernel."""

import re
import sys

import pytest

client = pytest.importorskip(
    "jupyter_client", reason="jupyter_client is not installed"
)
pytest.importorskip("ipykernel", reason="ipykernel is not installed")

pytestmark = pytest.mark.no_sanitizer


class Kernel:
    """A kernel, and what it answers to cells."""

    def __init__(self):
        from jupyter_client.kernelspec import KernelSpec

        class Manager(client.KernelManager):
            """No kernel need be registered with Jupyter."""

            kernel_spec = KernelSpec(argv=[
                sys.executable, "-m", "ipykernel_launcher", "-f",
                "{connection_file}",
            ])

        self.manager = Manager()
        self.manager.start_kernel()
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def run(self, code):
        """(status, what is printed, the errors, the displayed data)."""
        printed, errors, shown = [], [], []

        def collect(message):
            content = message["content"]
            if message["msg_type"] == "stream":
                printed.append(content["text"])
            elif message["msg_type"] == "error":
                text = "\n".join(content["traceback"])
                errors.append(re.sub(r"\x1b\[[\d;]*m", "", text))
            elif "data" in content:
                shown.append(content["data"])

        reply = self.client.execute_interactive(
            code, timeout=60, output_hook=collect
        )
        return reply["content"]["status"], "".join(printed), errors, shown

    def stop(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def kernel():
    kernel = Kernel()
    status, *rest = kernel.run(
        "%load_ext fpickle\nimport fpickle, pickle, threading"
    )
    assert status == "ok", rest
    yield kernel
    kernel.stop()


def test_explain_an_expression(kernel):
    status, _, errors, shown = kernel.run("%explain {'a': [threading.Lock()]}")
    assert (status, errors, len(shown)) == ("ok", [], 1)
    assert "obj['a'][0]" in shown[0]["text/plain"]
    assert "obj[" in shown[0]["text/html"]


def test_a_cell_that_cannot_pickle(kernel):
    status, printed, errors, shown = kernel.run(
        "%%explain\nkept = 5\nprint('before')\n"
        "pickle.dumps({'b': lambda: 1})\nprint('behind')"
    )
    assert (status, errors, len(shown)) == ("ok", [], 1)
    assert printed.startswith("before\n") and "behind" not in printed
    assert "pickle.dumps failed" in printed
    assert "obj['b']" in shown[0]["text/plain"]
    # The cell ran in the user's namespace, and the watch is over.
    assert kernel.run("kept")[3][0]["text/plain"] == "5"
    assert kernel.run("pickle.dumps.__module__")[3][0]["text/plain"] == "'_pickle'"


def test_a_cell_that_is_fine(kernel):
    _, printed, errors, shown = kernel.run("%%explain\npickle.loads(pickle.dumps(6)) * 7")
    assert (printed, errors) == ("", [])
    assert [data["text/plain"] for data in shown] == ["42"]


def test_another_error_in_a_cell(kernel):
    _, printed, errors, shown = kernel.run("%%explain\n1/0")
    assert (printed, shown) == ("", [])
    assert errors[0].endswith("ZeroDivisionError: division by zero")


def test_the_path_is_at_the_end_of_the_traceback(kernel):
    status, _, errors, _ = kernel.run("fpickle.dumps({'a': [threading.Lock()]})")
    assert status == "error" and len(errors) == 1
    behind = errors[0].rpartition("cannot pickle '_thread.lock' object")[2]
    assert behind.count("obj['a'][0]") == 1
    # Nothing but the notes follows the message.
    assert "Traceback" not in behind and "---->" not in behind


def test_old_renderers_get_the_path_too(kernel):
    """A version of IPython that shows no notes."""
    _, _, errors, _ = kernel.run(
        "class Old:\n"
        "    def structured_traceback(self, kind, error, tb, tb_offset=None):\n"
        "        return ['top', f'{kind.__name__}: {error}']\n"
        "from fpickle import _notebook\n"
        "shell = get_ipython()\n"
        "class Shell:\n"
        "    InteractiveTB = Old()\n"
        "    _showtraceback = staticmethod(lambda *parts: print(parts[2]))\n"
        "try: fpickle.dumps([threading.Lock()])\n"
        "except Exception as error:\n"
        "    assert 'obj[0]' in _notebook._show(Shell, type(error), error, None)[2]\n"
    )
    assert errors == []


def test_unload(kernel):
    kernel.run("%unload_ext fpickle")
    status, printed, _, _ = kernel.run("%explain 5")
    assert status == "error" and "not found" in printed
    kernel.run("%load_ext fpickle")
    assert kernel.run("%explain 5")[0] == "ok"
