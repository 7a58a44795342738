"""PyTorch: checkpoints with our pickler, and its DataLoader under spawn."""

import pytest

from library_scripts import run

pytest.importorskip("torch")

NET = """
    import io, pickle, torch, fpickle

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(3, 2)
            self.activation = lambda x: x * 2

        def forward(self, x):
            return self.activation(self.layer(x))
"""


def test_save_and_load(tmp_path):
    """A module with a lambda, of a class of the script, through a file."""
    lines = run(NET + """
    net = Net()
    x = torch.ones(1, 3)
    for name, zipped in ("new", True), ("old", False):
        torch.save(net, name, pickle_module=fpickle,
                   _use_new_zipfile_serialization=zipped)
        back = torch.load(name, pickle_module=fpickle, weights_only=False)
        print(type(back) is Net, torch.equal(back(x), net(x)))
    shared = [net.layer.weight, net.layer.weight.view(-1)]
    torch.save(shared, "shared", pickle_module=fpickle)
    one, two = torch.load("shared", pickle_module=fpickle, weights_only=False)
    one.data.fill_(7)
    print(two.tolist())
    torch.save(net.state_dict(), "weights", pickle_module=fpickle)
    print(list(torch.load("weights", weights_only=True)))
    torch.save(net(x), "out")
    """, tmp_path)
    assert lines == ["True True", "True True", str([7.0] * 6),
                     "['layer.weight', 'layer.bias']"]
    # Another process, which has no such class; the second has no fpickle.
    for first, argument in (
        ("import fpickle", ", pickle_module=fpickle"),
        ("import sys; sys.modules['fpickle'] = None", ""),
    ):
        assert run(f"""
    {first}
    import torch
    for name in "new", "old":
        net = torch.load(name, weights_only=False{argument})
        print(type(net).__name__, torch.equal(
            net(torch.ones(1, 3)), torch.load("out")))
        """, tmp_path) == ["Net True"] * 2


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_data_loader(method, tmp_path):
    """Lambdas for collate_fn and worker_init_fn, a data set of the script;
    tensors come back through the reducers that torch has registered."""
    assert run(NET + f"""
    def main():
        class Squares(torch.utils.data.Dataset):
            def __len__(self):
                return 6
            def __getitem__(self, i):
                return torch.tensor(i * i)
        scale = 10
        with fpickle.install():
            loader = torch.utils.data.DataLoader(
                Squares(), batch_size=3, num_workers=2,
                multiprocessing_context={method!r},
                collate_fn=lambda batch: torch.stack(batch) * scale,
                worker_init_fn=lambda i: torch.manual_seed(i))
            for batch in loader:
                print(batch.tolist(), batch.is_shared())
    if __name__ == "__main__":
        main()
    """, tmp_path) == ["[0, 10, 40] True", "[90, 160, 250] True"]


def test_tensors_through_a_pool(tmp_path):
    assert run(NET + """
    import torch.multiprocessing as multiprocessing
    def main():
        tensor = torch.zeros(3).share_memory_()
        with fpickle.install(), multiprocessing.get_context(
                "spawn").Pool(1) as pool:
            def fill(t):
                t += 1
                return t * 2
            print(pool.apply(fill, (tensor,)).tolist(), tensor.tolist())
    if __name__ == "__main__":
        main()
    """, tmp_path) == ["[2.0, 2.0, 2.0] [1.0, 1.0, 1.0]"]
