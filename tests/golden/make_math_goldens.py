#!/usr/bin/env python3
"""Makes math.safetensors: element-wise ops, reductions and optimizer updates by PyTorch in double precision, at
ordinary points and at the awkward ones (NaN, infinities, zeros, ties). test_math_golden.c builds and compares the same.

    python3 make_math_goldens.py        (needs torch, lion-pytorch and safetensors; made with torch 2.15)

A case NAME has inputs NAME/in0.. in the op's order and outputs NAME/out0..; where there is NAME/g, the gradient that
arrives at out0, there is NAME/gradI = d<g, out0>/d inI for each float input.
"""
import os

import torch
import torch.nn.functional as F
from lion_pytorch import Lion
from safetensors.torch import save_file

torch.manual_seed(20)
torch.set_default_dtype(torch.float64)
tensors = {}
inf, nan = float("inf"), float("nan")
AWKWARD = torch.tensor([nan, inf, -inf, 0.0, 1.0, -1.0, 0.5, -0.5, 2.5, -2.5, 30.0, -30.0, 1e-8, -1e-8, 800.0, -800.0])


def rand(*shape, low=-2.0, high=2.0):
    """Uniform values that f32 holds exactly."""
    return (torch.rand(shape) * (high - low) + low).float().double()


def store(name, **values):
    for key, value in values.items():
        tensors[f"{name}/{key}"] = value.detach().clone().contiguous()


def case(name, inputs, function, gradient=True):
    leaves = [t.clone().requires_grad_(gradient and t.is_floating_point()) for t in inputs]
    out = function(*leaves)
    out = out.to(torch.int32) if out.dtype == torch.int64 else out
    store(name, out0=out, **{f"in{i}": t for i, t in enumerate(inputs)})
    if not gradient:
        return
    g = rand(*out.shape)
    floats = [i for i, t in enumerate(leaves) if t.is_floating_point()]
    grads = torch.autograd.grad(out, [leaves[i] for i in floats], g)
    store(name, g=g, **{f"grad{i}": t for i, t in zip(floats, grads)})


UNARY = {
    "neg": torch.neg, "abs": torch.abs, "sign": torch.sign, "exp": torch.exp, "expm1": torch.expm1, "log": torch.log,
    "log1p": torch.log1p, "sqrt": torch.sqrt, "rsqrt": torch.rsqrt, "reciprocal": torch.reciprocal,
    "square": torch.square, "sin": torch.sin, "cos": torch.cos, "tan": torch.tan, "tanh": torch.tanh, "erf": torch.erf,
    "sigmoid": torch.sigmoid, "relu": torch.relu, "leaky_relu": F.leaky_relu, "elu": F.elu, "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "silu": F.silu, "softplus": F.softplus,
    "relu_squared": lambda x: torch.relu(x) ** 2, "floor": torch.floor, "ceil": torch.ceil, "round": torch.round,
    "isfinite": torch.isfinite, "clamp": lambda x: torch.clamp(x, -0.7, 1.1), "pow_scalar": lambda x: x**3.0,
}
NOT_AWKWARD = {"sign": [0]}  # of NaN: 0 in PyTorch, NaN here


def optimizer(name, make, state_names, hyper):
    """The third of three steps."""
    p = rand(13).requires_grad_()
    steps = make(p)
    for step in range(3):
        p.grad = rand(13)
        if step == 2:
            before = [p.clone(), p.grad.clone()] + [steps.state[p][s].clone() for s in state_names]
        steps.step()
    inputs = before + [torch.tensor(hyper), torch.tensor(1.0)]
    outputs = [p] + [steps.state[p][s] for s in state_names]
    store(name, **{f"in{i}": t for i, t in enumerate(inputs)}, **{f"out{i}": t for i, t in enumerate(outputs)})


def optimizers():
    adam = [0.05, 1 / (1 - 0.8**3), 1 / (1 - 0.95**3), 0.0]
    moments = ["exp_avg", "exp_avg_sq"]
    keys = dict(lr=0.05, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1)
    optimizer("adamw", lambda p: torch.optim.AdamW([p], **keys), moments, adam)
    optimizer("adam", lambda p: torch.optim.Adam([p], **keys), moments, adam)
    rate = [0.05, 0.0, 0.0, 0.0]
    optimizer("sgd", lambda p: torch.optim.SGD([p], lr=0.05, weight_decay=0.1), [], rate)
    for name, nesterov, dampening in (("sgd_momentum", False, 0.25), ("sgd_nesterov", True, 0.0)):
        optimizer(name, lambda p: torch.optim.SGD([p], lr=0.05, momentum=0.9, dampening=dampening, nesterov=nesterov,
                                                  weight_decay=0.1), ["momentum_buffer"], rate)


