#!/usr/bin/env python3
"""Makes spatial.safetensors: values, gradients and second derivatives of what is done to images, volumes and series,
and of losses made of other ops, by PyTorch in double precision. test_spatial_golden.c builds the same and compares.

    python3 make_spatial_goldens.py          (needs torch and safetensors; made with torch 2.15)

The cases are laid out as in make_nn_goldens.py. Images have their channels last, as in the engine.
"""
import torch
import torch.nn.functional as F
from make_nn_goldens import case, ints, rand, save

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def first(x):
    """Channels before the spatial axes, as PyTorch wants them."""
    return x.movedim(-1, 1)


def last(x):
    return x.movedim(1, -1)


def spatial(function):
    """`function` with channels last around it."""
    return lambda x, *rest: last(function(first(x), *rest))


def conv(name, x, w, transposed=False, bias=True, **options):
    axes = len(w) - 2
    function = (TRANSPOSED if transposed else CONV)[axes]
    outputs = w[1] * options.get("groups", 1) if transposed else w[0]
    inputs = [rand(*x), rand(*w)] + ([rand(outputs)] if bias else [])
    case(name, inputs, spatial(lambda x, w, b=None: function(x, w, b, **options)))


def batch_norm(x, gain, bias, mean, var):
    """By the batch's own statistics; those of the past take no part in that."""
    mean, var = mean.detach().clone(), var.detach().clone()
    return last(F.batch_norm(first(x), mean, var, gain, bias, True, 0.3, 1e-3))


def convolutions():
    conv("conv1d", (2, 9, 3), (4, 3, 4), stride=2, padding=1)
    conv("conv2d", (2, 5, 6, 3), (4, 3, 3, 2), padding=1, bias=False)
    conv("conv2d_groups", (1, 7, 6, 4), (6, 2, 3, 3), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2)
    conv("conv2d_depthwise", (2, 5, 5, 3), (3, 1, 3, 3), padding=1, groups=3)
    conv("conv3d", (1, 4, 3, 5, 2), (3, 2, 2, 2, 3), padding=(1, 0, 1), stride=(1, 1, 2))
    conv("transposed1d", (2, 4, 3), (3, 2, 4), True, stride=3, padding=1)
    conv("transposed2d", (1, 3, 4, 4), (4, 3, 3, 2), True, stride=2, padding=1, output_padding=1)
    conv("transposed2d_groups", (1, 3, 3, 4), (4, 1, 3, 3), True, dilation=2, groups=2)
    conv("transposed3d", (1, 2, 3, 2, 2), (2, 3, 2, 2, 2), True, bias=False, stride=2)
    for mode in ("reflect", "replicate", "circular"):
        case(f"conv_{mode}", [rand(1, 5, 4, 2), rand(3, 2, 3, 3)],
             spatial(lambda x, w, mode=mode: F.conv2d(F.pad(x, [1, 1, 1, 1], mode), w)))


def pools():
    case("max_pool", [rand(2, 7, 6, 3)], spatial(lambda x: F.max_pool2d(x, 3, 2, 1)))
    case("max_pool_dilated", [rand(2, 9, 3)], spatial(lambda x: F.max_pool1d(x, 3, 2, 1, 2)))
    case("max_pool3d", [rand(1, 4, 5, 4, 2)], spatial(lambda x: F.max_pool3d(x, 2)))
    case("average_pool", [rand(2, 7, 6, 3)], spatial(lambda x: F.avg_pool2d(x, 3, 2, 1)))
    case("average_pool_inside", [rand(2, 7, 6, 3)],
         spatial(lambda x: F.avg_pool2d(x, (3, 2), (2, 1), 1, count_include_pad=False)))
    case("adaptive_max_pool", [rand(2, 7, 5, 3)], spatial(lambda x: F.adaptive_max_pool2d(x, (3, 2))))
    case("adaptive_average_pool", [rand(2, 7, 5, 3)], spatial(lambda x: F.adaptive_avg_pool2d(x, (3, 2))))
    case("global_average_pool", [rand(2, 3, 4, 5)], lambda x: F.adaptive_avg_pool2d(first(x), 1).flatten(1))
    case("global_max_pool", [rand(2, 3, 4, 5)], lambda x: F.adaptive_max_pool2d(first(x), 1).flatten(1))


def norms():
    case("batch_norm", [rand(3, 4, 2, 5), rand(5), rand(5), rand(5), rand(5).abs() + 0.5], batch_norm)
    case("group_norm", [rand(2, 3, 4, 6), rand(6), rand(6)], spatial(lambda x, w, b: F.group_norm(x, 3, w, b, 1e-5)))
    case("instance_norm", [rand(2, 3, 4, 5)], spatial(lambda x: F.instance_norm(x, eps=1e-3)))
    case("instance_norm_gains", [rand(2, 7, 3), rand(3), rand(3)],
         spatial(lambda x, w, b: F.instance_norm(x, weight=w, bias=b)))
    case("local_response_norm", [rand(2, 3, 2, 7)],
         spatial(lambda x: F.local_response_norm(x, 5, alpha=0.3, beta=0.6, k=2.0)))
    case("local_response_norm_even", [rand(2, 3, 6)], spatial(lambda x: F.local_response_norm(x, 4, alpha=0.5)))


