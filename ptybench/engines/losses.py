"""Losses of expected counts ``D`` against measured ones ``I``, by name.

They are those of DAP (Wu et al., Optica 11, 821, 2024, 10.1364/OPTICA.522380), summed over pixels. Where patterns are
shared out among incoherent states in proportion to their intensities, as the paper writes, the sum over the states is
the loss of the summed intensity, whichever of the three it is; so that sum is all that is needed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

ONE_PHOTON = 1.0  # the least variance of a count in R: a fraction of a photon is an expectation, not a count


class Loss(ABC):
    """A sum over pixels ``Σ ℓ(D)``, least where ``D = I``, whose gradient with respect to ``Ψ*`` is ``Ψ dℓ/dD``.

    Args:
        floor: photons ``ε`` that keep the slope finite where ``D`` vanishes.

    Attributes:
        code: its number for compiled kernels.
        scale: the factor that gives all of them one curvature at ``D = I``, that of the Gaussian; it is what a switch
            of the loss has to be multiplied by.

    """

    code: ClassVar[int]
    scale: ClassVar[float] = 1.0

    def __init__(self, floor: float) -> None:
        self.floor = floor

    @abstractmethod
    def terms(self, expected: Tensor, amplitude: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``ℓ(D)`` and ``dℓ/dD`` of each pixel, for the measured amplitude ``√I``."""


class Poisson(Loss):
    """``D - I - (I + ε) log[(D + ε) / (I + ε)]``, minus the logarithm of Poisson's law; 0 at ``D = I``."""

    code, scale = 0, 0.5

    def terms(self, expected: Tensor, amplitude: Tensor) -> tuple[Tensor, Tensor]:
        """``ℓ`` and ``(D - I) / (D + ε)``."""
        counted, raised = amplitude.square() + self.floor, expected + self.floor
        difference = raised - counted
        return difference - counted * torch.log(raised / counted), difference / raised


class Gaussian(Loss):
    """``(√(D + ε) - √(I + ε))²``: amplitudes of one variance; least at ``D = I`` for any ``ε``."""

    code = 1

    def terms(self, expected: Tensor, amplitude: Tensor) -> tuple[Tensor, Tensor]:
        """``ℓ`` and ``1 - √(I + ε) / √(D + ε)``."""
        root = (expected + self.floor).sqrt()
        gap = root - (amplitude.square() + self.floor).sqrt()
        return gap.square(), gap / root


class R(Loss):
    """``(D - I)² / 2I`` where ``I > 0`` and ``D`` where it is not: the variance of a count estimated by itself.

    Below one photon, which only expectations are, the variance of one photon is taken.
    """

    code, scale = 2, 0.5

    def terms(self, expected: Tensor, amplitude: Tensor) -> tuple[Tensor, Tensor]:
        """``ℓ`` and ``(D - I) / I``, or 1."""
        counts = amplitude.square()
        gap, spread, seen = expected - counts, counts.clamp_min(ONE_PHOTON), counts > 0
        return torch.where(seen, gap.square() / (2 * spread), expected), torch.where(seen, gap / spread, 1.0)


LOSSES: dict[str, type[Loss]] = {"poisson": Poisson, "gaussian": Gaussian, "r": R}
