"""The names of other picklers, for programs that want to change an import only.

``import fpickle.compat.cloudpickle as cloudpickle`` and
``import fpickle.compat.dill as dill``. What they write is what fpickle writes:
plain pickles that need neither library to be read.
"""
