"""One object of a library, as the scripts that make it and look at it."""

import dataclasses
import textwrap


@dataclasses.dataclass
class Case:
    """Attributes:
        name: what the table calls it.
        source: a script, run as __main__, which makes OBJ.
        check: statements that a fresh process runs, where `o` is what it has
            loaded; they say by assert what is right.
        sent: with this the buffers of OBJ travel beside the stream.
            Statements that the sender runs after the dump; here and in `check`
            `buffers` is the list of them.
        known: why fpickle cannot do it; without this it has to.
    """

    name: str
    source: str
    check: str
    sent: str | None = None
    known: str | None = None

    def __post_init__(self):
        self.source = textwrap.dedent(self.source).lstrip("\n")
        self.check = textwrap.dedent(self.check).strip("\n")
        if self.sent is not None:
            self.sent = textwrap.dedent(self.sent).strip("\n")


@dataclasses.dataclass
class Library:
    """Attributes:
        module: what is imported, before any case, in sender and receiver.
        distribution: what is installed.
        cases: of Case.
    """

    module: str
    distribution: str
    cases: list
