"""Text arguments of protocol 0 without meaning, numbers without end, lone surrogates.

Required: the values of the standard module for what is valid, UnpicklingError
for what is not.
"""

import fault

VALID = [
    (b"I0\n", 0), (b"I-5\n", -5), (b"I00\n", False), (b"I01\n", True),
    (b"I9999999999999999999999\n", 9999999999999999999999), (b"I 7\n", 7),
    (b"I0x1f\n", 31), (b"I+5\n", 5), (b"L5L\n", 5), (b"L5\n", 5),
    (b"L-5L\n", -5), (b"L0L\n", 0), (b"L" + b"7" * 4000 + b"L\n",
                                      int("7" * 4000)),
    (b"F1.5\n", 1.5), (b"F-0.0\n", -0.0), (b"F1e300\n", 1e300),
    (b"F1e-999\n", 0.0), (b"Finf\n", float("inf")),
    (b"F-inf\n", float("-inf")), (b"F5\n", 5.0),
    (b"S'abc'\n", "abc"), (b'S"abc"\n', "abc"), (b"S''\n", ""),
    (b"S'a\\nb'\n", "a\nb"), (b"S'a\\x41'\n", "aA"), (b"S'a\\'b'\n", "a'b"),
    (b"Vabc\n", "abc"), (b"V\n", ""), (b"V\xe9\n", "\xe9"),
    (b"V\\u20ac\n", "\u20ac"), (b"V\\U0001f600\n", "\U0001f600"),
    (b"V\\ud800\n", "\ud800"), (b"V\\n\n", "\\n"),
    (b"\x8c\x03\xed\xa0\x80", "\ud800"),
    (b"X\x03\x00\x00\x00\xed\xb0\x80", "\udc00"),
]
INVALID = [
    b"I\n", b"Ix\n", b"I1x\n", b"I1.5\n", b"I--1\n", b"I1 2\n", b"I0b2\n",
    b"I\x00\n", b"I1\x002\n", b"I\xff\n",
    b"L\n", b"LL\n", b"Lx\n", b"L1LL\n", b"L1.0L\n", b"L1\x00L\n",
    b"L\xe9L\n", b"L" + b"7" * 2_000_000 + b"L\n", b"I" + b"7" * 5000 + b"\n",
    b"F\n", b"Fx\n", b"F1.5x\n", b"F1,5\n", b"F1e999\n", b"F-1e999\n",
    b"F1_0\n", b"F 1 2\n", b"F\x00\n", b"F1.5\x00\n", b"F\xff\n",
    b"S\n", b"S'\n", b"S'abc\n", b"Sabc\n", b"Sabc'\n", b"S'abc\"\n",
    b"S'\\x4'\n", b"S'\\x'\n", b"S'\\xzz'\n", b"S\"\n", b"S'abc'x\n",
    b"V\\u12\n", b"V\\u\n", b"V\\U00110000\n", b"V\\Uffffffff\n",
    b"V\\uzzzz\n",
    b"Np\n", b"Npx\n", b"Np1x\n", b"Np1.5\n", b"Np" + b"9" * 5000 + b"\n",
    b"Ng\n", b"Ngx\n", b"Ng0x0\n", b"Ng\xff\n",
]
# A line without its end.
UNENDED = [b"I5", b"L5L", b"F5", b"S'a'", b"Va", b"Np0", b"Ng0", b"Pa",
           b"cbuiltins\nint", b"cbuiltins", b"(ibuiltins\nint"]


def check(row):
    for name, load in row.readers():
        for data, value in VALID:
            row.gives(f"{name}, {data[:30]!r}", lambda: load(data + b"."),
                      value)
        for data in INVALID:
            row.refuses(f"{name}, {data[:30]!r}", lambda: load(data + b"."))
        for data in UNENDED:
            row.refuses(f"{name}, {data[:30]!r} without newline",
                        lambda: load(data))
        nan = load(b"Fnan\n.")
        row.ok(f"{name}, nan", type(nan) is float and nan != nan)


if __name__ == "__main__":
    fault.main(check)
