#!/usr/bin/env python3
"""Makes nets.safetensors: small networks for sequences trained for 30 steps by PyTorch, in double precision.
test_net_golden.c trains the same from the same weights on the same batches and compares losses. (Networks for images:
make_image_net_goldens.py.)

    python3 make_net_goldens.py          (needs torch and safetensors; made with torch 2.15)

A network NAME has its first weights NAME/w/<our path>, batches NAME/x [batches,B,..] and NAME/y [batches,B] (classes)
or [batches,B,horizon] (values), which are used in turn, the losses NAME/loss [steps], and what the trained network says
of the first batch, NAME/logits.
"""
import math
import os

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

torch.manual_seed(7)
torch.set_default_dtype(torch.float64)
STEPS, BATCHES = 30, 4
tensors = {}


class Net:
    """Parameters by our paths, made on first use; a scope is a prefix."""

    def __init__(self):
        self.weights, self.first, self.scope = {}, {}, ""

    def parameter(self, path, shape, scale, offset=0.0):
        path = self.scope + path
        if path not in self.weights:
            value = ((torch.rand(shape) * 2 - 1) * scale + offset).float().double()
            self.first[path] = value.clone()
            self.weights[path] = value.requires_grad_()
        return self.weights[path]

    def linear(self, x, name, features):
        scale = 1 / math.sqrt(x.shape[-1])
        w = self.parameter(f"{name}/weight", (features, x.shape[-1]), scale)
        return F.linear(x, w, self.parameter(f"{name}/bias", (features,), scale))

    def conv1d(self, x, name, channels, kernel, dilation=1):
        """[B,T,C] to [B,T',channels]"""
        scale = 1 / math.sqrt(x.shape[2] * kernel)
        w = self.parameter(f"{name}/weight", (channels, x.shape[2], kernel), scale)
        b = self.parameter(f"{name}/bias", (channels,), scale)
        return F.conv1d(x.transpose(1, 2), w, b, dilation=dilation).transpose(1, 2)

    def recurrent(self, kind, x, name, size):
        gates, scale = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind] * size, 1 / math.sqrt(size)
        names = [("weight_ih", (gates, x.shape[-1])), ("weight_hh", (gates, size)), ("bias_ih", (gates,)),
                 ("bias_hh", (gates,))]
        w = [self.parameter(f"{name}/{n}", shape, scale) for n, shape in names]
        zero = torch.zeros(1, x.shape[0], size)
        if kind == "LSTM":
            return torch.lstm(x, (zero, zero), w, True, 1, 0.0, True, False, True)[0]
        return (torch.gru if kind == "GRU" else torch.rnn_tanh)(x, zero, w, True, 1, 0.0, True, False, True)[0]


def last_state(kind):
    return lambda net, x: net.linear(net.recurrent(kind, x, "cell", 12)[:, -1], "head", 5)


def both_directions(net, x):
    """Two layers of LSTM, each in both directions."""
    for layer in ("a", "b"):
        forth = net.recurrent("LSTM", x, f"{layer}_forth", 6)
        back = net.recurrent("LSTM", x.flip(1), f"{layer}_back", 6).flip(1)
        x = torch.cat([forth, back], -1)
    return net.linear(x.mean(1), "head", 5)


LENGTHS = [9, 5, 1, 7, 3, 9]


def ragged(net, x):
    """An LSTM and a GRU over series of their own lengths, each by itself; zeros behind them, and their last states."""
    outputs, lasts = [], []
    for kind, name, back in (("LSTM", "forth", False), ("GRU", "back", True)):
        rows, ends = [], []
        for b, length in enumerate(LENGTHS):
            own = x[b:b + 1, :length]
            y = net.recurrent(kind, own.flip(1) if back else own, name, 6)
            ends.append(y[:, -1])
            rows.append(F.pad(y.flip(1) if back else y, (0, 0, 0, x.shape[1] - length)))
        outputs.append(torch.cat(rows))
        lasts.append(torch.cat(ends))
    return net.linear(torch.cat([torch.cat(outputs, -1).mean(1), *lasts], -1), "head", 5)


def forecaster(kind, width, horizon, layers):
    """The last state of as many layers; a TCN's have dilations of 1, 2, 4, ... (Bai et al. 2018)."""
    def build(net, x):
        for i in range(layers):
            if kind == "TCN":
                x = tcn_block(net, x, f"layer{i + 1}/", width, 2 ** i)
            else:
                x = net.recurrent(kind, x, f"layer{i + 1}", width)
        return net.linear(x[:, -1], "head", horizon)
    return build


def tcn_block(net, x, scope, width, dilation):
    net.scope, past, h = scope, x, x
    for name in ("conv1", "conv2"):
        h = F.relu(net.conv1d(F.pad(h.transpose(1, 2), (2 * dilation, 0)).transpose(1, 2), name, width, 3, dilation))
    if x.shape[-1] != width:
        past = net.conv1d(x, "skip", width, 1)
    net.scope = ""
    return F.relu(past + h)