def sizes():
    for mode in ("constant", "reflect", "replicate", "circular"):
        case(f"pad_{mode}", [rand(1, 4, 5, 2)], spatial(lambda x, mode=mode: F.pad(x, [2, 1, 0, 3], mode)))
    case("pixel_shuffle", [rand(2, 2, 3, 12)], spatial(lambda x: F.pixel_shuffle(x, 2)))
    case("pixel_unshuffle", [rand(2, 6, 3, 2)], spatial(lambda x: F.pixel_unshuffle(x, 3)))
    image = rand(1, 4, 5, 3)
    for mode in ("nearest", "nearest-exact", "bilinear"):
        for size in ((7, 3), (8, 10)):
            name = f"{mode.replace('-', '_')}_{size[0]}"
            case(name, [image], spatial(lambda x, mode=mode, size=size: F.interpolate(x, size, mode=mode)))
    case("bilinear_corners", [image], spatial(lambda x: F.interpolate(x, (7, 3), mode="bilinear", align_corners=True)))
    case("linear_corners_one", [rand(2, 5, 2)],
         spatial(lambda x: F.interpolate(x, 1, mode="linear", align_corners=True)))
    case("trilinear", [rand(1, 3, 2, 4, 2)], spatial(lambda x: F.interpolate(x, (4, 5, 3), mode="trilinear")))
    # Here floor(o in / out) in float is not that of exact numbers (for one axis in double PyTorch has the latter).
    case("nearest_rounded", [rand(1, 14, 2, 1)], spatial(lambda x: F.interpolate(x, (46, 2), mode="nearest")))


def focal(x, t, alpha, gamma):
    """torchvision.ops.sigmoid_focal_loss, reduction none: from its documentation's formula."""
    p = torch.sigmoid(x)
    p_t = p * t + (1 - p) * (1 - t)
    loss = F.binary_cross_entropy_with_logits(x, t, reduction="none") * (1 - p_t) ** gamma
    return loss * (alpha * t + (1 - alpha) * (1 - t)) if alpha >= 0 else loss


def losses():
    case("focal", [rand(4, 7, low=-4, high=4), rand(4, 7, low=0, high=1)], lambda x, t: focal(x, t, 0.25, 2))
    case("focal_plain", [rand(4, 7, low=-4, high=4), rand(4, 7, low=0, high=1)], lambda x, t: focal(x, t, -1, 1.5))
    case("cosine_similarity", [rand(3, 4, 5), rand(3, 4, 5)], lambda a, b: F.cosine_similarity(a, b, 1))
    case("cosine_embedding", [rand(6, 5), rand(6, 5), torch.tensor([1, -1, 1, -1, -1, 1], dtype=torch.int32)],
         lambda a, b, y: F.cosine_embedding_loss(a, b, y.long(), 0.1, reduction="none"))
    three = [rand(5, 4), rand(5, 4), rand(5, 4)]
    case("triplet", three, lambda a, p, n: F.triplet_margin_loss(a, p, n, reduction="none"))
    case("triplet_options", three,
         lambda a, p, n: F.triplet_margin_loss(a, p, n, 2.5, 3.0, 1e-3, swap=True, reduction="none"))
    case("triplet_l1", three, lambda a, p, n: F.triplet_margin_loss(a, p, n, 4.0, 1.0, reduction="none"))


def ctc(name, time, classes, labels, input_lengths, lengths, **options):
    """Of logits, since PyTorch's gradient is only right for those; it has no second one."""
    def loss(x, targets, input_lengths, lengths):
        return F.ctc_loss(F.log_softmax(x, -1).transpose(0, 1), targets.long(), input_lengths.long(), lengths.long(),
                          reduction="none", **options)

    whole = [torch.tensor(t, dtype=torch.int32) for t in (labels, input_lengths, lengths)]
    case(name, [rand(len(labels), time, classes), *whole], loss, second=False)


def sequences():
    ctc("ctc", 7, 5, [[1, 2, 2], [3, 1, 0], [4, 4, 4]], [7, 5, 6], [3, 2, 1])
    ctc("ctc_blank", 6, 4, [[0, 1], [2, 2], [1, 0]], [6, 2, 3], [2, 2, 0], blank=3, zero_infinity=True)
    ctc("ctc_long", 30, 12, [[(7 * i * i + 3 * b) % 11 + 1 for i in range(9)] for b in range(2)], [30, 26], [9, 7])


def main():
    sequences()
    convolutions()
    pools()
    norms()
    sizes()
    losses()
    save("spatial")


if __name__ == "__main__":
    main()
