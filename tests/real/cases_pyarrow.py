from real_case import Case, Library

LIBRARY = Library("pyarrow", "pyarrow", [
    Case("table, record batch, array, chunked array", """
        import pyarrow as pa
        t = pa.table({"a": [1, None], "s": ["x", "y"], "l": [[1], [2, 3]]})
        OBJ = [t, t.to_batches()[0], pa.array([1, 2]),
               pa.chunked_array([[1], [2, 3]])]
        """, """
        import pyarrow as pa
        t = pa.table({"a": [1, None], "s": ["x", "y"], "l": [[1], [2, 3]]})
        assert o[0].equals(t) and o[1].equals(t.to_batches()[0])
        assert o[2].equals(pa.array([1, 2])) and o[3].num_chunks == 2
        """),
    Case("types, fields, schema with metadata, scalars", """
        import pyarrow as pa
        OBJ = [pa.int8(), pa.list_(pa.string()), pa.timestamp("ms", "UTC"),
               pa.schema([pa.field("a", pa.int8(), metadata={"k": "v"})],
                         metadata={"x": "y"}), pa.scalar(5),
               pa.dictionary(pa.int8(), pa.string())]
        """, """
        import pyarrow as pa
        assert o[0] == pa.int8() and o[1] == pa.list_(pa.string())
        assert o[2] == pa.timestamp("ms", "UTC")
        assert o[3].metadata == {b"x": b"y"}
        assert o[3].field("a").metadata == {b"k": b"v"}
        assert o[4].as_py() == 5 and o[5] == pa.dictionary(pa.int8(),
                                                           pa.string())
        """),
    Case("dictionary array, union, map, struct, decimal", """
        import decimal
        import pyarrow as pa
        OBJ = [pa.array(["a", "b", "a"]).dictionary_encode(),
               pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int8())),
               pa.array([{"x": 1, "y": "z"}]),
               pa.array([decimal.Decimal("1.25")])]
        """, """
        assert o[0].to_pylist() == ["a", "b", "a"]
        assert o[1].to_pylist() == [[("k", 1)]]
        assert o[2].to_pylist() == [{"x": 1, "y": "z"}]
        assert str(o[3][0].as_py()) == "1.25"
        """),
    Case("extension type of __main__, with an array", """
        import pyarrow as pa
        class Point(pa.ExtensionType):
            def __init__(self, unit):
                self.unit = unit
                super().__init__(pa.float64(), "example.point")
            def __arrow_ext_serialize__(self):
                return self.unit.encode()
            @classmethod
            def __arrow_ext_deserialize__(cls, storage, serialized):
                return cls(serialized.decode())
        kind = Point("m")
        OBJ = [kind, pa.ExtensionArray.from_storage(kind, pa.array([1.0]))]
        """, """
        import pyarrow as pa
        assert isinstance(o[0], pa.ExtensionType) and o[0].unit == "m"
        assert o[1].type == o[0] and o[1].storage.to_pylist() == [1.0]
        """),
    Case("expressions and functions of pyarrow.compute", """
        import pyarrow as pa, pyarrow.compute as pc
        OBJ = [(pc.field("a") > 1) & pc.field("b").is_valid(),
               pc.sum]
        """, """
        import pyarrow as pa, pyarrow.compute as pc
        t = pa.table({"a": [1, 2], "b": [1, 2]})
        assert t.filter(o[0]).num_rows == 1
        assert o[1](pa.array([1, 2])).as_py() == 3
        """),
    Case("options of a function of pyarrow.compute", """
        import pyarrow.compute as pc
        OBJ = pc.SortOptions([("a", "descending")])
        """, """
        import pyarrow as pa, pyarrow.compute as pc
        t = pa.table({"a": [1, 2], "b": [1, 2]})
        assert pc.sort_indices(t, options=o).to_pylist() == [1, 0]
        """, known="pyarrow's own `__reduce_cython__` refuses"),
    Case("function of __main__ over a table, with pyarrow.compute", """
        import pyarrow as pa, pyarrow.compute as pc
        threshold = pa.scalar(2)
        def f(table):
            return table.filter(pc.greater_equal(table["a"], threshold))
        OBJ = f
        """, """
        import pyarrow as pa
        assert o(pa.table({"a": [1, 2, 3]})).num_rows == 2
        """),
    Case("buffer, file systems, a data set on disk", """
        import tempfile
        import pyarrow as pa, pyarrow.dataset as ds, pyarrow.fs as fs
        import pyarrow.parquet as pq
        folder = tempfile.mkdtemp()
        pq.write_table(pa.table({"a": [1, 2]}), folder + "/x.parquet")
        OBJ = [pa.py_buffer(b"abc"), fs.LocalFileSystem(),
               ds.dataset(folder)]
        """, """
        assert o[0].to_pybytes() == b"abc"
        assert type(o[1]).__name__ == "LocalFileSystem"
        assert o[2].to_table()["a"].to_pylist() == [1, 2]
        """),
    Case("buffers beside the stream", """
        import pyarrow as pa
        OBJ = pa.table({"a": pa.array(range(5000), pa.int64())})
        """, """
        import numpy as np
        assert o["a"].to_pylist() == list(range(5000))
        data = o["a"].chunk(0).to_numpy()
        assert any(np.shares_memory(data, np.frombuffer(b, np.uint8))
                   for b in buffers if len(b))
        """, sent="""
        import numpy as np
        assert len(stream) < 2000
        data = o["a"].chunk(0).to_numpy()
        assert any(np.shares_memory(data, np.asarray(b.raw()))
                   for b in buffers)
        """),
])
