"""What PINE does to the object after each epoch, for any method: a step towards what a denoiser makes of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field, field_validator
from torch import Tensor

from ptybench.networks.denoisers import LEVEL, SUFFIX, make_denoiser, weights_sha256
from ptybench.optics.forward import Slices, total_intensity
from ptybench.solver import Addition, Solver
from ptybench.specs import Tunable, Weighted

LIT = 0.01
"""Share of the largest dose from which a pixel counts, as in the scores."""
TAIL = 0.001
"""Share of the pixels that may lie beyond black, and beyond white."""
BEYOND = 0.5
"""How far what a denoiser sees may lie beyond black and white, in units of their distance."""
WIDEST = 4.0
"""A scale by the photons stretches the object to no more than so many times the grey scale."""
REACH = 17
"""Pixels around the light that a network of 17 convolutions of 3 x 3 sees from inside it."""


class DenoisingOptions(Weighted):
    """How an object is denoised.

    Args:
        denoiser: ``bn``, ``blind`` or ``realsn``, networks of ptybench; ``tv``, ``nlm`` or ``bm3d``; or the path of a
            safetensors file with a network of one's own.
        rho: how far to go towards what the denoiser makes of the object.
        rescale: what black and white are: ``dose`` takes all but the last 0.1 % of the values where the dose is at
            least 1 % of its maximum; ``global`` the least and the greatest value of the whole object, as the paper's
            code does; ``photons`` the scale on which the noise that the photons leave has the strength that the
            denoiser expects.
        form: what are the images: ``cartesian`` real and imaginary part, ``polar`` modulus and phase, ``amplitude`` the
            modulus alone.
        falling: ``rho`` falls with the data error, ``rho √(E / E_1)`` with that of the first epoch.
        sigma: strength of the noise on the grey scale; networks were trained for 15/255 (``blind`` for up to that),
            others take what is said.
        start: epochs before the first step.
        every: epochs from one step to the next.

    """

    denoiser: str = "bn"
    rho: Annotated[float, Field(ge=0, lt=1), Tunable(0.05, 0.49)] = 0.49
    rescale: Literal["dose", "global", "photons"] = "dose"
    form: Literal["cartesian", "polar", "amplitude"] = "cartesian"
    falling: bool = False
    sigma: Annotated[float, Field(gt=0, le=1)] = LEVEL
    start: Annotated[int, Field(ge=1)] = 1
    every: Annotated[int, Field(ge=1)] = 1

    @field_validator("denoiser")
    @classmethod
    def _wherever_it_runs(cls, name: str) -> str:
        # a child process has another working folder
        return str(Path(name).resolve()) if name.endswith(SUFFIX) else name

    def weights_sha256(self) -> str | None:
        """Of the denoiser."""
        return weights_sha256(self.denoiser)


class Denoising:
    """The step ``O ← (1−ρ) O + ρ D(O)`` (Yamada et al. 2024, 10.1107/S1600576724006897, eqs. 22 to 24).

    ``D(O) = D(Re O) + i D(Im O)``, each part on a scale from 0 to 1 that the paper does not mention and its code has;
    without it the noise of 15/255 that a network expects is far above the contrast of a weak object. Ours, unless
    ``rescale`` is ``global``: black and white are taken where there is light and do not depend on a few extreme
    pixels, and the object stays as it is outside the rectangle that the light fills.

    Args:
        solver: whose object is denoised, in place.
        options: how.

    """

    def __init__(self, solver: Solver, options: DenoisingOptions) -> None:
        self.solver, self.options = solver, options
        self.denoiser = make_denoiser(options.denoiser, solver.device, options.sigma)
        self.first_error: float | None = None
        self.threads = torch.get_num_threads()  # a network uses them all, however few the method does

    @torch.no_grad()
    def step(self, epoch: int, data_error: float) -> None:
        """Denoise after an epoch, counted from 1, where it is time to.

        Args:
            epoch: its number.
            data_error: its error.

        """
        if self.first_error is None:
            self.first_error = data_error
        late = epoch - self.options.start
        rho = self.rho(data_error)
        if late < 0 or late % self.options.every or rho == 0:
            return
        solver = self.solver
        if not (solver.object.isfinite().all() and solver.probe.isfinite().all()):
            return  # a method that diverges is stopped by its driver
        light = Light.of(solver)
        part = solver.object if self.options.rescale == "global" else solver.object[light.box]
        with exactly(self.threads):
            part.lerp_(self.denoised(part, light), rho)

    def rho(self, data_error: float) -> float:
        """The length of the step."""
        rho: float = self.options.rho
        if not self.options.falling or not self.first_error:
            return rho
        return rho * min(1.0, math.sqrt(data_error / self.first_error))

    def denoised(self, part: Tensor, light: Light) -> Tensor:
        """``D(O)`` of a piece ``(H, W)`` of the object."""
        if self.options.form == "cartesian":
            images = torch.view_as_real(part).movedim(-1, 0)
            return torch.complex(*self.cleaned(images, light))
        modulus = part.abs()
        if self.options.form == "amplitude":
            return part * (self.cleaned(modulus[None], light)[0] / modulus.clamp_min(torch.finfo(modulus.dtype).tiny))
        middle = torch.sgn(part.mean())
        images = torch.stack([modulus, (part * middle.conj()).angle()])
        modulus, phase = self.cleaned(images, light)
        return torch.polar(modulus.clamp_min(0), phase) * middle

    def cleaned(self, images: Tensor, light: Light) -> Tensor:
        """Real images ``(B, H, W)`` without noise; one without contrast as it is."""
        low, high = self.extremes(images, light)
        contrast = high - low
        # the noise in units of the grey scale is what the denoiser expects, as far as that scale is not too narrow
        least = light.noise / self.options.sigma if self.options.rescale == "photons" else contrast
        width = torch.maximum(least, contrast / WIDEST)
        black = (low + high - width) / 2
        there, beyond = contrast > 0, BEYOND * contrast
        seen = images if self.options.rescale == "global" else images.clamp(low - beyond, high + beyond)
        grey = (seen - black) / torch.where(there, width, 1)
        return torch.where(there, self.denoiser(grey.float()) * width + black, images)

    def extremes(self, images: Tensor, light: Light) -> tuple[Tensor, Tensor]:
        """The values between which the object is taken to lie, ``(B, 1, 1)`` each."""
        if self.options.rescale == "global":
            return images.amin((1, 2), keepdim=True), images.amax((1, 2), keepdim=True)
        seen = images[:, light.lit]
        low, high = (quantile(seen, share)[:, None, None] for share in (TAIL, 1 - TAIL))
        return low, high


class Light(NamedTuple):
    """Where the object is lit.

    Args:
        box: the rectangle that the light fills, with what a network sees around it.
        lit: ``(h, w)`` inside the box, true where the dose is at least 1 % of its maximum.
        noise: standard deviation of real and imaginary part of the object that the photons leave.

    """

    box: Slices
    lit: Tensor
    noise: Tensor

    @classmethod
    def of(cls, solver: Solver) -> Light:
        """What a solver's probe lights at its positions.

        A pixel that ``d = Σ_k |P_k|²`` photons pass tells of each of the two parts of the object at most the Fisher
        information ``2 d``: a count has ``4 (∂|Ψ|)²``, of which half concerns a part on average over the phases.
        """
        model, dose = solver.model, torch.zeros(solver.model.canvas, dtype=solver.model.real, device=solver.device)
        light = total_intensity(solver.probe)[0]
        for window in model.windows:
            dose[window] += light
        lit = dose >= LIT * dose.max()
        rows, columns = (torch.nonzero(lit.any(axis))[:, 0].tolist() for axis in (1, 0))
        box = tuple(
            slice(max(places[0] - REACH, 0), min(places[-1] + 1 + REACH, size))
            for places, size in zip((rows, columns), model.canvas, strict=True)
        )
        noise = (1 / (2 * dose[lit])).mean().sqrt()
        return cls((box[0], box[1]), lit[box], noise)


@contextmanager
def exactly(threads: int) -> Iterator[None]:
    """Let torch use so many CPU threads for a while."""
    before = torch.get_num_threads()
    if threads != before:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        if threads != before:
            torch.set_num_threads(before)


def quantile(values: Tensor, share: float) -> Tensor:
    """The value ``(B,)`` below which a share of ``(B, N)`` lies; torch's own takes 2^24 values at most."""
    return values.kthvalue(1 + round(share * (values.shape[1] - 1)), dim=1).values


class DenoisingAddition(Addition):
    """An addition that denoises the object after each epoch."""

    Options = DenoisingOptions

    def setup(self) -> None:
        """Load the denoiser."""
        self.denoising = Denoising(self.solver, self.options)

    def after_epoch(self) -> None:
        """One step."""
        self.denoising.step(self.solver.epochs_done + 1, self.solver.data_error)
        self.network_evaluations = self.denoising.denoiser.evaluations
