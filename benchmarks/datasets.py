"""The plain data that the benchmarks pickle.

Every entry of DATASETS is a function that makes its data afresh, so that
nothing is shared between data sets; classes are importable, so that every
pickler sends them by name.
"""

import collections
import dataclasses
import datetime
import decimal
import json
import random
import types

N = 100_000


@dataclasses.dataclass
class Order:
    number: int
    price: float


@dataclasses.dataclass(slots=True)
class Slotted:
    number: int
    price: float


Point = collections.namedtuple("Point", "x y")


def random_source():
    return random.Random(2)


def small_ints():
    source = random_source()
    return [source.getrandbits(30) for _ in range(N)]


def large_ints():
    source = random_source()
    return [source.getrandbits(60) for _ in range(N)]


def floats():
    source = random_source()
    return [source.random() for _ in range(N)]


def distinct_strings():
    return [f"s{i:07}" for i in range(N)]


def equal_strings():
    return [f"k{i % 20:02}" for i in range(N)]


def shared_strings():
    strings = [f"k{i:02}" for i in range(20)]
    return [strings[i % 20] for i in range(N)]


def str_to_int():
    return {f"k{i}": i for i in range(N)}


def records():
    source = random_source()
    return [
        {
            "id": i,
            "name": f"user{i}",
            "email": f"u{i}@example.org",
            "score": source.random(),
            "tags": ["a", "b", f"t{i % 50}"],
            "active": bool(i & 1),
            "pos": (i, i + 0.5),
        }
        for i in range(20_000)
    ]


def records_from_json():
    return json.loads(json.dumps(records()))


def pairs():
    return [(i, str(i)) for i in range(N)]


def triples():
    source = random_source()
    return [(i, source.random(), f"t{i}") for i in range(N)]


def nested_lists():
    def make(depth):
        if depth == 0:
            return [1, 2, 3]
        return [make(depth - 1) for _ in range(4)]

    return make(7)


def empty_lists():
    return [[] for _ in range(N)]


def kilobytes():
    source = random_source()
    return [source.randbytes(1000) for _ in range(5_000)]


def small_message():
    return {"op": "get", "id": 7, "args": [1, 2, "x"], "ok": True}


def tiny_tuple():
    return ("resize", 640, 480, 0.5, None, True, "image-000017.png")


def dataclass_instances():
    return [Order(i, i + 0.5) for i in range(50_000)]


def slotted_instances():
    return [Slotted(i, i + 0.5) for i in range(50_000)]


def namedtuples():
    return [Point(i, i + 0.5) for i in range(50_000)]


def datetimes():
    start = datetime.datetime(2020, 1, 1)
    return [start + datetime.timedelta(seconds=i) for i in range(20_000)]


def decimals():
    return [decimal.Decimal(i) / 100 for i in range(20_000)]


def thousand_dates():
    start = datetime.date(2020, 1, 1)
    return [start + datetime.timedelta(days=i) for i in range(1000)]


def thousand_decimals():
    return [decimal.Decimal(i) / 100 for i in range(1000)]


def thousand_namespaces():
    return [types.SimpleNamespace(x=i, y=f"n{i}") for i in range(1000)]


def string_sets():
    return [{f"a{i}", f"b{i}", f"c{i % 50}"} for i in range(20_000)]


DATASETS = {
    "100k ints": small_ints,
    "100k ints of 60 bits": large_ints,
    "100k floats": floats,
    "100k distinct str": distinct_strings,
    "100k equal str": equal_strings,
    "100k shared str": shared_strings,
    "dict of 100k str: int": str_to_int,
    "20k records of 7 fields": records,
    "the same from json": records_from_json,
    "100k (int, str)": pairs,
    "100k (int, float, str)": triples,
    "16k nested lists": nested_lists,
    "100k empty lists": empty_lists,
    "5k bytes of 1 kB": kilobytes,
    "one small message": small_message,
    "one tuple of 60 bytes": tiny_tuple,
    "50k dataclass instances": dataclass_instances,
    "50k slotted instances": slotted_instances,
    "50k namedtuples": namedtuples,
    "20k datetimes": datetimes,
    "20k decimals": decimals,
    "20k sets of str": string_sets,
    "1,000 dates": thousand_dates,
    "1,000 Decimals": thousand_decimals,
    "1,000 namespaces": thousand_namespaces,
}
