"""The four algorithms once more, plainly in numpy and float64: the yardstick for ours and for the peers'.

One function an algorithm does one epoch in place. Without ``quirks`` it is ours; with the quirks of a peer it is the
peer's, to rounding. So every difference between two programs has a name, and nothing else is left over.

================ ================= ================================================================================
algorithm        quirk             what Pty-Chi 2.2.0 does
================ ================= ================================================================================
lsqml            ``unshifted``     a step along the probe's direction is judged with the direction at fraction zero
lsqml            ``complex``       real steps are sought with the complex inner product of both moves
lsqml            ``lagging``       the dose is the mean of the one now and the one used before
dm               ``damped``        averages are divided by ``√(d² + (0.05 max d)²)`` where they should be by ``d``
================ ================= ================================================================================
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from exchange import Problem
from numpy.typing import NDArray

Complex = NDArray[np.complex128]


@dataclass
class State:
    """Object and probe (one mode) on the way, and what else an algorithm keeps.

    Args:
        object: ``(H, W)``.
        probe: ``(h, w)``.
        amplitudes: ``(K, h, w)`` with zero frequency at ``[0, 0]``.
        corners: ``(K, 2)`` whole part of the positions.
        ramps: ``(K, h, w)`` that shift a probe's spectrum by the rest.
        kept: what an algorithm keeps between epochs.

    """

    object: Complex
    probe: Complex
    amplitudes: NDArray[np.float64]
    corners: NDArray[np.int64]
    ramps: Complex
    kept: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def start(cls, problem: Problem) -> State:
        """Return the start of a problem without bad pixels; whole parts are floors."""
        _, h, w = problem.intensities.shape
        corners = np.floor(problem.positions_px + 1e-6).astype(np.int64)
        fy, fx = (problem.positions_px - corners).T
        ky, kx = np.fft.fftfreq(h)[:, None], np.fft.fftfreq(w)[None, :]
        ramps = np.exp(-2j * np.pi * (ky * fy[:, None, None] + kx * fx[:, None, None]))
        intensities = np.fft.ifftshift(problem.intensities.astype(np.float64), axes=(-2, -1))
        start = problem.object.astype(np.complex128), problem.probe[0].astype(np.complex128)
        return cls(*start, np.sqrt(intensities), corners, ramps)

    @property
    def count(self) -> int:
        """Number of patterns."""
        return len(self.amplitudes)

    def window(self, canvas: NDArray[Any], k: int) -> NDArray[Any]:
        """The view of a canvas through pattern ``k``."""
        (y, x), (h, w) = self.corners[k], self.probe.shape
        return canvas[y : y + h, x : x + w]

    def seen(self, probe: Complex, k: int) -> Complex:
        """A probe shifted by the fraction of position ``k``."""
        return np.fft.ifft2(np.fft.fft2(probe) * self.ramps[k])

    def back(self, change: NDArray[Any], k: int) -> Complex:
        """The adjoint of :meth:`seen`."""
        return np.fft.ifft2(np.fft.fft2(change) * self.ramps[k].conj())

    def modulus_change(self, wave: Complex, k: int) -> Complex:
        """``ψ' − ψ`` of the modulus constraint."""
        far = np.fft.fft2(wave, norm="ortho")
        return np.fft.ifft2(far / np.abs(far) * self.amplitudes[k] - far, norm="ortho")

    def dose(self) -> NDArray[np.float64]:
        """``Σ_k |P|²`` at whole pixels."""
        dose = np.zeros(self.object.shape)
        for k in range(self.count):
            self.window(dose, k)[...] += np.abs(self.probe) ** 2
        return dose


def rpie_epoch(state: State, order: Sequence[int], alpha: float, beta: float) -> None:
    """``O += P* Δ / ((1−α)|P|² + α max|P|²)`` and ``P += O* Δ / ((1−β)|O|² + β max|O|²)``."""
    for k in order:
        probe, patch = state.seen(state.probe, k), state.window(state.object, k)
        change = state.modulus_change(probe * patch, k)
        lit, clear = np.abs(probe) ** 2, np.abs(patch) ** 2
        state.probe += state.back(patch.conj() * change / ((1 - beta) * clear + beta * clear.max()), k)
        patch += probe.conj() * change / ((1 - alpha) * lit + alpha * lit.max())


def epie_epoch(state: State, order: Sequence[int], alpha: float, beta: float) -> None:
    """``O += α P* Δ / max|P|²`` and ``P += β O* Δ / max|O|²``."""
    for k in order:
        probe, patch = state.seen(state.probe, k), state.window(state.object, k)
        change = state.modulus_change(probe * patch, k)
        state.probe += state.back(patch.conj() * change, k) * beta / (np.abs(patch) ** 2).max()
        patch += probe.conj() * change * alpha / (np.abs(probe) ** 2).max()


def lsqml_epoch(
    state: State,
    order: Sequence[int],
    batch: int,
    damping: float,
    object_scale: float,
    probe_scale: float,
    quirks: Collection[str] = (),
) -> None:
    """Batches with the steps of least squares, Gaussian likelihood."""
    dose = _lagging_dose(state) if "lagging" in quirks else state.dose()
    weight = 1 / np.sqrt(dose**2 + (damping * dose.max()) ** 2)
    for first in range(0, len(order), batch):
        index = order[first : first + batch]
        _lsqml_batch(state, index, weight, object_scale, probe_scale, quirks)


