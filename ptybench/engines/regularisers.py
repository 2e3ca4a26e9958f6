"""What a gradient method asks of its parameters beside the data: each a value and its gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from ptybench.native import gradients as native

SMOOTHING = 1e-8  # added to the squared modulus of a difference, so that its powers can be differentiated everywhere


def variation(objects: Tensor, p: float, q: float, gradient: Tensor) -> float:
    """The adaptive total variation of DAP (Wu et al. 2024, 10.1364/OPTICA.522380, eq. 6) of complex objects.

    ``mean [(|∂y O|² + ε)^(p/2) + (|∂x O|² + ε)^(p/2)]^(q/p)`` with forward differences inside the canvas, summed over
    object modes. The paper has one ``ε`` in the bracket, which only smooths ``p = 2``.

    Args:
        objects: ``(N, H, W)``.
        p: norm of the two differences.
        q: power of that norm.
        gradient: ``(N, H, W)``, overwritten with twice the derivative by ``O*``.

    """
    pixels = objects[0].numel()
    if native.serves(objects):
        total = sum(
            native.variation(canvas, slope, p, q, SMOOTHING) for canvas, slope in zip(objects, gradient, strict=True)
        )
    else:
        steps = [objects.diff(dim=axis, append=last) for axis, last in ((1, objects[:, -1:]), (2, objects[:, :, -1:]))]
        squares = [(step * step.conj()).real + SMOOTHING for step in steps]
        both = squares[0] ** (p / 2) + squares[1] ** (p / 2)
        outer = q * both ** (q / p - 1)
        gradient.zero_()
        for axis, step, square in zip((1, 2), steps, squares, strict=True):
            pull = outer * square ** (p / 2 - 1) * step
            gradient -= pull
            inner = gradient.narrow(axis, 1, gradient.shape[axis] - 1)
            inner += pull.narrow(axis, 0, gradient.shape[axis] - 1)
        total = float((both ** (q / p)).sum())
    gradient /= pixels
    return total / pixels


def energy(objects: Tensor) -> tuple[float, Tensor]:
    """``mean |O|²`` and its gradient."""
    return float((objects * objects.conj()).real.sum()) / objects[0].numel(), objects * (2 / objects[0].numel())


def beyond(objects: Tensor, most: float) -> tuple[float, Tensor]:
    """``mean max(|O| - most, 0)²`` and its gradient: matter does not amplify."""
    size = objects.abs()
    over = (size - most).clamp_min(0)
    pixels = objects[0].numel()
    return float(over.square().sum()) / pixels, 2 / pixels * over / size.clamp_min(1e-12) * objects


def length(offsets: Tensor) -> tuple[float, Tensor]:
    """``mean |c|`` of corrections ``(B, 2)`` of positions, and its gradient."""
    return float(offsets.abs().mean()), torch.sign(offsets) / offsets.numel()
