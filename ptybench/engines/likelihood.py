"""Likelihoods of photon counts: how the wave at the detector should change."""

from __future__ import annotations

import torch
from torch import Tensor

from ptybench.optics.forward import ForwardModel, Index, total_intensity

FLOOR = 1e-3  # photons; bounds the pull of a pixel that was expected dark but was not
NEWTON_STEPS = 2


def poisson_change(model: ForwardModel, exit_wave: Tensor, index: Index) -> tuple[Tensor, Tensor]:
    """Return the change of exit waves along the gradient of the Poisson likelihood, and the squared amplitude error.

    ``χ = -D⁻¹[α ξ Ψ]`` with ``ξ = (D - I) / (D + ε)``, the gradient of ``Σ D - I log D`` but for the floor ``ε`` that
    keeps it finite where ``D = Σ_m |Ψ_m|²`` vanishes. Bad pixels do not change.

    Args:
        model: the forward model with the data.
        exit_wave: ``(B, M, h, w)``.
        index: which patterns.

    """
    wave = model.forward(exit_wave, index)
    expected, measured = total_intensity(wave), model.measured(index)
    difference = expected.sqrt().sub_(measured).square_()
    measured = measured.square()
    slope = (expected - measured).div_(expected + FLOOR)
    if model.good is not None:
        difference.mul_(model.good)
        slope.mul_(model.good)
    wave.mul_(slope * -poisson_step(expected, measured, slope))
    return model.backward(wave, index), difference.sum()


def poisson_step(expected: Tensor, measured: Tensor, slope: Tensor) -> Tensor:
    """The step ``α`` in [0, 1] along ``-ξΨ`` that is most likely, one for each pattern ``(B, 1, 1, 1)``.

    Newton's method on ``dL/dα ∝ Σ ξ [I / (1 - αξ) - D (1 - αξ)] = 0``, which has one root, from the ``α = ½`` of small
    residuals.
    """
    step = torch.full_like(expected[..., :1, :1], 0.5)
    pixels = (-3, -2, -1)
    for _ in range(NEWTON_STEPS):
        left = 1 - step * slope
        model = expected * left
        data = measured / left
        pull = (slope * (data - model)).sum(pixels, keepdim=True)
        bend = (slope.square() * (expected + data / left)).sum(pixels, keepdim=True)
        step = (step - pull / bend.clamp_min_(1e-30)).clamp_(0, 0.99)
    return step
