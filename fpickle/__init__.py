"""fpickle: pickle any function."""

from fpickle import _core
