"""Closures: cells that are shared, empty, filled late, or lead back."""

from byvalue_sender import ALL_PROTOCOLS, case, send


def make_counter():
    n = 0

    def increment():
        nonlocal n
        n += 1
        return n

    def get():
        return n

    return increment, get


case(
    "a shared cell",
    make_counter(),
    "(o[0](), o[0](), o[1]()) == (1, 2, 2)"
    " and o[0].__closure__[0] is o[1].__closure__[0]",
    ALL_PROTOCOLS,
)


def make_shared_list():
    items = []

    def add(x):
        items.append(x)

    def get():
        return items

    return [add, get, items]


case(
    "a shared object in a cell",
    make_shared_list(),
    "o[0](1) is None and o[1]() == [1] and o[1]() is o[2]",
)


def make_empty():
    def f():
        return later

    if False:
        later = 1
    return f


def make_late():
    def f():
        return later

    later = "bound"
    return f


case(
    "an empty cell",
    make_empty(),
    "[c for c in o.__closure__ if c == type(c)()] == list(o.__closure__)",
    ALL_PROTOCOLS,
)
case("a cell that is bound late", make_late(), "o() == 'bound'")


def make_recursive():
    box = [0]

    def recursive(n, *, step=1):
        box[0] += 1
        return n + recursive(n - step) if n > 0 else 0

    return recursive


case(
    "a recursive cell",
    make_recursive(),
    "o(5) == 15 and o.__closure__[0].cell_contents == [6]"
    " and o.__closure__[1].cell_contents is o",
    ALL_PROTOCOLS,
)


def make_mutual():
    def even(n):
        return n == 0 or odd(n - 1)

    def odd(n):
        return n != 0 and even(n - 1)

    return even


case("mutual recursion through cells", make_mutual(), "o(10) is True and o(5) is False")


def make_container_cycle():
    table = {}

    def look(key):
        return table[key]

    table["look"] = look
    table["tuple"] = (look, table)
    return look


case(
    "a cycle through containers",
    make_container_cycle(),
    "o('look') is o and o('tuple')[0] is o and o('tuple')[1]['look'] is o",
    ALL_PROTOCOLS,
)


def make_tuple_cycle():
    def f():
        return pair

    pair = (f, 1)
    return pair


case(
    "a cycle from a tuple",
    make_tuple_cycle(),
    "o[0]() is o and o[1] == 1",
    ALL_PROTOCOLS,
)
case("a cycle into a tuple", make_tuple_cycle()[0], "o()[0] is o", ALL_PROTOCOLS)


def make_frozenset_cycle():
    def f():
        return s

    s = frozenset([f])
    return s


case("a cycle from a frozenset", make_frozenset_cycle(), "next(iter(o))() is o")


def make_deep(n):
    def level(f):
        def inner(x):
            return x if f is None else f

        return inner

    f = None
    for _ in range(n):
        f = level(f)
    return f


def depth_of(f):
    n = 0
    while f is not None:
        f = f(None)
        n += 1
    return n


case(
    "a long chain of closures",
    (depth_of, make_deep(100_000)),
    "o[0](o[1]) == 100_000 and (load is not None)",
)


def make_many_cells():
    a, b, c, d, e, g = 1, "b", 2.5, None, b"e", [7]

    def f():
        return [a, b, c, d, e, g]

    return f


case("cells with atoms", make_many_cells(), "o() == [1, 'b', 2.5, None, b'e', [7]]", ALL_PROTOCOLS)


def make_cell():
    return make_recursive().__closure__[1]


def make_own_cell():
    value = None

    def f():
        return value

    cell = f.__closure__[0]
    value = cell
    return cell


case("a cell as such", make_cell(), "o.cell_contents(4) == 10", ALL_PROTOCOLS)
case("a cell that holds itself", make_own_cell(), "o.cell_contents is o")


class Holder:
    pass


def make_instance_cycle():
    holder = Holder()

    def f():
        return holder

    holder.f = f
    return holder


case(
    "function and instance",
    make_instance_cycle(),
    "o.f() is o and type(o).__name__ == 'Holder'",
    ALL_PROTOCOLS,
)


def make_three_functions(x):
    def f():
        return g, x

    def g():
        return h, x

    def h():
        return f, x

    return {"f": f, "g": g, "h": h}


case(
    "functions in a ring",
    make_three_functions([1]),
    "o['f']()[0] is o['g'] and o['g']()[0] is o['h'] and o['h']()[0] is o['f']"
    " and o['f']()[1] is o['h']()[1]",
)

send()
