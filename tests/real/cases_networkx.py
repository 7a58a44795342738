from real_case import Case, Library

LIBRARY = Library("networkx", "networkx", [
    Case("graphs of each kind, with attributes", """
        import networkx as nx
        g = nx.Graph(name="g"); g.add_edge(1, 2, w=3); g.nodes[1]["c"] = "r"
        d = nx.DiGraph([(1, 2), (2, 3)]); m = nx.MultiGraph()
        m.add_edge("a", "b", key="k"); m.add_edge("a", "b")
        OBJ = [g, d, m]
        """, """
        import networkx as nx
        g = nx.Graph(name="g"); g.add_edge(1, 2, w=3); g.nodes[1]["c"] = "r"
        assert nx.utils.graphs_equal(o[0], g)
        assert list(nx.topological_sort(o[1])) == [1, 2, 3]
        assert o[2].number_of_edges("a", "b") == 2
        assert o[2].has_edge("a", "b", "k")
        """),
    Case("subclass of Graph in __main__, with dict factories", """
        import collections
        import networkx as nx
        class Ordered(dict):
            pass
        class Roads(nx.Graph):
            node_dict_factory = Ordered
            edge_attr_dict_factory = lambda self: {"length": 1}
            def total(self):
                return self.size(weight="length")
        OBJ = Roads([(1, 2), (2, 3)])
        """, """
        import networkx as nx
        assert isinstance(o, nx.Graph) and type(o).__name__ == "Roads"
        assert o.total() == 2 and type(o._node).__name__ == "Ordered"
        o.add_edge(3, 4)
        assert o.total() == 3 and nx.shortest_path(o, 1, 4) == [1, 2, 3, 4]
        """),
    Case("views: nodes, edges, adjacency, subgraph, reversed", """
        import networkx as nx
        d = nx.DiGraph([(1, 2), (2, 3)])
        OBJ = [d.nodes, d.edges, d.adj, d.degree, d.subgraph([1, 2]),
               d.reverse(copy=False)]
        """, """
        assert list(o[0]) == [1, 2, 3] and list(o[1]) == [(1, 2), (2, 3)]
        assert list(o[2][1]) == [2] and o[3][2] == 2
        assert list(o[4].edges) == [(1, 2)]
        assert sorted(o[5].edges) == [(2, 1), (3, 2)]
        """),
    Case("filtered view of a lambda", """
        import networkx as nx
        limit = 2
        OBJ = nx.subgraph_view(nx.path_graph(5), filter_node=lambda n:
                               n <= limit)
        """, """
        assert list(o.nodes) == [0, 1, 2] and list(o.edges) == [(0, 1),
                                                                 (1, 2)]
        """),
    Case("nodes that are objects of __main__, with cycles back to the graph",
         """
        import networkx as nx
        class Node:
            def __init__(self, name, graph):
                self.name, self.graph = name, graph
        g = nx.Graph()
        a, b = Node("a", g), Node("b", g)
        g.add_edge(a, b)
        OBJ = a
        """, """
        assert [n.name for n in o.graph[o]] == ["b"]
        assert all(n.graph is o.graph for n in o.graph)
        """),
    Case("algorithm with a lambda weight, dispatched functions", """
        import networkx as nx
        penalty = 2
        def route(g):
            return nx.shortest_path(g, 0, 2, weight=lambda u, v, d:
                                    d["w"] * penalty)
        OBJ = [route, nx.pagerank, nx.shortest_path]
        """, """
        import networkx as nx
        g = nx.Graph()
        g.add_weighted_edges_from([(0, 1, 1), (1, 2, 1), (0, 2, 5)], "w")
        assert o[0](g) == [0, 1, 2]
        assert o[1] is nx.pagerank and o[2] is nx.shortest_path
        """),
    Case("frozen graph, planar embedding", """
        import networkx as nx
        OBJ = [nx.freeze(nx.path_graph(3)),
               nx.check_planarity(nx.cycle_graph(3))[1]]
        """, """
        import networkx as nx
        assert nx.is_frozen(o[0])
        try: o[0].add_node(9)
        except nx.NetworkXError: pass
        else: raise AssertionError("not frozen")
        o[1].check_structure()
        """),
])
