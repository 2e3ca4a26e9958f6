"""Likelihoods of photon counts: their slopes, the most likely step along a line, and the exit wave's change."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptybench.optics.forward import ForwardModel, over_modes
from ptybench.optics.patterns import Index

FLOOR = 1e-3  # photons; bounds the pull of a pixel that was expected dark but was not
STEP_TRIALS = 2  # Newton steps for the change of an exit wave
LINE_TRIALS = 8  # steps tried along a line at most
CLOSE = 0.1  # relative change of the step by Newton's method after which it is good to about its square


class Likelihood(ABC):
    """Minus the logarithm of a likelihood ``L = Σ ℓ(D)``, 0 where every expected count ``D`` is the measured ``I``.

    A pixel that is expected and measured 0 adds nothing: so bad pixels are masked.
    """

    @staticmethod
    @abstractmethod
    def terms(expected: Tensor, measured: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``ℓ(D)`` and ``dℓ/dD`` of each pixel; ``Ψ dℓ/dD`` is the gradient with respect to ``Ψ*``."""

    @staticmethod
    @abstractmethod
    def best_step(lines: Iterable[tuple[Tensor, Tensor]], prior: Tensor) -> float:
        """Return the most likely step ``t > 0`` along a line, 0 where none is seen to be better than none.

        Args:
            lines: for some patterns after the other, coefficients of the expected counts ``D(t) = Σ_i c_i tⁱ``, an
                array ``(n, ...)`` with ``n`` of 3 or 5, and the measured counts ``(...)``.
            prior: ``(3,)`` float64 coefficients of a parabola that is added to ``L(t)``.

        """


class Gaussian(Likelihood):
    """``ℓ = (D - I)² / 2(I + 1)``: the variance of a count estimated by itself, kept above 0 by one photon."""

    @staticmethod
    def terms(expected: Tensor, measured: Tensor) -> tuple[Tensor, Tensor]:
        """``ℓ`` and ``(D - I) / (I + 1)``."""
        difference = expected - measured
        slopes = difference / (measured + 1)
        return difference.mul_(slopes).mul_(0.5), slopes

    @staticmethod
    def best_step(lines: Iterable[tuple[Tensor, Tensor]], prior: Tensor) -> float:
        """The lowest point of ``L(t)``, a polynomial of degree 4 or 8; one look at the data makes its coefficients."""
        products: Tensor | float = 0.0
        for line, measured in lines:
            line[0] -= measured
            parts = (line * (measured + 1).rsqrt_()).flatten(1)
            products = products + (parts @ parts.T).double()
        assert isinstance(products, Tensor)
        square = products.cpu().numpy()
        polynomial = np.zeros(2 * len(square) - 1)
        for i, row in enumerate(square):
            polynomial[i : i + len(square)] += row / 2
        polynomial[:3] += prior.cpu().numpy()
        return lowest_point(polynomial)


class Poisson(Likelihood):
    """``ℓ = D - I - (I + ε) log[(D + ε) / (I + ε)]``: Poisson's law for ``ε`` photons more on either side.

    It is lowest at ``D = I`` for any ``ε``, which keeps its slope ``(D - I) / (D + ε)`` finite where ``D`` vanishes.
    """

    @staticmethod
    def terms(expected: Tensor, measured: Tensor) -> tuple[Tensor, Tensor]:
        """``ℓ`` and ``(D - I) / (D + ε)``."""
        raised, counted = expected + FLOOR, measured + FLOOR
        difference = raised - counted
        slopes = difference / raised
        return difference.sub_((raised / counted).log_().mul_(counted)), slopes

    @staticmethod
    def best_step(lines: Iterable[tuple[Tensor, Tensor]], prior: Tensor) -> float:
        """Newton's method on ``dL/dt`` with a curvature that is kept positive; a step back where ``L`` has risen."""
        kept = list(lines)
        start, slope, bend = Poisson._along(kept, prior, 0.0)
        if not slope < 0:
            return 0.0
        step = best = -slope / bend
        lowest = np.inf
        for _ in range(LINE_TRIALS):
            value, rise, bend = Poisson._along(kept, prior, step)
            if value < lowest:
                lowest, best = value, step
            if value > start:  # back to the lowest point of the parabola through both
                step = max(0.1 * step, 0.5 * slope * step**2 / (start + slope * step - value))
                continue
            change = -rise / bend
            step = max(step + change, 0.1 * step)
            if abs(change) <= CLOSE * step:
                return step
        return best if lowest < start else 0.0

    @staticmethod
    def _along(lines: list[tuple[Tensor, Tensor]], prior: Tensor, step: float) -> tuple[float, float, float]:
        """``L``, ``dL/dt`` and ``d²L/dt²`` at ``t``, the last not below a tenth of its expectation."""
        sums = torch.zeros(4, dtype=torch.float64, device=lines[0][0].device)
        for line, measured in lines:
            expected, rate, bend = along(line, step)
            raised, counted = expected.clamp_min_(0).add_(FLOOR), measured.flatten() + FLOOR
            ratio = counted / raised
            values = torch.log(ratio).mul_(counted).add_(raised).sub_(counted)
            slopes = 1 - ratio
            information = rate.square().div_(raised)
            curvature = torch.dot(slopes, bend) + torch.dot(ratio, information)
            sums += torch.stack([values.sum(), torch.dot(slopes, rate), curvature, information.sum()])
        loss, slope, curvature, information = sums.tolist()
        constant, linear, quadratic = prior.tolist()
        return (
            loss + constant + step * (linear + step * quadratic),
            slope + linear + 2 * step * quadratic,
            max(curvature, 0.1 * information, 1e-300) + 2 * quadratic,
        )


