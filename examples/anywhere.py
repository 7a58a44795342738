"""One script for this machine and for a cluster: only its argument changes.

    python anywhere.py                        our process pool
    python anywhere.py dask                   Dask, here
    python anywhere.py dask://HOST:PORT       Dask, there
    python anywhere.py ray                    and so on: spark, loky, ...
    mpiexec -n 3 python -m mpi4py.futures anywhere.py mpi

It looks for amicable pairs: two numbers, each the sum of the proper divisors of
the other. The class, the functions and the closure are all of this script, which
no worker has.
"""

import itertools
import sys
from dataclasses import dataclass

import fpickle

BLOCK = 2_500
WANTED = 8


@dataclass(frozen=True, order=True)
class Pair:
    first: int
    second: int


class OutOfRange(Exception):
    pass


def divisor_sum(n):
    total, d = 1, 2
    while d * d < n:
        if n % d == 0:
            total += d + n // d
        d += 1
    return total + (d if d * d == n else 0)


def make_search(size):
    def search(block):
        if block < 0:
            raise OutOfRange(block)
        pairs = []
        for n in range(max(2, block * size), (block + 1) * size):
            other = divisor_sum(n)
            if other > n and divisor_sum(other) == n:
                pairs.append(Pair(n, other))
        return pairs

    return search


where = sys.argv[1] if len(sys.argv) > 1 else None
search = make_search(BLOCK)
found = []
with fpickle.executor(where) as executor:
    # The input has no end; what is read depends on what is taken.
    for pairs in executor.map(search, itertools.count(), buffersize=8):
        found += pairs
        if len(found) >= WANTED:
            break
    error = executor.submit(search, -1).exception()

for pair in found:
    print(f"{pair.first:7} {pair.second:7}")
print(f"all are of this script's class: {all(type(p) is Pair for p in found)}")
print(f"the error, too: {type(error) is OutOfRange}, {error.args}")
