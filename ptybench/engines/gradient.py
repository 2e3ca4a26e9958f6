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
on the number of patterns, nor do patterns that are read from their file ever come all at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
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


@dataclass(frozen=True, eq=False)
class Batch:
    """Some patterns, and all that their loss depends on.

    Args:
        index: which patterns.
        objects: ``(N, H, W)``.
        probe: ``(M, h, w)``.
        positions: ``(B, 2)`` of these patterns; beyond the canvas the edge is seen.
        sight: the set-up at the present distance.
        sampling: how the object is seen at a position.
        wanted: with respect to what a gradient is asked for.

    """

    index: list[int]
    objects: Tensor
    probe: Tensor
    positions: NDArray[np.float64]
    sight: Sight
    sampling: Sampling
    wanted: Wanted

    @property
    def padded(self) -> tuple[int, int]:
        """``(ph, pw)`` of the waves that are propagated."""
        h, w = (self.probe if self.sight.transfer is None else self.sight.transfer).shape[-2:]
        return h, w

    def split(self, pieces: Iterable[list[int]]) -> Iterator[tuple[slice, Batch]]:
        """The batch in pieces of its patterns that follow each other, and where each of them stands in it."""
        end = 0
        for index in pieces:
            here = slice(end, end + len(index))
            end = here.stop
            yield here, replace(self, index=index, positions=self.positions[here])


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

    """

    def __init__(self, model: ForwardModel, loss: Loss) -> None:
        self.model, self.loss = model, loss
        self._kernel: GradientKernel | None = None
        self._room: dict[tuple[int, ...], Tensor] = {}

    def __call__(self, batch: Batch) -> Gradient:
        """Return loss and gradient of some patterns."""
        room = np.array(self.model.canvas) - self.model.shape
        positions, sampling = np.clip(batch.positions, 0, room), batch.sampling
        if sampling == "crop":
            positions = np.round(positions)
        if np.abs(positions - np.round(positions)).max() < WHOLE and not batch.wanted.positions:
            sampling = "crop"
        seen = replace(batch, positions=positions, sampling=sampling)
        self._count(seen)
        found = self._by_kernel(seen) if library.able(self.model) else self.by_torch(seen)
        if batch.sampling == "crop":
            found.positions[:] = 0
        return found

    def _empty(self, batch: Batch) -> Gradient:
        """A gradient to be filled; that of the last call is not kept, as its arrays are as large as the object."""
        objects, probe = self._kept("object", batch.objects), self._kept("probe", batch.probe)
        return Gradient(0.0, 0.0, objects, probe, np.zeros(batch.positions.shape), 0.0)

    def _kept(self, what: str, like: Tensor) -> Tensor:
        """An array that is made once and filled anew."""
        key = (hash(what), *like.shape)
        if key not in self._room:
            self._room[key] = torch.empty_like(like)
        return self._room[key]

    def _count(self, batch: Batch) -> None:
        """Count transforms, in units of the window: a padded one is as many as it has pixels more."""
        states, modes, wanted, (h, w) = len(batch.objects), len(batch.probe), batch.wanted, self.model.shape
        flights = 2 * states * modes * self.model.propagator.ffts * math.prod(batch.padded) / (h * w)
        shifts = modes * (1 + (wanted.probe or wanted.positions)) if batch.sampling == "fourier" else 0
        self.model.ffts += round(len(batch.index) * (flights + shifts)) + (modes * (1 + wanted.probe) if shifts else 0)

    def _by_kernel(self, batch: Batch) -> Gradient:
        """What :meth:`by_torch` does, by compiled kernels, for all patterns that are at hand in one call."""
        found = self._empty(batch)
        for here, piece in batch.split(self.model.at_hand(batch.index)):
            kernel = GradientKernel.on(self.model, len(batch.probe), torch.get_num_threads(), self._kernel)
            kernel.batch(piece, self.loss, found, here)
            self._kernel = kernel
        return found

    def by_torch(self, batch: Batch) -> Gradient:
        """Loss and gradient by operations of torch, the reference."""
        found = self._empty(batch)
        found.object.zero_()
        found.probe.zero_()
        for run, some in batch.split(self.model.at_hand(batch.index)):
            parts = self.model.parts(some.index, len(batch.objects) * len(batch.probe))
            for here, part in some.split(part for part in parts if isinstance(part, list)):
                found.positions[run][here] = self._part(part, found)
        return found

    def _part(self, batch: Batch, found: Gradient) -> NDArray[np.float64]:
        """Add what a few patterns say to the sums that are found; return their gradient by the positions."""
        model, shape, sight, wanted, probe = self.model, self.model.shape, batch.sight, batch.wanted, batch.probe
        sampler = Sampler(model, batch.positions, batch.sampling)
        patches = sampler.look(batch.objects)  # (B, N, h, w)
        shifting = batch.sampling == "fourier"
        if shifting:
            spectra = torch.fft.fft2(probe) * sampler.ramp(shape)[:, None]
            probes: Tensor = torch.fft.ifft2(spectra)  # (B, M, h, w)
        else:
            probes = probe.expand(len(batch.index), *probe.shape)
        exit_waves = probes[:, :, None] * patches[:, None]  # (B, M, N, h, w)
        undo = sampler.ramp(batch.padded).conj()[:, None, None] if shifting and sight.transfer is not None else None
        waves, flown = self._fly(exit_waves, sight, undo)
        expected = (waves * waves.conj()).real.sum(dim=(1, 2))
        amplitude = model.measured(batch.index)[:, 0]
        trust = torch.ones_like(expected) if model.good is None else model.good.expand_as(expected)
        values, slopes = self.loss.terms(expected, amplitude)
        scale = self.loss.scale
        found.loss += scale * float((trust * values).sum(dtype=torch.float64))
        found.error += float((trust * (expected.sqrt() - amplitude).square()).sum(dtype=torch.float64))
        pull = waves * (2 * scale * trust * slopes)[:, None, None]
        back, risen = self._fly_back(pull, sight, undo)
        pushes = torch.zeros(len(batch.index), 2, dtype=torch.float64, device=model.device)
        if flown is not None and risen is not None:
            turn = (risen.conj() * flown).imag.sum(dim=(1, 2)).double() / math.prod(batch.padded)
            if wanted.distance:
                assert sight.bend is not None
                found.distance -= float((sight.bend * turn).sum())
            if shifting:
                pushes -= along(turn)
        pulled = (probes.conj()[:, :, None] * back).sum(dim=1)
        sampler.add(pulled, found.object)
        if batch.sampling == "bilinear" and wanted.positions:
            pushes += sampler.push(batch.objects, pulled)
        if wanted.probe or (wanted.positions and shifting):
            turns = (patches.conj()[:, None] * back).sum(dim=2)
            if shifting:
                turned = torch.fft.fft2(turns)
                pushes += along((turned.conj() * spectra).imag.sum(dim=1).double()) / (shape[0] * shape[1])
                turns = torch.fft.ifft2((turned * sampler.ramp(shape).conj()[:, None]).sum(dim=0, keepdim=True))
            found.probe += turns.sum(dim=0)
        there: NDArray[np.float64] = pushes.cpu().numpy()
        return there

    def _fly(self, waves: Tensor, sight: Sight, undo: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Waves at the detector, and in the near field their padded spectra behind the kernel."""
        if sight.transfer is None:
            there: Tensor = torch.fft.fft2(waves, norm="ortho")
            return there, None
        flown = torch.fft.fft2(waves, s=sight.transfer.shape) * sight.transfer
        if undo is not None:
            flown = flown * undo
        h, w = self.model.shape
        return torch.fft.ifft2(flown)[..., :h, :w], flown

    def _fly_back(self, waves: Tensor, sight: Sight, undo: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The adjoint, and in the near field the padded spectra on the detector's side of the kernel."""
        if sight.transfer is None:
            back: Tensor = torch.fft.ifft2(waves, norm="ortho")
            return back, None
        risen = torch.fft.fft2(waves, s=sight.transfer.shape)
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
