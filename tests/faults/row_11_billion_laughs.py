"""A list of two references to a list of two references to ...: 500 bytes, 2**160 paths.

Required: loaded in time and memory that grow with the stream only.
"""

import fault

TIMEOUT = 20

STREAMS = {
    "by DUP": b"]" + b"2\x86" * 240 + b".",
    "by memo": b"]" + b"".join(
        b"\x940](h" + bytes([i]) + b"h" + bytes([i]) + b"e"
        for i in range(60)) + b".",
    "dicts by memo": b"]" + b"".join(
        b"\x940}(K\x00h" + bytes([i]) + b"K\x01h" + bytes([i]) + b"u"
        for i in range(45)) + b".",
}


def check(row):
    for name, load in row.readers():
        for how, data in STREAMS.items():
            what = f"{name}, {how}"
            loaded = []
            row.cpu(what, lambda: loaded.append(load(data)), 0.1)
            row.peak(what, lambda: loaded.append(load(data)), fault.MIB)
            depth, obj = 0, loaded[0]
            while len(obj) == 2:
                row.checked += 1
                if obj[0] is not obj[1]:
                    row.ok(f"{what}: shared at level {depth}", False)
                depth, obj = depth + 1, obj[0]
            row.ok(f"{what}: depth", depth in (240, 60, 45), str(depth))
    value = row.module.loads(STREAMS["by memo"])
    row.cpu("dumps of it", lambda: row.module.dumps(value), 0.1)
    row.ok("its pickle is short", len(row.module.dumps(value)) < 1000)


if __name__ == "__main__":
    fault.main(check)
