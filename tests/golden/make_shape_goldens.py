#!/usr/bin/env python3
"""Makes shape.safetensors: values and gradients of matrix products, views, indices and recurrent layers, by PyTorch in
double precision; second derivatives of what is not linear. test_shape_golden.c builds the same and compares.

    python3 make_shape_goldens.py          (needs torch and safetensors; made with torch 2.15)

The cases are laid out as in make_nn_goldens.py. Layers have parameters, NAME/p/<our path>, and NAME/pg/<our path>, what
the gradient of <g, out0> is there.
"""
import torch
import torch.nn.functional as F
from make_nn_goldens import case, ints, rand, save, tensors
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

ACTIVATIONS = {"none": lambda x: x, "relu": F.relu, "gelu": F.gelu, "silu": F.silu, "tanh": torch.tanh,
               "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "relu_squared": lambda x: F.relu(x) ** 2,
               "sigmoid": torch.sigmoid}


def linear_case(name, inputs, function):
    case(name, inputs, function, second=False)


def products():
    case("matmul", [rand(3, 1, 2, 5), rand(2, 5, 4)], torch.matmul)
    case("matmul_shared", [rand(2, 3, 4), rand(4, 5)], torch.matmul)
    for name, function in ACTIVATIONS.items():
        case(f"linear_{name}", [rand(2, 3, 4), rand(5, 4), rand(5)],
             lambda x, w, b, function=function: function(F.linear(x, w, b)))


def views():
    x = rand(2, 3, 4)
    linear_case("reshape", [x], lambda x: x.reshape(4, -1, 2))
    linear_case("transpose", [x], lambda x: x.permute(2, 0, 1))
    linear_case("slice", [x], lambda x: x[:, :, -3:-1])
    linear_case("broadcast_to", [rand(3, 1)], lambda x: x.expand(2, 3, 4))
    linear_case("concat", [x, rand(2, 1, 4), rand(2, 2, 4)], lambda *parts: torch.cat(parts, 1))
    linear_case("stack", [x, rand(2, 3, 4)], lambda *parts: torch.stack(parts, 1))
    linear_case("pad", [x], lambda x: F.pad(x, (0, 2, 1, 0), value=-1.5))
    linear_case("flip", [x], lambda x: x.flip(1))
    linear_case("tril", [rand(2, 4, 5)], lambda x: x.tril(1))
    linear_case("triu", [rand(2, 5, 4)], lambda x: x.triu(-1))
    linear_case("cumsum", [x], lambda x: x.cumsum(1))
    linear_case("cumsum_from_end", [x], lambda x: x.flip(1).cumsum(1).flip(1) - x)
    case("stop_gradient", [x, rand(2, 3, 4)], lambda x, y: x.detach() * y)


def indices():
    x = rand(3, 5, 4)
    linear_case("gather", [x, ints(2, 6, 4, low=0, high=4)], lambda x, i: x.gather(1, i.long()))
    linear_case("scatter_add", [x, ints(3, 7, 2, low=0, high=4), rand(3, 7, 2)],
                lambda x, i, src: x.scatter_add(1, i.long(), src))
    linear_case("take", [x, torch.tensor([4, 0, 4, 1], dtype=torch.int32)], lambda x, i: x.index_select(1, i.long()))
    linear_case("topk", [x], lambda x: x.topk(3, 1).values)
    linear_case("embedding", [rand(6, 3), ints(2, 5, low=0, high=5)], lambda w, i: F.embedding(i.long(), w))


def cells():
    """The inputs' products are given, so that their weight is the unit matrix."""
    b, t, h = 2, 4, 3

    def weights(gates, w, bias=None):
        n = gates.shape[-1]
        return [torch.eye(n), w, torch.zeros(n), torch.zeros(n) if bias is None else bias]

    def lstm(gates, w, h0, c0):
        y, _, c = torch.lstm(gates, (h0[None], c0[None]), weights(gates, w), True, 1, 0.0, True, False, True)
        return y + c.transpose(0, 1)

    def gru(gates, w, bias, h0):
        return torch.gru(gates, h0[None], weights(gates, w, bias), True, 1, 0.0, True, False, True)[0]

    def rnn(function):
        return lambda gates, w, h0: function(gates, h0[None], weights(gates, w), True, 1, 0.0, True, False, True)[0]

    case("lstm", [rand(b, t, 4 * h), rand(4 * h, h), rand(b, h), rand(b, h)], lstm)
    case("gru", [rand(b, t, 3 * h), rand(3 * h, h), rand(3 * h), rand(b, h)], gru)
    case("rnn", [rand(b, t, h), rand(h, h), rand(b, h)], rnn(torch.rnn_tanh))
    case("rnn_relu", [rand(b, t, h), rand(h, h), rand(b, h)], rnn(torch.rnn_relu))


def layers(name, module, cell):
    """Layers in both directions over series of their own lengths, from given states: outputs, and the last states."""
    x, lengths, h = rand(3, 5, 4), torch.tensor([5, 1, 4], dtype=torch.int32), module.hidden_size
    states = [rand(2 * module.num_layers, 3, h) for _ in range(2 if cell == "lstm" else 1)]
    parameters = {}
    for layer in range(module.num_layers):
        for direction, suffix in (("forth", ""), ("back", "_reverse")):
            for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                w = getattr(module, f"{part}_l{layer}{suffix}")
                w.data = rand(*w.shape, low=-0.7, high=0.7)
                parameters[f"{direction}{layer}/{part}"] = w

    def run(x, lengths, *states):
        packed = pack_padded_sequence(x, lengths.long(), batch_first=True, enforce_sorted=False)
        packed, last = module(packed, tuple(states) if cell == "lstm" else states[0])
        y = pad_packed_sequence(packed, batch_first=True, total_length=x.shape[1])[0]
        last = sum(last) if cell == "lstm" else last
        return y + torch.cat([last[-2], last[-1]], -1)[:, None, :]

    case(name, [x, lengths, *states], run, second=False)
    grads = torch.autograd.grad(run(x, lengths, *states), list(parameters.values()), tensors[f"{name}/g"])
    for (path, w), grad in zip(parameters.items(), grads):
        tensors[f"{name}/p/{path}"] = w.detach().clone()
        tensors[f"{name}/pg/{path}"] = grad.clone()


def recurrent_layers():
    both = {"batch_first": True, "bidirectional": True}
    layers("lstm_layers", torch.nn.LSTM(4, 3, 2, **both), "lstm")
    layers("gru_layers", torch.nn.GRU(4, 3, 2, **both), "gru")
    layers("rnn_layers", torch.nn.RNN(4, 3, 2, **both), "rnn")
    layers("relu_layer", torch.nn.RNN(4, 3, 1, nonlinearity="relu", **both), "rnn")


def main():
    products()
    views()
    indices()
    cells()
    recurrent_layers()
    save("shape")


if __name__ == "__main__":
    main()
