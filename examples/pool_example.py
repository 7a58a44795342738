"""A pool that runs any function: no guard, no module-level function needed.

    python examples/pool_example.py
"""

import fpickle

factor = 3
with fpickle.Pool() as pool:
    print(pool.map(lambda x: x * factor, range(10)))
