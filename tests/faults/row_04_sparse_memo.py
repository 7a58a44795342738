"""Memo indices far beyond the entries: LONG_BINPUT of 2**28 and 2**32-1, PUT of 10**18 and of -1.

Required: success in less than 1 MB; UnpicklingError if negative.
"""

import fault

TIMEOUT = 20
MEMORY = 16 * 1024


def check(row):
    for name, load in row.readers():
        load(b"I5\np7\n0g7\n.")  # warms up
        for index in (2**20, 2**28, 2**31 - 1, 2**31, 2**32 - 1):
            four = index.to_bytes(4, "little")
            data = b"K\x05r" + four + b"0j" + four + b"."
            row.peak(f"{name}, LONG_BINPUT {index}",
                     lambda: row.gives(f"{name}, LONG_BINPUT {index}",
                                       lambda: load(data), 5), fault.MIB)
        for index in (2**28, 10**12, 10**18, 2**63 - 1):
            data = b"K\x05p%d\n0g%d\n." % (index, index)
            row.peak(f"{name}, PUT {index}",
                     lambda: row.gives(f"{name}, PUT {index}",
                                       lambda: load(data), 5), fault.MIB)
        for index in (-1, -2**31, -10**30):
            row.refuses(f"{name}, PUT {index}", lambda: load(
                b"Np%d\n." % index))
            row.refuses(f"{name}, GET {index}", lambda: load(
                b"Ng%d\n." % index))


if __name__ == "__main__":
    fault.main(check)
