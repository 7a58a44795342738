"""fpickle in the place of the pickler of other libraries, one module each.

Each module imports the library of its name, and nothing else; `fpickle` itself
imports none of them. Importing one changes nothing in the library: ``register``
makes fpickle known to it by the library's own means, ``install`` replaces a
part of it and ``uninstall`` puts it back. Libraries that take fpickle itself
need no module: loky, PyTorch.
"""
