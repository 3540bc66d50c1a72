#!/usr/bin/env python3
"""Makes nn.safetensors: values, gradients and second derivatives of normalisation, attention and losses, by PyTorch in
double precision. test_nn_golden.c builds the same things and compares.

    python3 make_nn_goldens.py          (needs torch and safetensors; made with torch 2.15)

A case NAME has the inputs NAME/in0.. in the op's order, the outputs NAME/out0.., the gradient NAME/g that arrives at
out0, NAME/gradI = d<g, out0>/d inI for each float input, and NAME/uI and NAME/secondI = d(sum_J <uJ, gradJ>)/d inI.
"""
import os

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.bias import causal_lower_right

torch.manual_seed(20)
torch.set_default_dtype(torch.float64)
tensors = {}


def rand(*shape, low=-2.0, high=2.0):
    """Uniform values that f32 holds exactly."""
    return (torch.rand(shape) * (high - low) + low).float().double()


def ints(*shape, low, high):
    return torch.randint(low, high + 1, shape, dtype=torch.int32)


def case(name, inputs, function, second=True):
    """Stores one case. `function` takes the inputs and returns out0 or a tuple of outputs."""
    leaves = [t.clone().requires_grad_() if t.is_floating_point() else t for t in inputs]
    with sdpa_kernel(SDPBackend.MATH):  # the backend that can be differentiated twice
        outputs = function(*leaves)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        g = rand(*outputs[0].shape)
        floats = [i for i, t in enumerate(leaves) if t.is_floating_point()]
        wrt = [leaves[i] for i in floats]
        grads = torch.autograd.grad(outputs[0], wrt, g, create_graph=second, allow_unused=True, materialize_grads=True)
        stored = {f"in{i}": t for i, t in enumerate(inputs)}
        stored |= {f"out{i}": t for i, t in enumerate(outputs)}
        stored |= {"g": g} | {f"grad{i}": t for i, t in zip(floats, grads)}
        if second:
            u = [rand(*t.shape) for t in grads]
            along = sum((a * b).sum() for a, b in zip(u, grads))
            seconds = [torch.zeros_like(t) for t in wrt]  # what is linear has none
            if along.requires_grad:
                seconds = torch.autograd.grad(along, wrt, allow_unused=True, materialize_grads=True)
            stored |= {f"u{i}": t for i, t in zip(floats, u)}
            stored |= {f"second{i}": t for i, t in zip(floats, seconds)}
    for key, value in stored.items():
        tensors[f"{name}/{key}"] = value.detach().clone().contiguous()


def attention(q, k, v, mask=None, seen=None, causal=False, scale=None):
    """[B,T,H,D] as the engine lays it out; PyTorch wants [B,H,T,D]. `seen` is bool [T,S]."""
    if mask is not None and seen is not None:
        mask = mask + torch.zeros(seen.shape).masked_fill(~seen, float("-inf"))
    elif seen is not None:
        mask = seen
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=scale, enable_gqa=True)
    return out.transpose(1, 2)


def window(t, s, w, causal):
    i, j = torch.arange(t)[:, None] + (s - t), torch.arange(s)[None, :]
    return (j > i - w) & ((j <= i) | (not causal))


def rotate_half(x, cos, sin):
    """As Hugging Face's Llama: x cos + rotate_half(x) sin, with cos and sin given twice along D."""
    c, s = (torch.cat((t, t), -1)[..., None, :] for t in (cos, sin))
    a, b = x.chunk(2, -1)
    return x * c + torch.cat((-b, a), -1) * s


def rotate_pairs(x, cos, sin):
    """As the paper: neighbours are a complex number, turned by cos + i sin."""
    turn = torch.complex(cos, sin)[..., None, :]
    return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous()) * turn).flatten(-2)


def cross_entropy(logits, targets, z=0.0, **options):
    losses = F.cross_entropy(logits, targets.long(), reduction="none", **options)
    lse = torch.logsumexp(logits, -1)
    return losses + z * lse**2 * (targets != options.get("ignore_index", -100))


def linear_cross_entropy(x, w, targets, scale, softcap=0.0, z=0.0, **options):
    logits = x @ w.T
    if softcap:
        logits = softcap * torch.tanh(logits / softcap)
    losses = cross_entropy(logits, targets, z, **options)
    return scale * losses.sum(), losses


