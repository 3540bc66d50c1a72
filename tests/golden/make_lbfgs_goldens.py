#!/usr/bin/env python3
"""Makes lbfgs.safetensors: how far torch.optim.LBFGS (strong Wolfe, its usual settings, double precision) gets on small
problems, by the number of evaluations. test_lbfgs.c solves the same from the same weights.

    python3 make_lbfgs_goldens.py          (needs torch and safetensors; made with torch 2.15)

Weights and rows come from the formula of make_image_net_goldens.py. Of a problem NAME: NAME/evaluations [steps], the
sum after each call of step(), and NAME/loss [steps], the loss there.

    mlp1 to mlp40  64 rows of 3 to 1 by 12 tanh, mean squared error; y = sin(4 a b) + c^2 (seeds 1 to 40)
    bowl           mean of (w - t)^2 over 50 elements, element i counting 10^(i / 10)
"""
import os

import torch
from safetensors.torch import save_file

from make_image_net_goldens import unit, values

STEPS = 30
tensors = {}


def solve(name, weights, loss):
    optimizer = torch.optim.LBFGS(weights, lr=1, line_search_fn="strong_wolfe")
    evaluations, losses = [], []

    def closure():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    for _ in range(STEPS):
        optimizer.step(closure)
        evaluations.append(optimizer.state[weights[0]]["func_evals"])
        losses.append(loss().item())
    tensors[f"{name}/evaluations"] = torch.tensor(evaluations, dtype=torch.int32)
    tensors[f"{name}/loss"] = torch.tensor(losses, dtype=torch.float64)
    print(name, [(e, f"{v:.3g}") for e, v in zip(evaluations, losses)][::4])


def mlp(seed):
    shapes = {"fc1/weight": (12, 3), "fc1/bias": (12,), "fc2/weight": (1, 12), "fc2/bias": (1,)}
    w = {path: values(path, seed, shape).double().requires_grad_() for path, shape in shapes.items()}
    x = (unit("x", seed, 192) * 2 - 1).float().double().reshape(64, 3)
    y = (torch.sin(4 * x[:, 0] * x[:, 1]) + x[:, 2] ** 2).float().double()

    def loss():
        h = torch.tanh(x @ w["fc1/weight"].T + w["fc1/bias"])
        return ((h @ w["fc2/weight"].T + w["fc2/bias"]).flatten() - y).square().mean()

    solve(f"mlp{seed}", list(w.values()), loss)


def bowl():
    w = torch.zeros(50, dtype=torch.float64, requires_grad=True)
    t, weight = unit("t", 1, 50), 10 ** (torch.arange(50).double() / 10)
    solve("bowl", [w], lambda: (weight * (w - t) ** 2).mean())


def main():
    for seed in range(1, 41):
        mlp(seed)
    bowl()
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lbfgs.safetensors")
    save_file(tensors, path)
    print(f"{path}: {len(tensors)} tensors, {os.path.getsize(path)} bytes")


if __name__ == "__main__":
    main()
