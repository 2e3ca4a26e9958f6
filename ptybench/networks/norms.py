"""How much a convolution can stretch its input: a bound that is proved, and the estimate that training follows.

A kernel ``K (n, m, s, s)`` with odd ``s`` acts on images by its symbol, the ``(n, m)`` matrix
``A(ω) = Σ_t K_t e^{i t·ω}`` with taps ``t`` in ``[-r, r]²``, ``r = (s-1)/2``: on the infinite plane its operator norm
is ``S = max_ω σ_max(A(ω))`` (Sedghi, Gupta & Long, ICLR 2019, arXiv:1805.10408). A convolution that pads an image of
whatever size with zeros first embeds it in the plane, which keeps its norm, and at the end cuts the image out, which
never raises it; so ``S`` bounds it, too.

Between the points of a grid no more than this is hidden: for unit vectors ``u, v`` and a phase that make
``f(ω) = Re(e^{iθ} u* A(ω) v)`` equal to ``S`` at its maximum ``ω*``, ``f`` is real, nowhere above ``S`` in modulus, and
along the line from ``ω*`` to ``ω* + δ`` of exponential type ``τ = r (|δ_1| + |δ_2|)``. The inequality of Duffin and
Schaeffer, ``f'² + τ² f² ≤ τ² S²``, gives ``σ_max(A(ω* + δ)) ≥ f(ω* + δ) ≥ S cos τ`` for ``τ ≤ π``. With cells of
half-width ``h`` around the points of a grid, ``ω*`` lies in a cell whose value is at least ``S cos 2rh``: all others
can be left out, and those that stay be divided, until ``1 / cos 2rh`` is as near to 1 as it should be.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FIRST = 16
"""Points per turn of the first grid, for a kernel of 3 x 3."""
ROUNDING = 1e-9
"""Relative; far above what float64 can lose in a matrix of some hundred rows."""


def certified_norm(kernel: NDArray[np.float64], margin: float = 1e-4) -> float:
    """Return a number that the convolution's operator norm never exceeds, and that exceeds it by ``margin`` at most.

    Args:
        kernel: ``(n, m, s, s)`` with odd ``s``; padded with zeros by ``(s-1)/2``, on images of whatever size.
        margin: relative.

    Example:
        >>> blur = np.full((1, 1, 3, 3), 1 / 9)
        >>> 1 <= certified_norm(blur) <= 1.0001
        True

    """
    if not np.isfinite(kernel).all():
        return float("inf")
    radius = (kernel.shape[-1] - 1) // 2
    points = FIRST * max(radius, 1)
    # the symbol of a real kernel at -ω is the conjugate of that at ω: half of the turn is enough
    y, x = np.meshgrid(2 * np.pi * np.arange(points) / points, 2 * np.pi * np.arange(points // 2 + 1) / points)
    cells, half = np.column_stack([y.ravel(), x.ravel()]), np.pi / points
    values = largest_singular_values(kernel, cells)
    best = values.max()
    while (most := 1 / np.cos(2 * radius * half)) > 1 + margin:
        cells = cells[values * most >= best * (1 - ROUNDING)]
        half /= 2
        cells = (cells[:, None] + half * np.array([(-1, -1), (-1, 1), (1, -1), (1, 1)])).reshape(-1, 2)
        values = largest_singular_values(kernel, cells)
        best = max(best, values.max())
    return float(max(best, values.max() * most) * (1 + ROUNDING))


def largest_singular_values(kernel: NDArray[np.float64], frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``σ_max(A(ω))`` of a kernel ``(n, m, s, s)`` at frequencies ``(P, 2)`` in radians a pixel, ``(P,)``."""
    n, m, s, _ = kernel.shape
    symbols = (_phases(frequencies, s) @ kernel.reshape(n * m, s * s).T).reshape(-1, n, m)
    gram = symbols @ symbols.conj().swapaxes(1, 2) if n <= m else symbols.conj().swapaxes(1, 2) @ symbols
    values: NDArray[np.float64] = np.sqrt(np.maximum(np.linalg.eigvalsh(gram)[:, -1], 0))
    return values


def _phases(frequencies: NDArray[np.float64], side: int) -> NDArray[np.complex128]:
    """``e^{i t·ω}`` for frequencies ``(P, 2)`` and taps ``t``, ``(P, side²)``."""
    taps = np.indices((side, side)).reshape(2, -1) - (side - 1) // 2
    phases: NDArray[np.complex128] = np.exp(1j * (frequencies @ taps))
    return phases


class NormEstimate(torch.nn.Module):
    """The operator norm of a 3 x 3 convolution as training needs it: cheap, differentiable, followed from step to step.

    One power iteration a step at every frequency of a grid; the largest counts, and its gradient is that of
    ``Re(u* A(ω) v)`` with ``u, v, ω`` held (Miyato et al., ICLR 2018, arXiv:1802.05957, there for the kernel as a
    matrix, which is another operator; Ryu et al., ICML 2019, arXiv:1905.05406, iterate on one image).

    Args:
        kernel: ``(n, m, 3, 3)`` to begin with.
        points: of the grid per turn.

    """

    start: Tensor
    cosine: Tensor
    sine: Tensor

    def __init__(self, kernel: Tensor, points: int = 16) -> None:
        super().__init__()
        turn = 2 * np.pi * np.arange(points) / points
        y, x = np.meshgrid(turn, turn[: points // 2 + 1])
        phases = torch.from_numpy(_phases(np.column_stack([y.ravel(), x.ravel()]), kernel.shape[-1]))
        self.register_buffer("cosine", phases.real.float(), persistent=False)
        self.register_buffer("sine", phases.imag.float(), persistent=False)
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("start", torch.randn(len(phases), kernel.shape[1], 1, 2, generator=generator))
        for _ in range(30):
            self(kernel)

    def forward(self, kernel: Tensor) -> Tensor:
        """Return the norm of a kernel, a scalar, and remember where it was found."""
        n, m = kernel.shape[:2]
        with torch.no_grad():
            flat = kernel.reshape(n * m, -1).T
            symbols = torch.complex(self.cosine @ flat, self.sine @ flat).view(-1, n, m)
            left = torch.nn.functional.normalize(symbols @ torch.view_as_complex(self.start), dim=1)
            pulled = symbols.mH @ left
            right = torch.nn.functional.normalize(pulled, dim=1)
            self.start.copy_(torch.view_as_real(right))
            best = torch.linalg.vector_norm(pulled, dim=(1, 2)).argmax()
            # Re(u* A v) is linear in the kernel: the sum over its taps with Re(e^{itω} u* v)
            outer = left[best].conj() @ right[best].T
            cosine, sine = self.cosine[best], self.sine[best]
            slope = outer.real[..., None] * cosine - outer.imag[..., None] * sine
        return (kernel.reshape(n, m, -1) * slope).sum()