def along(line: Tensor, step: float) -> Tensor:
    """A polynomial ``Σ_i c_i tⁱ`` of each pixel and its first two derivatives, ``(n, ...)`` to ``(3, pixels)``."""
    order = np.arange(len(line))
    powers = step**order
    rows = [powers, order * np.roll(powers, 1), order * (order - 1) * np.roll(powers, 2)]
    return torch.as_tensor(np.stack(rows), dtype=line.dtype, device=line.device) @ line.flatten(1)


def lowest_point(polynomial: NDArray[np.float64]) -> float:
    """The ``t > 0`` where a polynomial (lowest power first) that falls at 0 is lowest; 0 where it does not fall."""
    if not polynomial[1] < 0 or not np.isfinite(polynomial).all():
        return 0.0
    # in units of the quadratic's minimum the powers are of one size
    unit = -polynomial[1] / (2 * abs(polynomial[2]) + 1e-300)
    scaled = polynomial * unit ** np.arange(len(polynomial))
    slope = np.polynomial.polynomial.polyder(scaled)
    roots = np.polynomial.polynomial.polyroots(slope)
    found = np.append(roots.real[(roots.real > 0) & (abs(roots.imag) < 1e-3 * abs(roots))], 0.0)
    best: float = found[np.polynomial.polynomial.polyval(found, scaled).argmin()] * unit
    return float(best)


def real_product(x: Tensor, y: Tensor) -> Tensor:
    """``Re x* y`` of two fields, contiguous: what follows is slow on every second number of a complex tensor."""
    parts = torch.view_as_real(x) * torch.view_as_real(y)
    return parts[..., 0] + parts[..., 1]


def poisson_change(model: ForwardModel, exit_wave: Tensor, index: Index) -> tuple[Tensor, Tensor]:
    """Return the change of exit waves along the gradient of the Poisson likelihood, and the squared amplitude error.

    ``χ = -D⁻¹[α Ψ dℓ/dD]`` with the likeliest ``α`` for each pattern; bad pixels do not change.

    Args:
        model: the forward model with the data.
        exit_wave: ``(M, h, w)`` of one pattern, or ``(B, M, h, w)`` of several.
        index: which patterns.

    """
    wave = model.forward(exit_wave, index)
    expected, amplitude = over_modes(real_product(wave, wave)), model.measured(index)
    difference = expected.sqrt().sub_(amplitude).square_()
    measured = amplitude.square()
    slope = (expected - measured).div_(expected + FLOOR)
    if model.good is not None:
        difference.mul_(model.good)
        slope.mul_(model.good)
    wave.mul_(slope * -poisson_step(expected, measured, slope))
    return model.backward(wave, index), difference.sum()


def poisson_step(expected: Tensor, measured: Tensor, slope: Tensor) -> Tensor:
    """The step ``α`` in [0, 1) along ``-ξΨ`` that is most likely, one for each pattern ``(..., 1, 1, 1)``.

    Newton's method on ``dL/dα ∝ Σ ξ [I / (1 - αξ) - D (1 - αξ)] = 0``, which has one root, from the ``α = ½`` of small
    residuals.
    """
    step = torch.full_like(expected[..., :1, :1], 0.5)
    pixels = (-3, -2, -1)
    for _ in range(STEP_TRIALS):
        left = 1 - step * slope
        model = expected * left
        data = measured / left
        pull = (slope * (data - model)).sum(pixels, keepdim=True)
        bend = (slope.square() * (expected + data / left)).sum(pixels, keepdim=True)
        step = (step - pull / bend.clamp_min_(1e-30)).clamp_(0, 0.99)
    return step
