"""How much an operator is found to stretch: lower bounds, by looking for the worst."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.functional import jvp, vjp

Operator = Callable[[Tensor], Tensor]


@torch.no_grad()
def power_iteration(kernel: Tensor, shape: tuple[int, int], steps: int = 200) -> float:
    """The norm that power iteration finds for a zero-padded convolution on an image, from below.

    Args:
        kernel: ``(n, m, s, s)``.
        shape: ``(H, W)`` of the image.
        steps: iterations.

    """
    kernel = kernel.double()
    padding = kernel.shape[-1] // 2
    image = torch.randn(1, kernel.shape[1], *shape, dtype=kernel.dtype, generator=torch.Generator().manual_seed(0))
    for _ in range(steps):
        image /= image.norm()
        image = torch.nn.functional.conv_transpose2d(
            torch.nn.functional.conv2d(image, kernel, padding=padding), kernel, padding=padding
        )
    return float(image.norm().sqrt())


def largest_stretch(operator: Operator, images: Tensor, steps: int = 60, ascent: float = 0.0) -> float:
    """The largest singular value of an operator's Jacobian that is found around images, adversarially.

    Power iteration on ``JᵀJ`` at each image; with ``ascent`` the image itself also moves along the direction that is
    stretched most, by so much of its norm a step, towards where the operator stretches more.

    Args:
        operator: of images ``(B, 1, H, W)``, each for itself.
        images: ``(B, H, W)`` to begin with.
        steps: iterations.
        ascent: relative length of the steps of the images.

    """
    points = images[:, None].clone()
    directions = torch.randn(points.shape, generator=torch.Generator().manual_seed(0))
    best = 0.0
    for _ in range(steps):
        directions = directions / _norms(directions)
        stretched: Tensor = jvp(operator, points, directions)[1]  # type: ignore[no-untyped-call]
        best = max(best, float(_norms(stretched).max()))
        pulled: Tensor = vjp(operator, points, stretched)[1]  # type: ignore[no-untyped-call]
        if ascent:
            points = points + ascent * _norms(points) * directions
        directions = pulled
    return best


def _norms(images: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(images, dim=(1, 2, 3), keepdim=True)
    return norms.clamp_min(1e-30)
