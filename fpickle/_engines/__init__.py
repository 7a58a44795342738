"""Executors on engines that others have made.

    registry.py     executor(): which engine is meant
    base.py         what all of them do: submit, map, cancel, shutdown
    mapping.py      map: chunks, order, how far the input is read ahead
    shipping.py     functions on their way, answers on their way back
    bootstrap.py    the callable that an engine sees
    trampoline.py   what it becomes in a worker; also runs without fpickle
    dask.py, ray.py, spark.py, pools.py (MPI, loky)   the engines

An engine carries bytes: a function is a standalone stream, calls and results
are pickles. Nothing is imported here, and no engine before it is asked for.
"""