def save(name):
    """Writes all cases to NAME.safetensors."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{name}.safetensors")
    save_file(tensors, path, {"format": "pt", "made_by": f"make_{name}_goldens.py with torch {torch.__version__}"})
    print(f"{path}: {len(tensors)} tensors, {os.path.getsize(path)} bytes")


def main():
    case("softmax", [rand(3, 5, 4)], lambda x: F.softmax(x, 1))
    case("log_softmax", [rand(3, 7)], lambda x: F.log_softmax(x, -1))
    case("layer_norm", [rand(3, 2, 7), rand(7), rand(7)], lambda x, w, b: F.layer_norm(x, (7,), w, b, 1e-5))
    case("layer_norm_plain", [rand(3, 13)], lambda x: F.layer_norm(x, (13,), eps=1e-3))
    case("rms_norm", [rand(2, 3, 7), rand(7)], lambda x, w: F.rms_norm(x, (7,), w, 1e-6))
    case("rope", [rand(2, 3, 2, 6), rand(3, 3), rand(3, 3)], rotate_half)
    case("rope_pairs", [rand(2, 3, 2, 6), rand(2, 3, 3), rand(2, 3, 3)], rotate_pairs)

    qkv = [rand(2, 5, 2, 4), rand(2, 5, 2, 4), rand(2, 5, 2, 3)]
    case("attention", qkv, lambda q, k, v: attention(q, k, v))
    case("attention_causal", qkv, lambda q, k, v: attention(q, k, v, causal=True))
    grouped = [rand(1, 5, 6, 4), rand(1, 5, 2, 4), rand(1, 5, 2, 4)]
    case("attention_grouped", grouped, lambda q, k, v: attention(q, k, v, causal=True, scale=0.3))
    late = [rand(1, 3, 2, 4), rand(1, 7, 1, 4), rand(1, 7, 1, 4)]
    case("attention_late", late, lambda q, k, v: attention(q, k, v, seen=torch.ones(3, 7).tril(4).bool()))
    assert torch.allclose(tensors["attention_late/out0"].transpose(1, 2), F.scaled_dot_product_attention(
        *(t.transpose(1, 2) for t in late), attn_mask=causal_lower_right(3, 7), enable_gqa=True))
    case("attention_window", qkv, lambda q, k, v: attention(q, k, v, seen=window(5, 5, 2, True)))
    case("attention_mask", qkv + [rand(2, 1, 5, 5)], lambda q, k, v, m: attention(q, k, v, m))
    segments = torch.tensor([0, 3, 3, 7], dtype=torch.int32)
    number = (torch.arange(7)[:, None] >= segments[None, :]).sum(1)
    packed = [rand(1, 7, 2, 3), rand(1, 7, 1, 3), rand(1, 7, 1, 3), segments]
    same = (number[:, None] == number[None, :]) & torch.ones(7, 7).tril().bool()
    case("attention_segments", packed, lambda q, k, v, n: attention(q, k, v, seen=same))

    case("cross_entropy", [rand(6, 7), ints(6, low=0, high=6)], lambda x, t: cross_entropy(x, t))
    some = ints(9, low=-1, high=12)
    some[4] = -1
    case("cross_entropy_options", [rand(9, 13), some],
         lambda x, t: cross_entropy(x, t, 0.05, ignore_index=-1, label_smoothing=0.1))
    case("cross_entropy_mean", [rand(9, 13), some],
         lambda x, t: F.cross_entropy(x, t.long(), ignore_index=-1, label_smoothing=0.1))
    head = [rand(9, 4, low=-1, high=1), rand(13, 4), some, rand().abs() + 0.5]
    case("linear_cross_entropy", head, lambda x, w, t, s: linear_cross_entropy(x, w, t, s, ignore_index=-1))
    case("linear_cross_entropy_options", head, lambda x, w, t, s: linear_cross_entropy(
        x, w, t, s, 3.0, 0.05, ignore_index=-1, label_smoothing=0.1))

    case("mse", [rand(4, 7), rand(7)], lambda p, t: F.mse_loss(p, t.expand(4, 7), reduction="none"))
    case("l1", [rand(4, 7), rand(4, 7)], lambda p, t: F.l1_loss(p, t, reduction="none"))
    case("huber", [rand(4, 7), rand(4, 7)], lambda p, t: F.huber_loss(p, t, reduction="none", delta=0.7))
    case("bce_with_logits", [rand(4, 7, low=-6, high=6), rand(4, 7, low=0, high=1)],
         lambda x, t: F.binary_cross_entropy_with_logits(x, t, reduction="none"))
    case("kl_div", [rand(4, 7, low=-4, high=-0.1), rand(4, 7, low=0.05, high=1)],
         lambda p, t: F.kl_div(p, t, reduction="none"))

    shared = [rand(2, 5, 4, 3), rand(2, 6, 2, 3), rand(2, 6, 2, 3)]
    case("attention_grouped_window", shared, lambda q, k, v: attention(q, k, v, seen=window(5, 6, 3, True)))
    case("attention_one_head", [rand(2, 4, 3, 4), rand(2, 4, 1, 4), rand(2, 4, 1, 2), rand(1, 3, 4, 4)],
         lambda q, k, v, m: attention(q, k, v, m, seen=torch.ones(4, 4).tril().bool()))

    save("nn")


if __name__ == "__main__":
    main()
