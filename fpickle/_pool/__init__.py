"""The process pool: starting workers, watching them, and the two faces.

    pool.py, executor.py   what users see
    engine.py              one pool: its dispatcher, its threads, its workers
    start.py               the parent's side of starting a process
    zygote.py              the process that forks workers
    bootstrap.py           a worker, until it is in its loop
    remote.py, errors.py   exceptions, from one process to another
    output.py              what a worker prints and logs
    results.py             what the calls of a Pool return
    progress.py            a bar
    report.py              stats() as text

Scheduling, codec and transport are `fpickle._poolcore`. Nothing is imported
here, because a worker needs few of these modules.
"""
