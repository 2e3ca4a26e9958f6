"""The differentiable forward model: a loss of some patterns and its gradient with respect to all that can be refined.

    ``L = Σ_k Σ_q ℓ(Σ_mn |D_z[P_m(r - s_k) O_n(r + c_k)]|², I_k)``

with probe modes ``P_m``, object modes ``O_n`` and the position ``c_k + s_k`` as the ``sampling`` has it:

* ``fourier``: whole pixels crop the object, the fraction shifts the probe in Fourier space, as in every other method;
* ``bilinear``: the object is interpolated between four pixels, which damps its highest frequencies;
* ``crop``: positions are rounded, and have no gradient.

The gradient is written by hand (Wirtinger calculus) and follows the wave back: with ``G = 2 Ψ dℓ/dD`` on the detector,
``g = D†G`` behind the specimen, it is ``Σ_km P_m* g`` for the object and ``Σ_kn O_n* g`` for the probe. Shift and
propagation act on spectra by phases, so that for positions and distance the products of spectra that are at hand anyway
are enough. Gradients are those of torch: twice the derivative by the complex conjugate, so that a step against it goes
downhill fastest. Sums over the patterns of a batch are made in place, a few patterns at a time: memory does not depend
on the number of patterns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptybench.engines.losses import Loss
from ptybench.engines.setting import Sight
from ptybench.native import library
from ptybench.native.gradients import GradientKernel
from ptybench.optics.forward import ForwardModel

Sampling: TypeAlias = Literal["fourier", "bilinear", "crop"]
WHOLE = 1e-6  # of a pixel, by which a position may miss a whole one


class Wanted(NamedTuple):
    """With respect to what, beside the object, a gradient is asked for."""

    probe: bool = True
    positions: bool = False
    distance: bool = False


@dataclass
class Gradient:
    """A loss of some patterns and its gradient.

    Args:
        loss: summed over patterns and pixels, times the loss's scale.
        error: ``Σ (√D - √I)²``.
        object: ``(N, H, W)``.
        probe: ``(M, h, w)``; without meaning where it is not wanted.
        positions: ``(B, 2)`` by the positions in pixels; without meaning where it is not wanted.
        distance: by the distance in units of the nominal one, through the propagator alone.

    """

    loss: float
    error: float
    object: Tensor
    probe: Tensor
    positions: NDArray[np.float64]
    distance: float


class Differentiable:
    """Losses and gradients on a measurement; torch is the reference, compiled kernels serve where they can.

    Args:
        model: data and geometry.
        loss: what is summed up.
        sampling: how the object is seen at a position.
        padded: ``(ph, pw)`` to which near-field waves are padded.

    """

    def __init__(self, model: ForwardModel, loss: Loss, sampling: Sampling, padded: tuple[int, int]) -> None:
        self.model, self.loss, self.sampling, self.padded = model, loss, sampling, padded
        self._kernel: GradientKernel | None = None
        self._room: dict[tuple[int, ...], Tensor] = {}

    def __call__(
        self,
        index: list[int],
        objects: Tensor,
        probe: Tensor,
        positions: NDArray[np.float64],
        sight: Sight,
        wanted: Wanted,
    ) -> Gradient:
        """Return loss and gradient of some patterns.

        Args:
            index: which patterns.
            objects: ``(N, H, W)``.
            probe: ``(M, h, w)``.
            positions: ``(B, 2)`` of these patterns; beyond the canvas the edge is seen.
            sight: the set-up at the present distance.
            wanted: with respect to what.

        """
        room = np.array(self.model.canvas) - self.model.shape
        positions = np.clip(positions, 0, room)
        sampling = self.sampling
        if sampling == "crop":
            positions = np.round(positions)
        if np.abs(positions - np.round(positions)).max() < WHOLE and not wanted.positions:
            sampling = "crop"
        # a gradient of the last call is not kept: these arrays are as large as the object
        found = Gradient(
            0.0, 0.0, self._kept("object", objects), self._kept("probe", probe), np.zeros(positions.shape), 0.0
        )
        self._count(len(index), len(objects), len(probe), sampling, wanted)
        if library.able(self.model):
            threads = torch.get_num_threads()
            if self._kernel is None or not self._kernel.serves(len(probe), threads):
                self._kernel = GradientKernel(self.model, len(probe), threads)
            self._kernel.batch(index, objects, probe, positions, sight, self.loss, sampling, self.padded, wanted, found)
        else:
            self.by_torch(index, objects, probe, positions, sight, sampling, wanted, found)
        if self.sampling == "crop":
            found.positions[:] = 0
        return found

    def _kept(self, what: str, like: Tensor) -> Tensor:
        """An array that is made once and filled anew."""
        key = (hash(what), *like.shape)
        if key not in self._room:
            self._room[key] = torch.empty_like(like)
        return self._room[key]

    def _count(self, patterns: int, states: int, modes: int, sampling: Sampling, wanted: Wanted) -> None:
        """Count transforms, in units of the window: a padded one is as many as it has pixels more."""
        h, w = self.model.shape
        flights = 2 * states * modes * self.model.propagator.ffts * (self.padded[0] * self.padded[1]) / (h * w)
        shifts = modes * (1 + (wanted.probe or wanted.positions)) if sampling == "fourier" else 0
        self.model.ffts += round(patterns * (flights + shifts)) + (modes * (1 + wanted.probe) if shifts else 0)

    def by_torch(
        self,
        index: list[int],
        objects: Tensor,
        probe: Tensor,
        positions: NDArray[np.float64],
        sight: Sight,
        sampling: Sampling,
        wanted: Wanted,
        found: Gradient,
    ) -> None:
        """Fill ``found`` by operations of torch, the reference."""
        found.object.zero_()
        found.probe.zero_()
        place = dict(zip(index, range(len(index)), strict=True)) if len(set(index)) == len(index) else {}
        assert place, "a pattern stands twice in a batch"
        for part in self.model.parts(index, len(objects) * len(probe)):
            assert isinstance(part, list)
            at = [place[k] for k in part]
            self._part(part, at, objects, probe, positions[at], sight, sampling, wanted, found)

    def _part(
        self,
        index: list[int],
        at: list[int],
        objects: Tensor,
        probe: Tensor,
        positions: NDArray[np.float64],
        sight: Sight,
        sampling: Sampling,
        wanted: Wanted,
        found: Gradient,
    ) -> None:
        model, shape = self.model, self.model.shape
        sampler = Sampler(model, positions, sampling)
        patches = sampler.look(objects)  # (B, N, h, w)
        shifting = sampling == "fourier"
        if shifting:
            spectra = torch.fft.fft2(probe) * sampler.ramp(shape)[:, None]
            probes: Tensor = torch.fft.ifft2(spectra)  # (B, M, h, w)
        else:
            probes = probe.expand(len(index), *probe.shape)
        exit_waves = probes[:, :, None] * patches[:, None]  # (B, M, N, h, w)
        undo = sampler.ramp(self.padded).conj()[:, None, None] if shifting and sight.transfer is not None else None
        waves, flown = self._fly(exit_waves, sight, undo)
        expected = (waves * waves.conj()).real.sum(dim=(1, 2))
        amplitude = model.measured(index)[:, 0]
        trust = torch.ones_like(expected) if model.good is None else model.good.expand_as(expected)
        values, slopes = self.loss.terms(expected, amplitude)
        scale = self.loss.scale
        found.loss += scale * float((trust * values).sum(dtype=torch.float64))
        found.error += float((trust * (expected.sqrt() - amplitude).square()).sum(dtype=torch.float64))
        pull = waves * (2 * scale * trust * slopes)[:, None, None]
        back, risen = self._fly_back(pull, sight, undo)
        pushes = torch.zeros(len(index), 2, dtype=torch.float64, device=model.device)
        if flown is not None and risen is not None:
            turn = (risen.conj() * flown).imag.sum(dim=(1, 2)).double() / (self.padded[0] * self.padded[1])
            if wanted.distance:
                assert sight.bend is not None
                found.distance -= float((sight.bend * turn).sum())
            if shifting:
                pushes -= along(turn)
        pulled = (probes.conj()[:, :, None] * back).sum(dim=1)
        sampler.add(pulled, found.object)
        if sampling == "bilinear" and wanted.positions:
            pushes += sampler.push(objects, pulled)
        if wanted.probe or (wanted.positions and shifting):
            turns = (patches.conj()[:, None] * back).sum(dim=2)
            if shifting:
                turned = torch.fft.fft2(turns)
                pushes += along((turned.conj() * spectra).imag.sum(dim=1).double()) / (shape[0] * shape[1])
                turns = torch.fft.ifft2((turned * sampler.ramp(shape).conj()[:, None]).sum(dim=0, keepdim=True))
            found.probe += turns.sum(dim=0)
        found.positions[at] = pushes.cpu().numpy()

    def _fly(self, waves: Tensor, sight: Sight, undo: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Waves at the detector, and in the near field their padded spectra behind the kernel."""
        if sight.transfer is None:
            there: Tensor = torch.fft.fft2(waves, norm="ortho")
            return there, None
        flown = torch.fft.fft2(waves, s=self.padded) * sight.transfer
        if undo is not None:
            flown = flown * undo
        h, w = self.model.shape
        return torch.fft.ifft2(flown)[..., :h, :w], flown

    def _fly_back(self, waves: Tensor, sight: Sight, undo: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The adjoint, and in the near field the padded spectra on the detector's side of the kernel."""
        if sight.transfer is None:
            back: Tensor = torch.fft.ifft2(waves, norm="ortho")
            return back, None
        risen = torch.fft.fft2(waves, s=self.padded)
        sunk = risen * sight.transfer.conj()
        if undo is not None:
            sunk = sunk * undo.conj()
        h, w = self.model.shape
        return torch.fft.ifft2(sunk)[..., :h, :w], risen


class Sampler:
    """Windows of objects at some positions, by their whole pixels and what is left of them.

    Args:
        model: sizes and device.
        positions: ``(B, 2)`` on the canvas.
        sampling: what happens to the fractions.

    """

    def __init__(self, model: ForwardModel, positions: NDArray[np.float64], sampling: Sampling) -> None:
        self.model, self.sampling = model, sampling
        room = np.array(model.canvas) - model.shape
        whole = np.clip(np.floor(positions + WHOLE), 0, room)
        if sampling == "bilinear":
            whole = np.minimum(whole, np.maximum(room - 1, 0))
        self.corners: list[tuple[int, int]] = [(int(y), int(x)) for y, x in whole]
        self.fraction = torch.as_tensor(positions - whole, dtype=model.real, device=model.device)
        self.next = int(room[0] > 0), int(room[1] > 0)

    def ramp(self, shape: tuple[int, int]) -> Tensor:
        """The phases ``(B, *shape)`` by which the fractions shift a spectrum."""
        y, x = (
            torch.polar(
                torch.ones(1, dtype=self.model.real, device=self.model.device),
                -2 * torch.pi * self.fraction[:, i : i + 1] * torch.fft.fftfreq(
                    n, dtype=self.model.real, device=self.model.device
                ),
            )
            for i, n in enumerate(shape)
        )  # fmt: skip
        return y[:, :, None] * x[:, None, :]

    def _corners(self, down: int, over: int) -> list[tuple[slice, slice]]:
        """The windows, moved by a pixel."""
        h, w = self.model.shape
        dy, dx = down * self.next[0], over * self.next[1]
        return [(slice(y + dy, y + dy + h), slice(x + dx, x + dx + w)) for y, x in self.corners]

    def _weights(self) -> list[tuple[int, int, Tensor]]:
        """The shares of the four neighbours."""
        y, x = self.fraction[:, 0, None, None, None], self.fraction[:, 1, None, None, None]
        return [(a, b, (y if a else 1 - y) * (x if b else 1 - x)) for a in (0, 1) for b in (0, 1)]

    def _seen(self, objects: Tensor, down: int = 0, over: int = 0) -> Tensor:
        return torch.stack([objects[:, y, x] for y, x in self._corners(down, over)])

    def look(self, objects: Tensor) -> Tensor:
        """Windows ``(B, N, h, w)`` of objects ``(N, H, W)``."""
        if self.sampling != "bilinear":
            return self._seen(objects)
        return torch.stack([weight * self._seen(objects, a, b) for a, b, weight in self._weights()]).sum(dim=0)

    def add(self, windows: Tensor, objects: Tensor) -> None:
        """The adjoint of :meth:`look`: add ``(B, N, h, w)`` to objects ``(N, H, W)``, in place."""
        if self.sampling != "bilinear":
            for (y, x), window in zip(self._corners(0, 0), windows, strict=True):
                objects[:, y, x] += window
            return
        for a, b, weight in self._weights():
            for (y, x), window in zip(self._corners(a, b), weight * windows, strict=True):
                objects[:, y, x] += window

    def push(self, objects: Tensor, pulled: Tensor) -> Tensor:
        """``Re⟨g, ∂V⟩`` of bilinear windows by their positions, ``(B, 2)`` in float64."""
        y, x = self.fraction[:, 0, None, None, None], self.fraction[:, 1, None, None, None]
        a, b, c, d = (self._seen(objects, *corner) for corner in ((0, 0), (0, 1), (1, 0), (1, 1)))
        slopes = (1 - x) * (c - a) + x * (d - b), (1 - y) * (b - a) + y * (d - c)
        return torch.stack([(pulled.conj() * slope).real.sum(dim=(1, 2, 3)) for slope in slopes], dim=1).double()


def along(turn: Tensor) -> Tensor:
    """``Σ 2π f t`` of ``(B, h, w)`` along both axes, ``(B, 2)``."""
    fy, fx = (2 * torch.pi * torch.fft.fftfreq(n, dtype=turn.dtype, device=turn.device) for n in turn.shape[-2:])
    return torch.stack([(turn.sum(dim=2) * fy).sum(dim=1), (turn.sum(dim=1) * fx).sum(dim=1)], dim=1)
