from real_case import Case, Library

LIBRARY = Library("torch", "torch", [
    Case("tensors of several dtypes and strides", """
        import torch
        a = torch.arange(6.0).reshape(2, 3)
        OBJ = [a, a.t(), torch.tensor(5), torch.zeros(0, 2),
               torch.tensor([1.5], dtype=torch.bfloat16),
               torch.tensor([1 + 2j]), torch.tensor([True])]
        """, """
        import torch
        a = torch.arange(6.0).reshape(2, 3)
        assert torch.equal(o[0], a) and torch.equal(o[1], a.t())
        assert o[1].stride() == (1, 3) and o[2].item() == 5
        assert o[3].shape == (0, 2) and o[4].dtype == torch.bfloat16
        assert o[5].item() == 1 + 2j and o[6].item() is True
        """),
    Case("one tensor twice, and a view of it", """
        import torch
        a = torch.zeros(4)
        OBJ = [a, a[:2], a]
        """, """
        assert o[0] is o[2]
        """),
    Case("dtype, device, size, parameter, optimizer", """
        import torch
        p = torch.nn.Parameter(torch.ones(2))
        optimizer = torch.optim.Adam([p], lr=0.1)
        p.sum().backward(); optimizer.step()
        OBJ = [torch.float16, torch.device("cpu"), torch.Size([1, 2]), p,
               optimizer]
        """, """
        import torch
        assert o[0] is torch.float16 and o[1] == torch.device("cpu")
        assert type(o[2]) is torch.Size and o[2] == (1, 2)
        assert type(o[3]) is torch.nn.Parameter and o[3].requires_grad
        assert abs(o[3][0].item() - 0.9) < 1e-3
        assert o[4].param_groups[0]["params"][0] is o[3]
        """),
    Case("nn.Module of __main__: output, state, training", """
        import torch
        from torch import nn
        torch.manual_seed(0)
        class Net(nn.Module):
            def __init__(self, width):
                super().__init__()
                self.first = nn.Linear(2, width)
                self.register_buffer("scale", torch.tensor(2.0))
                self.last = nn.Linear(width, 1)
            def forward(self, x):
                return self.last(torch.relu(self.first(x))) * self.scale
        net = Net(3)
        OBJ = [net, net(torch.ones(1, 2)).item()]
        """, """
        import torch
        net, output = o
        assert isinstance(net, torch.nn.Module)
        assert net(torch.ones(1, 2)).item() == output
        assert sorted(net.state_dict())[-1] == "scale"
        net(torch.ones(1, 2)).backward()
        assert net.first.weight.grad is not None
        again = type(net)(3)
        again.load_state_dict(net.state_dict())
        assert again(torch.ones(1, 2)).item() == output
        """),
    Case("Sequential with lambda hooks", """
        import torch
        from torch import nn
        k = 10.0
        OBJ = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU())
        OBJ[0].weight.data.fill_(1)
        OBJ.register_forward_hook(lambda module, args, out: out * k)
        OBJ.register_forward_pre_hook(lambda module, args: (args[0] + 1,))
        """, """
        import torch
        assert o(torch.ones(1, 2)).tolist() == [[40, 40]]
        """),
    Case("autograd Function of __main__", """
        import torch
        class Double(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x * 2
            @staticmethod
            def backward(ctx, grad):
                return grad * 3
        OBJ = Double
        """, """
        import torch
        x = torch.ones(1, requires_grad=True)
        o.apply(x).backward()
        assert x.grad.item() == 3
        """),
    Case("Dataset and collate function of __main__, in a DataLoader", """
        import torch
        from torch.utils.data import DataLoader, Dataset
        k = 2
        class Squares(Dataset):
            def __len__(self):
                return 4
            def __getitem__(self, i):
                return i * i
        OBJ = DataLoader(Squares(), batch_size=2, collate_fn=lambda rows:
                         torch.tensor(rows) * k)
        """, """
        assert [b.tolist() for b in o] == [[0, 2], [8, 18]]
        """),
    Case("subclass of Tensor in __main__", """
        import torch
        class Tagged(torch.Tensor):
            def shout(self):
                return "!" * len(self)
        OBJ = torch.arange(3.0).as_subclass(Tagged)
        OBJ.tag = "t"
        """, """
        import torch
        assert isinstance(o, torch.Tensor) and type(o).__name__ == "Tagged"
        assert o.shout() == "!!!" and o.tag == "t" and o.sum().item() == 3
        assert type(o + 1) is type(o)
        """),
    Case("LambdaLR scheduler, distribution", """
        import torch
        p = torch.nn.Parameter(torch.ones(1))
        optimizer = torch.optim.SGD([p], lr=1.0)
        rate = 0.5
        OBJ = [torch.optim.lr_scheduler.LambdaLR(
                   optimizer, lambda epoch: rate ** epoch),
               torch.distributions.Normal(0.0, 1.0)]
        """, """
        import torch
        o[0].optimizer.step(); o[0].step()
        assert o[0].get_last_lr() == [0.5]
        assert abs(o[1].log_prob(torch.tensor(0.0)).item() + 0.9189) < 1e-3
        """),
    Case("function that takes the gradient of a lambda", """
        import torch
        w = torch.tensor([1.0, 2.0])
        def f(x):
            return torch.func.grad(lambda v: (w * v * v).sum())(x)
        OBJ = f
        """, """
        import torch
        assert o(torch.ones(2)).tolist() == [2, 4]
        """),
    Case("torch.fx graph of a module of __main__", """
        import torch
        class Net(torch.nn.Module):
            def forward(self, x):
                return torch.relu(x) + 1
        OBJ = torch.fx.symbolic_trace(Net())
        """, """
        import torch
        assert o(torch.tensor([-1.0, 1])).tolist() == [1, 2]
        """),
    Case("torch.jit script", """
        import torch
        @torch.jit.script
        def f(x: torch.Tensor) -> torch.Tensor:
            return x + 1
        OBJ = f
        """, """
        import torch
        assert o(torch.ones(1)).item() == 2
        """, known="torch's ScriptFunction refuses; torch.jit.save is for it"),
])
