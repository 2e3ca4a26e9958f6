"""Ptychography by gradients: losses, regularisers, parameters and optimisers combined by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from ptybench.engines import autocorrelation, lost, regularisers
from ptybench.engines.descent import LBFGS, OPTIMISERS, Group, Plateau
from ptybench.engines.gradient import Batch, Differentiable, Gradient, Sampling, Wanted
from ptybench.engines.losses import LOSSES
from ptybench.engines.sequential import batches
from ptybench.engines.setting import Setting, Sight
from ptybench.errors import InvalidOption
from ptybench.solver import Solver, SolverOptions, orthogonal_modes
from ptybench.specs import Tunable
from ptybench.types import Estimate, FloatArray

DARK = 1e-8  # of the mean count, or of a photon if that is more: where slopes of a loss level off
DIM = 0.05  # of the largest dose, below which the curvature of a pixel counts as no smaller
DENSEST = 2.0  # largest dose over its mean, about
SETTLED, RENEWED = 3, 10  # epochs at each of which the dose is reckoned anew, and period of that afterwards
STEEPNESS, STRETCH = 2e-2, 0.1  # of the photons, by which a loss bends along a position and along the distance
SHARP_PX = 0.3  # width below which a Gaussian smooths nothing that pixels show
FLAT = 1e-3  # relative spread below which a start object says nothing
ROUNDING = 1e-6  # by which a share of the budget may miss a multiple and is one
LATE = 0.75  # of the time in which large structures come first, after which patterns look for their places


class AD(Solver):
    """Gradient descent on object, probe, positions and distance together.

    What is descended is a loss of the patterns in a batch (``loss``) and what regularisers add to it; which parameters
    go along, and how, is a matter of options. ``dap`` and ``joint`` are this method with other defaults. Gradients are
    written by hand (:mod:`ptybench.engines.gradient`), so that an epoch costs two transforms of each pattern and mode
    and little else.

    Weights of regularisers are shares of the loss as it is at the time: ``variation = 0.1`` holds ``γ ATV`` at a tenth
    of the data's loss. So all of them fade as the data are fitted, and none moves a truth that fits exactly.
    """

    name = "ad"

    class Options(SolverOptions):
        """What is descended, and how.

        Args:
            loss: of the counts: ``poisson``, ``gaussian`` or ``r``.
            warmup: share of the budget in which the loss is Gaussian.
            optimiser: ``adam``, ``sgd`` or ``lbfgs`` (which takes all patterns at each step).
            object_rate: of the object, whose amplitude is about 1.
            probe_rate: of the probe, in units of its mean amplitude.
            position_rate: of the positions, in pixels; 0 keeps them.
            distance_rate: of the distance, relative; 0 keeps it.
            magnify: whether the distance is refined in the far field, too, where it is but the size of a pixel.
            momentum: decay of the first moment of Adam, or of SGD's momentum.
            memory: decay of the second moment of Adam.
            caution: of Adam: below what error, in steps, steps shrink with the gradient; 0 is plain Adam.
            schedule: how all rates fall: at a ``plateau`` of the loss to a half, by ``decay`` evenly to ``final`` of
                them over the budget, or not at all (``none``).
            patience: epochs of a plateau.
            final: see ``schedule``.
            batch: patterns of a step; of the first steps where it grows.
            growing: whether batches double until they hold all patterns, in equal shares of the budget.
            blur: width of the Gaussian that smooths the object's gradient at first, so that large structures come
                before small ones; it shrinks evenly (not for ``lbfgs``). In standard deviations that are declared of
                the positions' error, or in pixels where none is. 0: none.
            blur_share: share of the budget after which nothing is smoothed any more.
            searches: how often, after every ``blur_share`` of the budget, the object begins again, large structures
                first, without the patterns that fit badly; when it has small ones, these look for their places on it,
                and join. What still fits badly a ``blur_share`` after the last search is left out to the end. Not
                where all fit alike, or positions are not refined or have no declared error; not for ``lbfgs``.
            probe_start: epochs before the probe is updated.
            probe_wait: share of the budget before the probe is updated.
            start: of the object: as ``given``, or where that is flat from ``autocorrelation``s.
            start_probe: of the probe, likewise.
            object_modes: incoherent states of the object.
            sampling: of the object: ``fourier`` shifts the probe, ``bilinear`` interpolates, ``crop`` rounds.
            padding: whether near-field waves are padded so that none of them comes back at the other side.
            variation: weight of the total variation, a share of the loss.
            variation_p: its norm of the two differences.
            variation_q: its power.
            held: whether the share is held (``dynamic``), or the weight after the first epoch (``constant``).
            energy: weight of ``mean |O|²``.
            excess: weight of ``mean max(|O| - limit, 0)²``.
            limit: see ``excess``.
            shortness: weight of the mean correction of positions.
            recentre: whether the probe is moved to its centre after each epoch, and the object with it (far field).
            curvature: whether the mean curvature of the probe's wave is ``held`` at that of the given one, or ``free``
                (near field).
            rescale: whether the object's mean amplitude and the probe's mean phase are set after each epoch.
            phase_range_rad: width of the range of phases about their mean to which the object is clipped; 0: any.

        """

        loss: Literal["poisson", "gaussian", "r"] = "gaussian"
        warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
        optimiser: Literal["adam", "sgd", "lbfgs"] = "adam"
        object_rate: Annotated[float, Field(gt=0, le=2), Tunable(0.003, 0.15, log=True)] = 0.02
        probe_rate: Annotated[float, Field(ge=0, le=2), Tunable(0.003, 0.15, log=True)] = 0.02
        position_rate: Annotated[float, Field(ge=0, le=2)] = 0.0
        distance_rate: Annotated[float, Field(ge=0, le=0.1)] = 0.0
        magnify: bool = False
        momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
        memory: Annotated[float, Field(ge=0, lt=1)] = 0.99
        caution: Annotated[float, Field(ge=0, le=10)] = 0.3
        schedule: Literal["plateau", "decay", "none"] = "decay"
        patience: Annotated[int, Field(ge=1)] = 10
        final: Annotated[float, Field(gt=0, le=1)] = 0.05
        batch: Annotated[int, Field(ge=1), Tunable(choices=(8, 16, 32, 64))] = 16
        growing: bool = False
        blur: Annotated[float, Field(ge=0)] = 0.0
        blur_share: Annotated[float, Field(gt=0, le=1)] = 0.5
        searches: Annotated[int, Field(ge=0, le=10)] = 0
        probe_start: Annotated[int, Field(ge=0)] = 0
        probe_wait: Annotated[float, Field(ge=0, lt=1)] = 0.0
        start: Literal["given", "autocorrelation"] = "given"
        start_probe: Literal["given", "autocorrelation"] = "given"
        object_modes: Annotated[int, Field(ge=1, le=16)] = 1
        sampling: Literal["fourier", "bilinear", "crop"] = "fourier"
        padding: bool = False
        variation: Annotated[float, Field(ge=0, le=10), Tunable(choices=(0.0, 0.01, 0.03, 0.1))] = 0.0
        variation_p: Annotated[float, Field(gt=0, le=4)] = 2.0
        variation_q: Annotated[float, Field(gt=0, le=4)] = 1.0
        held: Literal["dynamic", "constant"] = "dynamic"
        energy: Annotated[float, Field(ge=0)] = 0.0
        excess: Annotated[float, Field(ge=0)] = 0.0
        limit: Annotated[float, Field(gt=0)] = 1.05
        shortness: Annotated[float, Field(ge=0)] = 0.0
        recentre: bool = False
        curvature: Literal["free", "held"] = "free"
        rescale: bool = False
        phase_range_rad: Annotated[float, Field(ge=0)] = 0.0

    def setup(self) -> None:
        """Start, and decide what is refined."""
        o, m = self.options, self.measurement
        self.setting = Setting(m, self.device, self.dtype, o.padding)
        self.zeta = torch.ones(1, 1, dtype=torch.float64)
        self.corrections = torch.zeros(self.model.count, 2, dtype=torch.float64)
        self.moves = o.position_rate > 0 and o.sampling != "crop" and o.subpixel
        self.focuses = o.distance_rate > 0 and (self.setting.near or o.magnify)
        if self.focuses:
            self.setting.refinable()
        if o.optimiser == "lbfgs" and self.moves + self.focuses and not self.setting.near:
            raise InvalidOption("lbfgs does not refine positions or distance in the far field: use adam")
        self._begin()
        self.floor = DARK * max(1.0, self.model.power / self.model.pixels)
        self.sampling: Sampling = o.sampling if o.subpixel else "crop"
        self.losses = {name: Differentiable(self.model, LOSSES[name](self.floor)) for name in {o.loss, "gaussian"}}
        self.slope = torch.zeros_like(self.objects) if o.variation else None
        self.weight: float | None = None
        self.plateau = Plateau(o.patience)
        self.bent = mean_curvature(self.probe)
        self.phase = ""
        self._made_for: tuple[bool, Tensor] | None = None
        self.doubtful: list[int] = []
        self.began, self.looked = 0.0, 0

    def _begin(self) -> None:
        """The first object and probe."""
        o, m = self.options, self.measurement
        if o.start_probe == "autocorrelation" and m.propagation == "far_field" and self.refine_probe:
            self.probe = self.tensor(autocorrelation.probe_start(m, len(self.probe)))
        self._begin_object()

    def _begin_object(self) -> None:
        o, m = self.options, self.measurement
        rng = np.random.default_rng(self.generator.initial_seed())
        given = m.initial.object
        if o.start == "autocorrelation" and m.propagation == "far_field" and given.std() < FLAT * np.abs(given).mean():
            self.object = self.tensor(autocorrelation.object_start(m, rng))
        else:
            self.object = self.tensor(given)
        for mode in self.objects[1:]:  # states that differ from the first as noise does
            noise = rng.standard_normal((2, *m.canvas))
            mode.copy_(self.tensor(0.1 * (noise[0] + 1j * noise[1])))

    @property
    def object(self) -> Tensor:
        """The first state ``(H, W)``, a view."""
        return self.objects[0]

    @object.setter
    def object(self, values: Tensor) -> None:
        if not hasattr(self, "objects"):
            self.objects = values.new_zeros(self.options.object_modes, *values.shape)
        self.objects[0].copy_(values)

    def place(self, positions_px: FloatArray) -> None:
        """Go on with these ``(K, 2)`` positions."""
        super().place(positions_px)
        self.corrections.zero_()

    def refocus(self, distance_m: float) -> None:
        """Go on with this propagation distance (near field)."""
        super().refocus(distance_m)
        self.zeta.fill_(self.setting.of(distance_m))

    @property
    def sight(self) -> Sight:
        """The set-up at the distance as it is now."""
        return self.setting.at(float(self.zeta[0, 0]))

    def places(self, index: list[int] | slice = slice(None)) -> NDArray[np.float64]:
        """Positions ``(B, 2)`` with their corrections in pixels as they are now; a window's middle is physical."""
        nominal: NDArray[np.float64] = self.model.positions_px[index] + self.corrections[index].numpy()
        if not self.focuses or not self.setting.scales:
            return nominal
        middle = np.array(self.model.shape) // 2
        grown: NDArray[np.float64] = (nominal + middle) * self.sight.shrinkage[0] - middle
        return grown

    @torch.no_grad()
    def epoch(self) -> float:
        """Go down batch by batch, in an order that depends on the seed alone."""
        o = self.options
        waiting = self.epochs_done < o.probe_start or self.progress < o.probe_wait
        self.refining = self.refine_probe and o.probe_rate > 0 and not waiting
        phase = "gaussian" if self.progress < o.warmup else o.loss
        if phase != self.phase:
            self.phase, self.weight = phase, None
            self.plateau.restart()
        self.loss = self.losses[phase]
        size = self.model.count if OPTIMISERS[o.optimiser].whole else self.batch_size()
        left_out = self._look_again()
        self._optimise(size)
        self.smoothing = self._smoothing()
        loss = error = 0.0
        pieces = batches([k for k in self.order() if k not in left_out], size)
        # where a batch is more than is fetched at a time, the loss walks through it
        few = len(self.model.runs(pieces[0])) == 1
        for index in self.model.ahead(pieces) if few else pieces:
            found = self.descend(index)
            loss, error = loss + found.loss, error + found.error
        error += sum(self.misfit(pattern) for pattern in left_out)
        self.plateau.tell(loss)
        self.settle()
        return error / self.model.power

    def batch_size(self) -> int:
        """Patterns of a step at this time."""
        o, count = self.options, self.model.count
        if not o.growing:
            return min(int(o.batch), count)
        stages = max(0, math.ceil(math.log2(count / o.batch))) + 1
        return min(int(o.batch * 2 ** int(self.progress * stages)), count)

    @property
    def share(self) -> float:
        """The share of their rates that steps take at this time."""
        schedule = self.options.schedule
        if schedule == "decay":
            return float(self.options.final**self.progress)
        return self.plateau.share if schedule == "plateau" else 1.0

    def _optimise(self, size: int) -> None:
        """Make the optimiser anew for a probe that joins or was changed from outside, and tell it of the batch."""
        o = self.options
        if self._made_for is None or self._made_for[0] != self.refining or self._made_for[1] is not self.probe:
            self._made_for = self.refining, self.probe
            groups = [Group("object", self.objects, o.object_rate)]
            if self.refining:
                groups.append(Group("probe", self.probe, o.probe_rate))
            if self.moves:
                groups.append(Group("positions", self.corrections, o.position_rate))
            if self.focuses:
                groups.append(Group("distance", self.zeta, o.distance_rate))
            self.optimiser = OPTIMISERS[o.optimiser](groups, o.momentum, o.memory, o.caution)
        light = (self.probe * self.probe.conj()).real.sum(dim=0)
        largest, power = float(light.max()), float(light.sum())
        extent = np.ptp(self.model.positions_px, axis=0) + np.sqrt(power / largest)
        bends = {
            "object": 2 * max(largest, DENSEST * size * power / float(np.prod(extent))),
            "probe": 2 * size * float(self.objects.abs().square().sum(dim=0).mean()),
            "positions": STEEPNESS * power,
            "distance": STRETCH * size * power,
        }
        if o.caution and o.optimiser == "adam" and (self.epochs_done < SETTLED or self.epochs_done % RENEWED == 0):
            self._weigh(light)
        for group in self.optimiser.groups:
            group.bend = bends[group.name]
            if group.name == "probe":
                group.unit = float(light.sqrt().mean())

    def _look_again(self) -> list[int]:
        """The patterns that are left out at this time; when a search is over they look for their places."""
        o, deviation = self.options, self.measurement.position_error_px
        due = int(self.progress / o.blur_share + ROUNDING)
        if not (due and o.searches and self.moves and deviation) or o.optimiser == "lbfgs":
            return []
        searching = due <= o.searches
        if due > self.looked:
            self.looked = due
            self.doubtful = lost.doubtful(np.array([self.misfit(k) for k in range(self.model.count)]))
            if self.doubtful and searching:
                self.began, self._made_for = due * o.blur_share, None
                self._begin_object()
        if self.doubtful and searching and self.progress >= self.began + LATE * o.blur_share:
            for pattern in self.doubtful:
                correction, share = self.sought(pattern, deviation)
                if share < lost.EXPLAINED:
                    self.corrections[pattern] = correction
            self.doubtful = []
        return self.doubtful

    def sought(self, pattern: int, deviation_px: float) -> tuple[Tensor, float]:
        """The correction in pixels at which a pattern fits best, and its error there over that with an empty object."""
        tries = [self.corrections[pattern].clone(), *torch.as_tensor(lost.shifts(deviation_px))]
        errors = [self.misfit(pattern, one) for one in tries]
        best = int(np.argmin(errors))
        empty = self.misfit(pattern, tries[best], float(self.objects.abs().square().mean().sqrt()))
        return tries[best], errors[best] / empty

    def misfit(self, pattern: int, correction: Tensor | None = None, filled: float | None = None) -> float:
        """The data error of a pattern: where it is, or with another correction; of the object, or one that is even."""
        kept = self.corrections[pattern].clone()
        if correction is not None:
            self.corrections[pattern] = correction
        places = self.places([pattern])
        self.corrections[pattern] = kept
        objects = self.objects if filled is None else torch.full_like(self.objects, filled)
        wanted = Wanted(probe=False)
        return self.loss(Batch([pattern], objects, self.probe, places, self.sight, self.sampling, wanted)).error

    def _smoothing(self) -> Tensor | None:
        """The Gaussian ``(H, W)`` by which the spectrum of the object's gradient is multiplied; none where it is 1."""
        o = self.options
        shown = (self.progress - self.began) / o.blur_share
        width = o.blur * (self.measurement.position_error_px or 1.0) * (1 - shown)
        if width < SHARP_PX:
            return None
        y, x = (
            torch.exp(-2 * (math.pi * width * torch.fft.fftfreq(n, dtype=self.model.real, device=self.device)) ** 2)
            for n in self.model.canvas
        )
        return y[:, None] * x

    def _weigh(self, light: Tensor) -> None:
        """Tell Adam how the loss bends at every pixel of the object: as the dose."""
        dose = torch.zeros(self.model.canvas, dtype=self.model.real, device=self.device)
        for window in self.model.windows:
            dose[window] += light
        largest = float(dose.max())
        self.optimiser.groups[0].bends = (dose[None] / largest).clamp_min_(DIM)

    def descend(self, index: list[int]) -> Gradient:
        """One step."""
        if isinstance(self.optimiser, LBFGS):
            kept: list[Gradient] = []

            def closure() -> tuple[float, list[Tensor]]:
                found = self.gradient(index)
                gradients, more = self.gradients(found, index)
                kept.append(found)
                return found.loss + more, gradients

            self.optimiser.descend(closure)
            return kept[0]
        found = self.gradient(index)
        gradients, _ = self.gradients(found, index)
        if self.smoothing is not None:
            gradients[0] = torch.fft.ifft2(torch.fft.fft2(gradients[0]) * self.smoothing)
        self._step(index, gradients)
        return found

    def _step(self, index: list[int], gradients: list[Tensor]) -> None:
        """Step all groups; of the positions those of a batch."""
        if not self.moves:
            self.optimiser.step(gradients, self.share)
            return
        rows = self.optimiser.groups.pop(place := 1 + self.refining)
        pull = gradients.pop(place)
        self.optimiser.step(gradients, self.share)
        self.optimiser.groups.insert(place, rows)
        self.optimiser.rows(torch.as_tensor(index), rows, pull[index], self.share)

    def gradient(self, index: list[int]) -> Gradient:
        """Loss and gradient of the data alone."""
        moves, focuses = self.moves or (self.focuses and self.setting.scales), self.focuses and self.setting.near
        wanted = Wanted(self.refining, moves, focuses)
        places, sight = self.places(index), self.sight
        return self.loss(Batch(index, self.objects, self.probe, places, sight, self.sampling, wanted))

    def gradients(self, found: Gradient, index: list[int]) -> tuple[list[Tensor], float]:
        """Gradients of the groups with all that is added to the loss, and the value of that."""
        o, more = self.options, 0.0
        if self.slope is not None:
            value = regularisers.variation(self.objects, o.variation_p, o.variation_q, self.slope)
            weight = o.variation * found.loss / value
            if o.held == "constant":
                if self.weight is None and self.epochs_done > 0:
                    self.weight = weight / len(index)
                weight = weight if self.weight is None else self.weight * len(index)
            found.object.add_(self.slope, alpha=weight)
            more += weight * value
        for share, term in ((o.energy, regularisers.energy), (o.excess, lambda x: regularisers.beyond(x, o.limit))):
            if share:
                value, slope = term(self.objects)
                found.object.add_(slope, alpha=share * found.loss)
                more += share * found.loss * value
        gradients = [found.object]
        if self.refining:
            gradients.append(found.probe)
        sight = self.sight
        scales = self.focuses and self.setting.scales
        if self.moves:
            pull = torch.zeros_like(self.corrections)
            pull[index] = torch.as_tensor(found.positions) * (sight.shrinkage[0] if scales else 1.0)
            if o.shortness:
                value, slope = regularisers.length(self.corrections[index])
                pull[index] += o.shortness * found.loss * slope
                more += o.shortness * found.loss * value
            gradients.append(pull)
        if self.focuses:
            slope_z = found.distance
            if scales:
                middle = np.array(self.model.shape) // 2
                physical = (self.places(index) + middle) / sight.shrinkage[0]
                slope_z += float((found.positions * physical).sum()) * sight.shrinkage[1]
            gradients.append(torch.full_like(self.zeta, slope_z))
        return gradients, more

    def settle(self) -> None:
        """Choose the gauge after an epoch; the optimiser's moments follow."""
        o = self.options
        if self.refining and o.recentre and not self.setting.near:
            self._recentre()
        if self.refining and o.curvature == "held" and self.setting.near:
            y, x = middle_coordinates(self.probe)
            self.probe.mul_(torch.exp(-1j * (mean_curvature(self.probe) - self.bent) * (y**2 + x**2)))
        if self.refining and o.rescale:
            first = self.probe[0]
            # the phase of several modes is a matter of how they are mixed
            turn = complex(torch.exp(1j * (first * first.abs()).sum().angle())) if len(self.probe) == 1 else 1.0
            middle = [slice(int(a), max(int(b), int(a) + 1)) for a, b in zip(*self._middles(), strict=True)]
            size = float(self.objects[:, middle[0], middle[1]].abs().square().sum(dim=0).sqrt().mean())
            self._transform(lambda x: x, turn / size)
        if o.phase_range_rad:
            for mode in self.objects:
                mean = torch.exp(1j * mode.mean().angle())
                phase = (mode / mean).angle()
                half = o.phase_range_rad / 2
                mode.copy_(torch.polar(mode.abs(), phase.clamp(-half, half)) * mean)

    def _middles(self) -> tuple[FloatArray, FloatArray]:
        """First and last middle of a window."""
        middles = self.model.positions_px + np.array(self.model.shape) / 2
        return middles.min(axis=0), middles.max(axis=0)

    def _recentre(self) -> None:
        """Move the probe by whole pixels so that its centre of mass is the window's middle, and the object with it."""
        light = (self.probe * self.probe.conj()).real.sum(dim=0)
        shifts = []
        for axis, n in enumerate(self.model.shape):
            angle = 2 * math.pi * torch.arange(n, device=self.device) / n
            # the centre on a circle, as the window has no edge for a shift
            sums = light.sum(dim=1 - axis).to(self.dtype)
            centre = float((sums * torch.exp(1j * angle)).sum().angle()) * n / (2 * math.pi)
            shifts.append(round((n // 2 - centre + n / 2) % n - n / 2))
        if any(shifts):
            turn = shifts[0], shifts[1]
            self._transform(lambda x: x.roll(turn, dims=(-2, -1)), 1.0)

    def _transform(self, change: Callable[[Tensor], Tensor], factor: complex) -> None:
        """Permute object and probe alike, and multiply them by a factor and by its inverse."""
        self.objects.copy_(change(self.objects) * factor)
        self.probe.copy_(change(self.probe) / factor)
        for group in self.optimiser.groups:
            if group.name in ("object", "probe"):
                self.optimiser.transform(group, change, factor if group.name == "object" else 1 / factor)

    def estimate(self) -> Estimate:
        """What has been found so far; of several states of the object the strongest."""
        found = super().estimate()
        states = self.objects.cpu().numpy()
        strongest = states[0] if len(states) == 1 else orthogonal_modes(states)[0]
        sight = self.sight
        return Estimate(
            object=strongest.astype(np.complex64),
            probe=found.probe,
            positions_px=self.places(),
            pixel_size_m=sight.pixel_m if self.focuses else found.pixel_size_m,
            distance_m=sight.distance_m if self.focuses else found.distance_m,
        )


def middle_coordinates(probe: Tensor) -> tuple[Tensor, Tensor]:
    """Rows ``(h, 1)`` and columns ``(1, w)`` of a probe ``(M, h, w)``, counted from the window's middle."""
    y, x = (torch.arange(n, dtype=probe.real.dtype, device=probe.device) - n // 2 for n in probe.shape[-2:])
    return y[:, None], x[None, :]


def mean_curvature(probe: Tensor) -> float:
    """``κ = Σ Im(P* r·∇P) / 2 Σ r² |P|²`` of modes ``(M, h, w)``: a factor ``e^{iκr²}`` more raises it by ``κ``."""
    y, x = middle_coordinates(probe)
    spectrum = torch.fft.fft2(probe)
    fy, fx = (torch.fft.fftfreq(n, dtype=y.dtype, device=y.device) for n in probe.shape[-2:])
    slopes = (torch.fft.ifft2(2j * math.pi * f * spectrum) for f in (fy[:, None], fx))
    pull = sum((probe.conj() * r * slope).imag.sum() for r, slope in zip((y, x), slopes, strict=True))
    return float(pull / (2 * ((y**2 + x**2) * (probe * probe.conj()).real).sum()))
