"""A key of 250 bytes whose tuples share their parts: each level doubles the time of its hash.

Required: UnpicklingError in less than 100 ms.
"""

import fault

TIMEOUT = 20

USES = {
    "SETITEM": b"}%sNs.", "SETITEMS": b"}(%sNu.", "DICT": b"(%sNd.",
    "ADDITEMS": b"\x8f(%s\x90.", "FROZENSET": b"(%s\x91.",
}
BOMBS = {
    "by DUP": b"K\x01" + b"2\x86" * 120,
    "by memo": b"K\x01" + b"".join(
        b"\x940h" + bytes([i]) + b"h" + bytes([i]) + b"\x86"
        for i in range(48)),
    "in threes": b"K\x01" + b"22\x87" * 80,
}


def check(row):
    for name, load in row.readers():
        for how, bomb in BOMBS.items():
            for what, use in USES.items():
                data = use % bomb
                assert len(data) <= 350
                text = f"{name}, {what}, {how}"
                row.cpu(text, lambda: row.refuses(text, lambda: load(data)),
                        0.1)
    shared = (tuple(range(100)),) * 100
    row.gives("parts that are shared a little",
              lambda: row.module.loads(row.module.dumps({shared})), {shared})


if __name__ == "__main__":
    fault.main(check)
