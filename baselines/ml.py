"""Maximum-likelihood ptychography by nonlinear conjugate gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from ptybench.engines.likelihood import Gaussian, Likelihood, Poisson, real_product
from ptybench.memory import require
from ptybench.optics.forward import Windowed, over_modes, squared_modulus, total_intensity
from ptybench.solver import Solver, SolverOptions
from ptybench.specs import Tunable
from ptybench.types import FloatArray

KEPT_BYTES = 2**31  # waves and their changes are kept between epochs up to this size, made anew above it
RENEWED = 20  # epochs after which kept waves and preconditioners are made anew


@dataclass
class Look:
    """Some patterns along the line ``O + t ΔO``, ``P + t ΔP``.

    Args:
        index: which patterns.
        probes: the probe at their positions, ``(B, M, h, w)``.
        waves: their waves at the detector, which along the line are ``Ψ + t first + t² second``.
        turns: ``ΔP`` at their positions.
        first: see ``waves``.
        second: see ``waves``; ``None`` where the probe stays.

    """

    index: slice
    probes: Tensor
    waves: Tensor
    turns: Tensor | None = None
    first: Tensor | None = None
    second: Tensor | None = None


class ML(Solver):
    """Maximum likelihood by conjugate gradients (Thibault & Guizar-Sicairos 2012, 10.1088/1367-2630/14/6/063004).

    Object and probe together go along conjugate directions (Polak & Ribière), one an epoch, down minus the logarithm of
    the likelihood of all patterns,

        ``Σ (D - I)² / 2(I + 1)`` (Gaussian) or ``Σ D - I log D`` (Poisson), with ``D = Σ_m |Ψ_m|²``.

    The line search is exact and needs no transforms beyond the direction's: as the waves become
    ``Ψ + t F[P ΔO + ΔP O] + t² F[ΔP ΔO]``, ``D`` is a polynomial of degree 4 in ``t`` at each pixel. The Gaussian
    likelihood is one of degree 8, whose lowest point is taken, not that of its quadratic approximation, after which it
    may be less likely; the Poisson likelihood is searched by Newton's method on the pixels' polynomials. So no epoch
    makes object and probe less likely.

    Along the object the likelihood bends as ``Σ_k |P_k|²``, along the probe as ``Σ_k |O_k|²``, which differ by the
    photons. Gradients are divided by these pixel by pixel (``preconditioner = dose``, the directions of LSQ-ML,
    10.1364/OE.26.003108), by their largest values (``scale``), or not at all (``none``). On ``low_overlap``
    (``dev``, one seed) 50 epochs with ``dose`` are likelier than 100 with ``none``. Preconditioners, and
    against rounding all waves, are made anew every 20 epochs.

    With ``smoothness = μ`` the prior ``μ c Σ |∇O|²`` is added, ``c = K h w ΣI / 8 (H W)²`` as in the authors' package
    ptypy: at ``μ = 1`` as large as the likelihood's term where neighbours differ by the noise of their photons.

    The Gaussian likelihood takes the variance of a count from the count itself and so believes low counts too much:
    on ``low_dose`` (``dev``, two seeds) the correlation with the truth is 0.30 after 200 epochs, with Poisson 0.36.
    Both fit errors of the model as well as they can: on ``position_jitter`` it falls from 0.28 after 20 epochs to 0.19
    after 300, with Poisson from 0.29 after 50 to 0.23.
    """

    name = "ml"
    variants: ClassVar = {"poisson": {"likelihood": "poisson"}}

    class Options(SolverOptions):
        """Options of maximum likelihood.

        Args:
            likelihood: of the photons, ``gaussian`` or ``poisson``.
            preconditioner: what gradients are divided by: ``dose``, ``scale`` or ``none``.
            damping: share of its largest value that is added to the dose.
            smoothness: weight ``μ`` of the prior; 0 switches it off.
            probe_start: epochs before the probe is updated.

        """

        likelihood: Literal["gaussian", "poisson"] = "gaussian"
        preconditioner: Literal["dose", "scale", "none"] = "dose"
        damping: Annotated[float, Field(gt=0, le=1), Tunable(0.01, 1.0, log=True)] = 0.1
        smoothness: Annotated[float, Field(ge=0), Tunable(choices=(0.0, 0.01, 0.03, 0.1))] = 0.0
        probe_start: Annotated[int, Field(ge=0)] = 0

    def setup(self) -> None:
        """Choose the likelihood and decide whether waves can be kept."""
        self.likelihood: Likelihood = {"gaussian": Gaussian(), "poisson": Poisson()}[self.options.likelihood]
        pixels, modes = self.model.pixels, len(self.probe)
        self.chunks = self.model.chunks(modes)
        self.keeps = 8 * modes * pixels * self.dtype.itemsize <= KEPT_BYTES
        if self.options.likelihood == "poisson" and self.device.type == "cpu":  # its search looks at them repeatedly
            require(5 * pixels * self.model.real.itemsize, "ml:poisson, which keeps polynomials of all pixels,")
        self.smoothing: float = self.options.smoothness * pixels * self.model.power / (8 * self.object.numel() ** 2)
        self.stale = True
        self.last: tuple[list[Tensor], list[Tensor], float] | None = None

    def place(self, positions_px: FloatArray) -> None:
        """Go on with these ``(K, 2)`` positions."""
        super().place(positions_px)
        self.stale = True

    def refocus(self, distance_m: float) -> None:
        """Go on with this propagation distance (near field)."""
        super().refocus(distance_m)
        self.stale = True

    @torch.inference_mode()
    def epoch(self) -> float:
        """Go to the most likely point along one conjugate direction."""
        if self.stale or self.additions or self.epochs_done % RENEWED == 0:
            self.renew()
        refine_probe = self.refine_probe and self.epochs_done >= self.options.probe_start
        error, gradients = self.gradients(refine_probe)
        directions = self.conjugate(gradients)
        self.go(directions, self.likelihood.best_step(self.lines(directions), self.prior(directions[0])))
        return error / self.model.power

    def renew(self) -> None:
        """Start from object, probe and positions as they are now."""
        self.seen = Windowed(self.object, self.model.windows)
        self.pull, self.turned = (Windowed(torch.empty_like(self.object), self.model.windows) for _ in range(2))
        self.scales = self.preconditioners()
        self.looks = [self.look(index) for index in self.chunks] if self.keeps else []
        self.stale = False

    def preconditioners(self) -> list[Tensor]:
        """What the gradients of object and probe are multiplied with."""
        object_light = torch.zeros(self.model.canvas, dtype=self.model.real, device=self.device)
        probe_light = torch.zeros(self.model.shape, dtype=self.model.real, device=self.device)
        intensity, transmission = total_intensity(self.probe)[0], squared_modulus(self.object)
        for window in self.model.windows:
            object_light[window] += intensity
            probe_light += transmission[window]
        lights = object_light, probe_light
        if self.options.preconditioner == "none":
            return [1 / lights[0].max()] * 2  # one number for both turns nothing, and keeps powers of t in float32
        if self.options.preconditioner == "scale":
            return [1 / light.max() for light in lights]
        return [1 / (light + self.options.damping * light.max()) for light in lights]

    def look(self, index: slice) -> Look:
        """Some patterns as object and probe are now."""
        probes = self.model.shifted_probes(self.probe, index)
        return Look(index, probes, self.model.forward(probes * self.patches(self.seen, index), index))

    def all_looks(self) -> Iterator[Look]:
        """All patterns as object and probe are now."""
        turns = self.model.ahead(self.chunks)
        return (look for _, look in zip(turns, self.looks, strict=True)) if self.keeps else map(self.look, turns)

    def patches(self, canvas: Windowed, index: slice) -> Tensor:
        """Windows of an object, ``(B, 1, h, w)``."""
        return canvas.at(index)[:, None]

    def masked(self, counts: Tensor) -> Tensor:
        """Expected counts with 0 where the detector is bad, as measured there."""
        return counts if self.model.good is None else counts.mul_(self.model.good)

    def gradients(self, refine_probe: bool) -> tuple[float, list[Tensor]]:
        """Return the squared amplitude error and the gradients with respect to ``O*`` and, where refined, ``P*``."""
        self.pull.array.zero_()
        slope = torch.zeros_like(self.probe)
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        for look in self.all_looks():
            amplitudes = self.model.measured(look.index)
            expected = self.masked(over_modes(real_product(look.waves, look.waves)))
            values, slopes = self.likelihood.terms(expected, amplitudes.square())
            sums += torch.stack([values.sum(), expected.sqrt_().sub_(amplitudes).square_().sum()])
            back = self.model.backward(look.waves * slopes, look.index)
            self.pull.add(over_modes(look.probes.conj_physical().mul(back))[:, 0], look.index)
            if refine_probe:
                back.mul_(self.patches(self.seen, look.index).conj_physical_())
                slope += self.model.shifted_back(back, look.index)
        self.loss, error = sums.tolist()
        gradients = [self.pull.array.clone(), slope] if refine_probe else [self.pull.array.clone()]
        if self.smoothing:
            rough = laplacian(self.object)
            self.loss += self.smoothing * inner([self.object], [rough])
            gradients[0].add_(rough, alpha=self.smoothing)
        return error, gradients

    def conjugate(self, gradients: list[Tensor]) -> list[Tensor]:
        """The direction of Polak & Ribière; steepest descent where that leads up, and where the probe joins."""
        descent = [-gradient * scale for gradient, scale in zip(gradients, self.scales, strict=False)]
        power = -inner(descent, gradients)
        directions = descent
        if self.last is not None and len(gradients) == len(self.last[0]) and self.last[2] > 0:
            before, old, old_power = self.last
            share = max(0.0, (power + inner(descent, before)) / old_power)
            turned = [new + share * last for new, last in zip(descent, old, strict=True)]
            if inner(turned, gradients) < 0:
                directions = turned
        self.last = gradients, directions, power
        return directions

    def lines(self, directions: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the coefficients of the expected counts along a line, and the measured counts."""
        self.turned.array.copy_(directions[0])
        for look in self.all_looks():
            patches = self.patches(self.turned, look.index)
            linear = look.probes * patches
            if len(directions) == 2:
                look.turns = self.model.shifted_probes(directions[1], look.index)
                linear.addcmul_(look.turns, self.patches(self.seen, look.index))
                look.second = self.model.forward(patches.mul(look.turns), look.index)
            look.first = self.model.forward(linear, look.index)
            yield self.masked(polynomial(look.waves, look.first, look.second)), self.model.measured(look.index).square()

    def prior(self, direction: Tensor) -> Tensor:
        """Coefficients ``(3,)`` of the prior along a line."""
        if not self.smoothing:
            return torch.zeros(3, dtype=torch.float64)
        rough, here = laplacian(direction), [self.object]
        parts = inner(here, [laplacian(self.object)]), 2 * inner(here, [rough]), inner([direction], [rough])
        return torch.tensor(parts, dtype=torch.float64) * self.smoothing

    def go(self, directions: list[Tensor], step: float) -> None:
        """Go along a line; kept waves follow without a transform."""
        for field, direction in zip((self.object, self.probe), directions, strict=False):
            field.add_(direction, alpha=step)
        for look in self.looks:
            if look.first is not None:
                look.waves.add_(look.first, alpha=step)
            if look.second is not None:
                look.waves.add_(look.second, alpha=step**2)
            if look.turns is not None and self.model.ramps is not None:  # else the probes are a view of the probe
                look.probes.add_(look.turns, alpha=step)
            look.turns = look.first = look.second = None