def main():
    for name, function in UNARY.items():
        positive = name in ("log", "log1p", "sqrt", "rsqrt")
        case(name, [rand(5, 7, low=0.1 if positive else -3.0, high=3.0)], function, name != "isfinite")
        keep = torch.ones(len(AWKWARD), dtype=torch.bool)
        keep[NOT_AWKWARD.get(name, [])] = False
        case(name + "_awkward", [AWKWARD[keep]], function, gradient=False)

    pairs = torch.cartesian_prod(*(2 * [torch.tensor([nan, inf, -inf, 0.0, 1.5, -1.5])]))
    for name, function in {
        "add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div, "pow": torch.pow, "fmod": torch.fmod,
        "maximum": torch.maximum, "minimum": torch.minimum, "atan2": torch.atan2, "eq": torch.eq, "ne": torch.ne,
        "lt": torch.lt, "le": torch.le, "gt": torch.gt, "ge": torch.ge,
    }.items():
        smooth = name not in ("eq", "ne", "lt", "le", "gt", "ge")
        low = 0.2 if name == "pow" else -2.0
        case(name, [rand(5, 1, 7, low=low), rand(3, 1, low=low)], function, smooth)
        if name != "fmod":  # fmod(x, inf) is x in C
            case(name + "_awkward", [pairs[:, 0], pairs[:, 1]], function, gradient=False)
    ties = [torch.tensor([1.0, 2.0, 2.0, -1.0]), torch.tensor([1.0, 1.0, 3.0, -1.0])]
    case("maximum_ties", ties, torch.maximum)
    case("minimum_ties", ties, torch.minimum)
    case("pow_zero", [torch.tensor([0.0, 0.0, 2.0]), torch.tensor([2.0, 1.0, 0.0])], torch.pow)
    case("where", [torch.tensor([[True], [False], [True]]), rand(4), rand(3, 4)], torch.where)

    x = rand(3, 5, 4)
    equal = torch.tensor([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])
    for name, function in {"sum": torch.sum, "mean": torch.mean, "max": torch.amax, "min": torch.amin,
                           "logsumexp": torch.logsumexp}.items():
        case(name, [x], lambda t: function(t, dim=(0, 2)))
        case(name + "_keep", [x], lambda t: function(t, dim=1, keepdim=True))
        case(name + "_ties", [equal], lambda t: function(t, dim=1))
        case(name + "_awkward", [torch.stack([AWKWARD[0:4], AWKWARD[1:5], AWKWARD[2:6], AWKWARD[11:15]])],
             lambda t: function(t, dim=1), gradient=False)
    case("variance", [x], lambda t: torch.var(t, dim=(0, 2), correction=1))
    case("prod", [x], lambda t: torch.prod(t, dim=1))
    zeros = torch.tensor([[2.0, 0.0, 3.0], [0.0, 0.0, 3.0], [1.0, 2.0, 3.0]])
    case("prod_zeros", [zeros], lambda t: torch.prod(t, dim=1))
    case("argmax", [x], lambda t: torch.argmax(t, dim=1), gradient=False)
    case("argmin", [equal], lambda t: torch.argmin(t, dim=1), gradient=False)
    case("argmax_awkward", [AWKWARD], lambda t: torch.argmax(t), gradient=False)
    optimizers()
    booleans = [rand(4, 5) > 0, rand(5) > 0]
    case("and", booleans, torch.logical_and, gradient=False)
    case("or", booleans, torch.logical_or, gradient=False)
    case("not", booleans[:1], torch.logical_not, gradient=False)
    case("any", [rand(4, 3) > 1], lambda t: torch.any(t, dim=1), gradient=False)
    case("all", [rand(4, 3) > -1], lambda t: torch.all(t, dim=1), gradient=False)
    case("add_scalar", [rand(7)], lambda t: t + 0.3)
    case("mul_scalar", [rand(7)], lambda t: t * -1.7)
    optimizer("lion", lambda p: Lion([p], lr=0.05, betas=(0.8, 0.95), weight_decay=0.1), ["exp_avg"],
              [0.05, 0.0, 0.0, 0.0])
    average = torch.optim.swa_utils.get_ema_avg_fn(0.9)
    case("ema", [rand(7), rand(7)], lambda a, b: average(a, b, 0), gradient=False)
    ids = torch.tensor([[3, 0], [2, 3], [1, 1]], dtype=torch.int32)
    case("one_hot", [ids], lambda t: F.one_hot(t.long(), 5).double(), gradient=False)

    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "math.safetensors")
    save_file(tensors, path, {"format": "pt", "made_by": f"make_math_goldens.py with torch {torch.__version__}"})
    print(f"{path}: {len(tensors)} tensors, {os.path.getsize(path)} bytes")


if __name__ == "__main__":
    main()
