"""Weak references: the same object on both ways, alive as long as the stream's
other objects hold it."""

import collections
import weakref

from byvalue_sender import ALL_PROTOCOLS, case, send


class Node:
    def __init__(self, name=None):
        self.name = name

    def get(self):
        return self.name

    def called(self, ref):
        self.name = "called"


def strong_first():
    node = Node("n")
    return [node, weakref.ref(node), weakref.ref(node)]


case(
    "strong first",
    strong_first(),
    "o[1]() is o[0] and o[1] is o[2] and o[0].name == 'n'",
    ALL_PROTOCOLS,
)


def weak_first():
    node = Node("n")
    return [weakref.ref(node), node]


case("weak first", weak_first(), "o[0]() is o[1]", ALL_PROTOCOLS)


class Child:
    def __init__(self, parent):
        self.parent = weakref.ref(parent)


def make_tree():
    root = Node("root")
    root.children = [Child(root), Child(root)]
    return root


case(
    "parents of a tree",
    make_tree(),
    "o.children[0].parent() is o and o.children[1].parent() is o",
    ALL_PROTOCOLS,
)
case(
    "a child whose parent stays behind",
    Child(Node("gone")),
    "o.parent() is None",
    ALL_PROTOCOLS,
)
case(
    "dead",
    [weakref.ref(Node()), weakref.WeakMethod(Node().get)],
    "o[0]() is None and o[1]() is None",
    ALL_PROTOCOLS,
)


def with_callback():
    node, other = Node("n"), Node("other")
    return [node, weakref.ref(node, other.called), other]


def make_proxies():
    node, other, function = Node("n"), Node("other"), lambda: 5
    return [node, weakref.proxy(node), weakref.proxy(node, other.called),
            function, weakref.proxy(function), other, weakref.proxy(Node())]


case(
    "proxies",
    make_proxies(),
    "[[w.ProxyType, w.CallableProxyType].index(type(o[i]))"
    " for w in [__import__('weakref')] for i in (1, 2, 4, 6)] == [0, 0, 1, 0]"
    " and setattr(o[0], 'name', 'new') is None and o[4]() == 5"
    " and [o[1].get(), o[2].get()] == ['new', 'new']"
    " and [o.pop(0), None][1] is None and o[4].name == 'called'"
    " and all('dead' in repr(p) or 'NoneType' in repr(p)"
    " for p in (o[0], o[1], o[5]))",
    ALL_PROTOCOLS,
)


class Leaf:
    def __init__(self, parent):
        self.parent = weakref.proxy(parent)


def make_tree_of_proxies():
    root = Node("root")
    root.children = [Leaf(root), Leaf(root)]
    return root


case(
    "parents by proxy",
    make_tree_of_proxies(),
    "o.children[0].parent.children is o.children"
    " and o.children[0].parent is o.children[1].parent",
    ALL_PROTOCOLS,
)


def make_stand_ins():
    first, second = Node("1"), Node("2")
    first.me, first.next = weakref.proxy(first), second
    return [weakref.proxy(first), weakref.proxy(second), first, second,
            weakref.proxy(first)], first, second


STAND_INS = make_stand_ins()  # keeps them alive
case(
    "proxies that come first",
    STAND_INS[0],
    "type(o[0]).__name__ == 'Node' and o[0] is o[2] is o[4] is o[0].me"
    " and type(o[1]) is __import__('weakref').ProxyType"
    " and o[3] is o[0].next and o[1].get() == '2'",
    ALL_PROTOCOLS,
)
KEPT = Node("kept")
case(
    "a proxy alone",
    weakref.proxy(KEPT),
    "type(o).__name__ == 'Node' and o.get() == 'kept'",
    ALL_PROTOCOLS,
)
case(
    "with a callback",
    with_callback(),
    "o[1]() is o[0] and o[1].__callback__ is not None"
    " and [o.pop(0), None][1] is None and o[1].name == 'called'",
    ALL_PROTOCOLS,
)


def weakly_referenced_parts():
    parts = [{1}, frozenset({2}), collections.deque([3]), lambda: 4]
    return parts, [weakref.ref(p) for p in parts]


case(
    "sets, deques and functions",
    weakly_referenced_parts(),
    "[r() for r in o[1]] == o[0] and o[1][3]()() == 4",
    ALL_PROTOCOLS,
)


def make_method():
    node = Node("n")
    return [weakref.WeakMethod(node.get), node]


case(
    "method",
    make_method(),
    "o[0]()() == 'n' and o[0]().__self__ is o[1]"
    " and [o.pop(1) and None, o[0]()][1] is None",
    ALL_PROTOCOLS,
)


def make_containers():
    a, b = Node("a"), Node("b")
    return [
        [a, b],
        weakref.WeakSet([a, b]),
        weakref.WeakKeyDictionary({a: 1, b: [2]}),
        weakref.WeakValueDictionary({"a": a, "b": b}),
    ]


case(
    "weak containers",
    make_containers(),
    "set(o[1]) == set(o[0]) and o[2][o[0][0]] == 1 and o[2][o[0][1]] == [2]"
    " and o[3]['a'] is o[0][0] and [o[0].pop(), None][1] is None"
    " and (len(o[1]), len(o[2]), len(o[3])) == (1, 1, 1)",
    ALL_PROTOCOLS,
)


class Registry:
    """Keeps its members weakly, and they it strongly."""

    def __init__(self):
        self.members = weakref.WeakSet()
        self.by_name = weakref.WeakValueDictionary()

    def add(self, name):
        node = Node(name)
        node.registry = self
        self.members.add(node)
        self.by_name[name] = node
        return node


def make_registry():
    registry = Registry()
    return [registry.add("x"), registry.add("y")]


case(
    "a registry of its members",
    make_registry(),
    "o[0].registry is o[1].registry and set(o[0].registry.members) == set(o)"
    " and o[0].registry.by_name['y'] is o[1]",
    ALL_PROTOCOLS,
)


class Special(weakref.WeakValueDictionary):
    tag = "special"


def make_special():
    node = Node("n")
    special = Special()
    special["n"] = node
    return [node, special]


case(
    "a subclass of a weak dictionary",
    make_special(),
    "o[1].tag == 'special' and o[1]['n'] is o[0]"
    " and [o.pop(0), None][1] is None and len(o[0]) == 0",
)

send()