def polynomial(waves: Tensor, first: Tensor, second: Tensor | None) -> Tensor:
    """``Σ_m |Ψ + t first + t² second|²`` as coefficients ``(n, B, 1, h, w)`` of powers of ``t``; ``n`` is 3 or 5."""
    products = [real_product(waves, waves), real_product(waves, first).mul_(2), real_product(first, first)]
    if second is not None:
        products[2].add_(real_product(waves, second), alpha=2)
        products += [real_product(first, second).mul_(2), real_product(second, second)]
    return torch.stack([over_modes(product) for product in products])


def laplacian(field: Tensor) -> Tensor:
    """``∇ᵀ∇`` of an object for forward differences inside it: ``Σ |∇O|² = ⟨O, ∇ᵀ∇O⟩``."""
    result = torch.zeros_like(field)
    for axis in (0, 1):
        difference = field.diff(dim=axis)
        result.narrow(axis, 1, difference.shape[axis]).add_(difference)
        result.narrow(axis, 0, difference.shape[axis]).sub_(difference)
    return result


def inner(x: list[Tensor], y: list[Tensor]) -> float:
    """``Re ⟨x, y⟩`` of objects and probes together."""
    return sum(float(torch.vdot(a.flatten(), b.flatten()).real) for a, b in zip(x, y, strict=True))
