"""Too few objects, or a MARK missing or in the way, for each opcode that takes any.

Required: UnpicklingError.
"""

import pickletools

import fault

ARGUMENTS = {"PUT": b"0\n", "BINPUT": b"\x00", "LONG_BINPUT": bytes(4),
             "INST": b"builtins\nint\n"}


def consumers():
    """(name, opcode with argument, objects taken, whether a mark is)."""
    for op in pickletools.opcodes:
        before = op.stack_before
        if op.name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "STOP",
                       "DUP"):
            before = [pickletools.anyobject]
        if not before:
            continue
        code = op.code.encode("latin-1") + ARGUMENTS.get(op.name, b"")
        marked = pickletools.markobject in before
        count = (before.index(pickletools.markobject) if marked
                 else len(before))
        yield op.name, code, count, marked


def check(row):
    for name, load in row.readers():
        for op, code, count, marked in consumers():
            def refuse(what, data):
                row.refuses(f"{name}, {op}, {what}", lambda: load(data))

            if not marked:
                for height in range(count):
                    refuse(f"{height} objects", b"N" * height + code + b".")
                    if op != "POP":  # which takes a mark away, too
                        refuse(f"a mark below {height} objects",
                               b"NNN(" + b"N" * height + code + b".")
                continue
            refuse("no mark", b"NNN" + code + b".")
            refuse("nothing at all", code + b".")
            for height in range(count):
                refuse("nothing below the mark",
                       b"N" * height + b"(NN" + code + b".")
                refuse("a mark right below the mark",
                       b"NN(" + b"N" * height + b"(NN" + code + b".")
    for name, load in row.readers():
        for what, data in (("OBJ without a class", b"(o."),
                           ("STOP above a mark", b"N(."),
                           ("DICT of three", b"(NNNd."),
                           ("SETITEMS of one", b"}(Nu.")):
            row.refuses(f"{name}, {what}", lambda: load(data))


if __name__ == "__main__":
    fault.main(check)