def _lagging_dose(state: State) -> NDArray[np.float64]:
    """The dose as Pty-Chi keeps it: averaged with the one before in the first ten epochs and in each tenth.

    The first is averaged with that of a probe of another scale, ``max_k ΣI / (2 h w)²`` of its own.
    """
    dose, epoch = state.dose(), state.kept.get("epoch", 0)
    if epoch == 0:
        brightest = (state.amplitudes**2).sum(axis=(1, 2)).max()
        state.kept["dose"] = dose * (1 + brightest / (2 * state.probe.size) ** 2) / 2
    elif epoch < 10 or epoch % 10 == 0:
        state.kept["dose"] = (state.kept["dose"] + dose) / 2
    state.kept["epoch"] = epoch + 1
    kept: NDArray[np.float64] = state.kept["dose"]
    return kept


def _lsqml_batch(
    state: State,
    index: Sequence[int],
    weight: NDArray[np.float64],
    object_scale: float,
    probe_scale: float,
    quirks: Collection[str],
) -> None:
    towards = np.zeros_like(state.object)
    along = np.zeros_like(state.probe)
    seen, changes = [], []
    for k in index:
        probe, patch = state.seen(state.probe, k), state.window(state.object, k)
        change = state.modulus_change(probe * patch, k)
        state.window(towards, k)[...] += probe.conj() * change
        along += state.back(patch.conj() * change, k) / len(index)
        seen.append(probe)
        changes.append(change)
    towards *= weight
    moves = [
        (
            state.window(towards, k) * probe,
            (along if "unshifted" in quirks else state.seen(along, k)) * state.window(state.object, k),
        )
        for k, probe in zip(index, seen, strict=True)
    ]
    steps = _least_squares(moves, changes, "complex" in quirks)
    outside = int(np.ceil(0.05 * len(index) - 0.5))
    middle = np.sort(steps[:, 0])[outside : len(index) - outside]
    state.probe += probe_scale * steps[:, 1].mean() * along
    state.object += object_scale * middle.mean() * towards


def _least_squares(
    moves: Sequence[tuple[Complex, Complex]], changes: Sequence[Complex], complex_: bool
) -> NDArray[np.float64]:
    """The steps ``(B, 2)`` that come nearest to the changes, none below 0."""
    inner = np.array([[np.vdot(a, a).real, np.vdot(b, b).real] for a, b in moves])
    inner += 0.1 * inner.mean(axis=0)
    steps = []
    for (a, b), (aa, bb), change in zip(moves, inner, changes, strict=True):
        # Pty-Chi has the product of the second with the first where the first with the second belongs; as the real
        # part of the solution is taken, this makes no difference
        cross = np.vdot(b, a) if complex_ else np.vdot(b, a).real
        system = np.array([[aa, cross], [np.conj(cross), bb]])
        steps.append(np.linalg.solve(system, [np.vdot(a, change).real, np.vdot(b, change).real]).real.clip(0))
    return np.array(steps)


def dm_epoch(
    state: State, object_inertia: float = 0.0, probe_inertia: float = 0.0, quirks: Collection[str] = ()
) -> None:
    """``ψ += Π_F(2 Π_O ψ − ψ) − Π_O ψ``, then the averages of probe and object, once each."""
    product = [state.seen(state.probe, k) * state.window(state.object, k) for k in range(state.count)]
    waves = state.kept.setdefault("waves", np.array(product))
    for k, wave in enumerate(product):
        mirrored = 2 * wave - waves[k]
        waves[k] += mirrored + state.modulus_change(mirrored, k) - wave
    if "damped" in quirks:
        _damped_averages(state, waves)
    else:
        _averages(state, waves, object_inertia, probe_inertia)


def _averages(state: State, waves: Complex, object_inertia: float, probe_inertia: float) -> None:
    """Increments, which vanish where the waves are products of object and probe."""
    patches = [state.window(state.object, k) for k in range(state.count)]
    pull = sum(
        state.back(patch.conj() * (waves[k] - state.seen(state.probe, k) * patch), k) for k, patch in enumerate(patches)
    )
    state.probe += pull / (sum(np.abs(patch) ** 2 for patch in patches) + probe_inertia)
    change, light = np.zeros_like(state.object), np.full(state.object.shape, object_inertia)
    for k, patch in enumerate(patches):
        probe = state.seen(state.probe, k)
        state.window(change, k)[...] += probe.conj() * (waves[k] - probe * patch)
        state.window(light, k)[...] += np.abs(probe) ** 2
    state.object += change / light


def _damped_averages(state: State, waves: Complex) -> None:
    patches = [state.window(state.object, k) for k in range(state.count)]
    above = sum(state.back(patch.conj() * waves[k], k) for k, patch in enumerate(patches))
    below = sum(state.back(np.abs(patch) ** 2, k).real for k, patch in enumerate(patches))
    state.probe[...] = above / np.sqrt(below**2 + (0.05 * below.max()) ** 2)
    above, below = np.zeros_like(state.object), np.zeros(state.object.shape)
    for k in range(state.count):
        probe = state.seen(state.probe, k)
        state.window(above, k)[...] += probe.conj() * waves[k]
        state.window(below, k)[...] += np.abs(probe) ** 2
    state.object[...] = above / np.sqrt(below**2 + (0.05 * below.max()) ** 2)