def flat(horizon):
    return lambda net, x: net.linear(x.flatten(1), "head", horizon)


def rms_norm(x):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


def rotate(x):
    """Rotary positions of x [B,H,T,D], angles rounded to float as Hugging Face's are (Su et al. 2021)."""
    half = x.shape[-1] // 2
    frequency = 1 / torch.pow(torch.tensor(10000.0).float(), torch.arange(half).float() * 2 / x.shape[-1])
    angle = torch.outer(torch.arange(x.shape[2]).float(), frequency).double()
    cos, sin = angle.cos().float().double(), angle.sin().float().double()
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def fast(net, ids):
    """The model kind "fast": 2 layers, 12 wide, 3 heads; norms without gains, squared ReLU, an untied head."""
    h = rms_norm(net.parameter("embed/weight", (11, 12), 1.0)[ids])
    for i in range(2):
        net.scope = f"h{i}/"
        qkv = rms_norm(h) @ net.parameter("attn/qkv/weight", (36, 12), 0.3).T
        q, k, v = (t.unflatten(-1, (3, 4)).transpose(1, 2) for t in qkv.chunk(3, -1))
        q, k = rotate(rms_norm(q)), rotate(rms_norm(k))
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        h = h + seen @ net.parameter("attn/out/weight", (12, 12), 0.3).T
        up = F.relu(rms_norm(h) @ net.parameter("mlp/up/weight", (48, 12), 0.3).T).square()
        h = h + up @ net.parameter("mlp/down/weight", (12, 48), 0.15).T
    net.scope = ""
    return rms_norm(h) @ net.parameter("head/weight", (11, 12), 0.3).T


def train(name, build, shape, classes, optimizer, steps=STEPS, horizon=0):
    net = Net()
    x = torch.rand((BATCHES, *shape)).float().double()
    y = torch.randint(0, classes, (BATCHES, shape[0]))
    x = (x + 0.1 * y.view(BATCHES, -1, *[1] * (len(shape) - 1))).float().double()  # something to learn
    if build is fast:  # tokens, each followed by one of two
        x = torch.randint(0, 11, (BATCHES, *shape))
        y = (3 * x + torch.randint(0, 2, x.shape)) % 11
    if horizon:
        y = x.mean(-1)[:, :, :horizon].cumsum(-1).float().double()
    build(net, x[0])  # makes the parameters
    step = optimizer(list(net.weights.values()))
    losses = []
    for i in range(steps):
        step.zero_grad()
        said, right = build(net, x[i % BATCHES]), y[i % BATCHES]
        loss = F.mse_loss(said, right) if horizon else F.cross_entropy(said.flatten(0, -2), right.flatten())
        loss.backward()
        step.step()
        losses.append(loss.item())
    for path, value in net.first.items():
        tensors[f"{name}/w/{path}"] = value.float()
    tensors[f"{name}/x"] = x.int() if build is fast else x.float()
    tensors[f"{name}/y"] = y.float() if horizon else y.int()
    tensors[f"{name}/loss"] = torch.tensor(losses)
    with torch.no_grad():
        tensors[f"{name}/logits"] = build(net, x[0])
    print(name, losses[0], losses[-1], sum(w.numel() for w in net.weights.values()))


def adamw(weights):
    groups = [{"params": [w for w in weights if w.dim() > 1], "weight_decay": 0.1},
              {"params": [w for w in weights if w.dim() <= 1], "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=3e-3, betas=(0.9, 0.95), eps=1e-8)


train("lstm", last_state("LSTM"), (6, 9, 7), 5, adamw)
train("gru", last_state("GRU"), (6, 9, 7), 5, adamw)
train("rnn", last_state("RNN"), (6, 9, 7), 5, adamw)
train("bidirectional", both_directions, (6, 9, 7), 5, adamw)
train("forecast_lstm", forecaster("LSTM", 8, 4, 2), (6, 11, 2), 2, adamw, horizon=4)
train("forecast_gru", forecaster("GRU", 8, 4, 1), (6, 11, 2), 2, adamw, horizon=4)
train("forecast_tcn", forecaster("TCN", 8, 4, 2), (6, 11, 2), 2, adamw, horizon=4)
train("ragged", ragged, (6, 9, 7), 5, adamw)
train("forecast_linear", flat(4), (6, 11, 2), 2, adamw, horizon=4)
train("logistic", flat(5), (6, 9, 7), 5, adamw)
train("fast", fast, (4, 8), 2, adamw)
save_file({k: v.detach().contiguous() for k, v in tensors.items()},
          os.path.join(os.path.dirname(os.path.abspath(__file__)), "nets.safetensors"))
