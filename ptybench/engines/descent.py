"""Optimisers of gradient methods, by name, and how their rates fall.

Every parameter is a :class:`Group`: a tensor with its gradient, its rate and two natural sizes, by which rates and
thresholds are numbers without units: ``unit``, the size of the parameter, and ``bend``, the curvature of the loss along
it. A gradient ``g`` is small or large against ``bend · unit``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ptybench.native import gradients as native

LEAST_QUIET = 1e-8  # of a parameter's unit: the error whose gradient Adam no longer sees, whatever the caution


@dataclass
class Group:
    """A parameter of a gradient method.

    Args:
        name: what it is.
        values: ``(modes, ...)``; where complex, Adam takes all modes of a pixel together. Changed in place.
        rate: of its steps, in ``unit``s (Adam) or of the way down (SGD).
        unit: size of the parameter.
        bend: curvature of the loss of one batch along it.
        bends: ``(1, ...)``, that of every pixel in units of ``bend``; ``None`` where they are alike.

    """

    name: str
    values: Tensor
    rate: float
    unit: float = 1.0
    bend: float = 1.0
    bends: Tensor | None = None


Closure = Callable[[], tuple[float, list[Tensor]]]


class Optimiser(ABC):
    """Steps of some groups together.

    Args:
        groups: the parameters.
        beta1: decay of the first moment of Adam, or momentum of SGD.
        beta2: decay of the second moment.
        caution: of Adam, see there.

    """

    whole = False  # whether it needs the loss of all patterns at every step

    def __init__(self, groups: list[Group], beta1: float, beta2: float, caution: float = 0.0) -> None:
        self.groups, self.beta1, self.beta2, self.caution = groups, beta1, beta2, caution

    @abstractmethod
    def step(self, gradients: list[Tensor], share: float) -> None:
        """One step of every group against its gradient, its rate times ``share``."""

    def rows(self, index: Tensor, group: Group, gradient: Tensor, share: float) -> None:
        """A step of some rows of a group, whose other rows have no gradient."""
        raise NotImplementedError

    def transform(  # noqa: B027 - without moments there is nothing to follow
        self, group: Group, change: Callable[[Tensor], Tensor], factor: complex
    ) -> None:
        """Follow a parameter that was permuted by ``change`` and multiplied by ``factor``, which no loss sees.

        Gradients are permuted alike and multiplied by ``1 / factor*``.
        """


class Adam(Optimiser):
    """Adam (Kingma & Ba 2015, arXiv:1412.6980) with one second moment ``Σ_m |g_m|²`` for the modes of a pixel.

    torch's has one each for real and imaginary part, so that its steps depend on the global phase, and one for every
    mode, so that they depend on how the modes are mixed. And its ``ε`` is a bare 1e-8, so that steps have the length of
    the rate however near the minimum is, and go round it. Here ``ε`` is the gradient of an error as long as ``caution``
    steps: below it a step is ``1 / caution`` of that to the minimum of the parabola, which momentum damps; so a truth
    that fits is left alone. ``caution = 0`` is plain Adam.
    """

    def __init__(self, groups: list[Group], beta1: float, beta2: float, caution: float = 0.0) -> None:
        super().__init__(groups, beta1, beta2, caution)
        self.first = {group.name: torch.zeros_like(group.values) for group in groups}
        self.second = {group.name: torch.zeros_like(second_of(group.values)) for group in groups}
        self.steps = {group.name: torch.zeros(len(group.values), dtype=torch.long) for group in groups}

    def _lengths(self, group: Group, share: float) -> tuple[float, float]:
        """The length of a full step, and ``ε``."""
        quiet = max(self.caution * share * group.rate, LEAST_QUIET)
        return share * group.rate * group.unit, quiet * group.bend * group.unit

    def step(self, gradients: list[Tensor], share: float) -> None:
        """See :class:`Optimiser`."""
        for group, gradient in zip(self.groups, gradients, strict=True):
            count = int(self.steps[group.name][0]) + 1
            self.steps[group.name] += 1
            first, second = self.first[group.name], self.second[group.name]
            turn, spread = 1 / (1 - self.beta1**count), 1 / (1 - self.beta2**count)
            rate, epsilon = self._lengths(group, share)
            if native.serves(group.values):
                constants = (rate, self.beta1, self.beta2, turn, spread, epsilon)
                native.adam(group.values, gradient.contiguous(), first, second, group.bends, constants)
                continue
            first.lerp_(gradient, 1 - self.beta1)
            second.lerp_(power(gradient), 1 - self.beta2)
            quiet = epsilon if group.bends is None else epsilon * group.bends
            group.values.sub_(first * (rate * turn / ((spread * second).sqrt() + quiet)))

    def rows(self, index: Tensor, group: Group, gradient: Tensor, share: float) -> None:
        """See :class:`Optimiser`; every row has moments and a count of its own."""
        first, second, steps = (moment[group.name] for moment in (self.first, self.second, self.steps))
        steps[index] += 1
        count = steps[index].to(gradient.dtype)[:, None]
        first[index] = first[index].lerp(gradient, 1 - self.beta1)
        second[index] = second[index].lerp(gradient.square(), 1 - self.beta2)
        turned, spread = first[index] / (1 - self.beta1**count), second[index] / (1 - self.beta2**count)
        rate, epsilon = self._lengths(group, share)
        group.values[index] -= rate * turned / (spread.sqrt() + epsilon)

    def transform(self, group: Group, change: Callable[[Tensor], Tensor], factor: complex) -> None:
        """See :class:`Optimiser`."""
        self.first[group.name] = (change(self.first[group.name]) / complex(factor).conjugate()).contiguous()
        self.second[group.name] = (change(self.second[group.name]) / abs(factor) ** 2).contiguous()


class SGD(Optimiser):
    """Gradient descent with momentum: a rate of 1 goes to the minimum of a parabola with the curvature ``bend``."""

    def __init__(self, groups: list[Group], beta1: float, beta2: float, caution: float = 0.0) -> None:
        super().__init__(groups, beta1, beta2, caution)
        self.first = {group.name: torch.zeros_like(group.values) for group in groups}

    def step(self, gradients: list[Tensor], share: float) -> None:
        """See :class:`Optimiser`."""
        for group, gradient in zip(self.groups, gradients, strict=True):
            first = self.first[group.name].mul_(self.beta1).add_(gradient)
            group.values.sub_(first, alpha=share * group.rate / group.bend)

    def rows(self, index: Tensor, group: Group, gradient: Tensor, share: float) -> None:
        """See :class:`Optimiser`."""
        first = self.first[group.name]
        first[index] = self.beta1 * first[index] + gradient
        group.values[index] -= share * group.rate / group.bend * first[index]

    def transform(self, group: Group, change: Callable[[Tensor], Tensor], factor: complex) -> None:
        """See :class:`Optimiser`."""
        self.first[group.name] = change(self.first[group.name]) / complex(factor).conjugate()


class LBFGS(Optimiser):
    """Limited-memory BFGS with a strong Wolfe search (torch's), on parameters scaled to one curvature.

    A step is several passes over all patterns, which are counted.
    """

    whole = True

    def __init__(self, groups: list[Group], beta1: float, beta2: float, caution: float = 0.0) -> None:
        super().__init__(groups, beta1, beta2, caution)
        self.scaled: list[Tensor] = []
        self.left: list[Tensor] = []

    def restart(self) -> None:
        """Begin where the parameters are, without memory of the curvature."""
        self.roots = [group.bend**0.5 for group in self.groups]
        self.scaled = [as_real(group.values * root) for group, root in zip(self.groups, self.roots, strict=True)]
        self.torchs = torch.optim.LBFGS(self.scaled, max_iter=1, history_size=10, line_search_fn="strong_wolfe")

    def descend(self, closure: Closure) -> float:
        """One step; returns the loss before it."""
        values = [group.values for group in self.groups]
        if not self.left or not all(map(torch.equal, self.left, values)):  # changed from outside
            self.restart()

        def evaluate() -> float:
            self._unscale()
            loss, gradients = closure()
            for root, scaled, gradient in zip(self.roots, self.scaled, gradients, strict=True):
                scaled.grad = as_real(gradient / root).clone()
            return loss

        loss = float(self.torchs.step(evaluate))  # type: ignore[no-untyped-call]
        self._unscale()
        self.left = [group.values.clone() for group in self.groups]
        return loss

    def _unscale(self) -> None:
        for group, scaled, root in zip(self.groups, self.scaled, self.roots, strict=True):
            values = torch.view_as_complex(scaled) if group.values.is_complex() else scaled
            group.values.copy_(values / root)

    def step(self, gradients: list[Tensor], share: float) -> None:
        """Not this way: see :meth:`descend`."""
        raise NotImplementedError


OPTIMISERS: dict[str, type[Optimiser]] = {"adam": Adam, "sgd": SGD, "lbfgs": LBFGS}


class Plateau:
    """The share of their rates that steps take: halved after some epochs without a lower loss.

    Args:
        patience: epochs without a loss lower by a thousandth.
        factor: what the share is multiplied by.
        least: smallest share.

    """

    def __init__(self, patience: int, factor: float = 0.5, least: float = 0.01) -> None:
        self.patience, self.factor, self.least = patience, factor, least
        self.share = 1.0
        self.restart()

    def restart(self) -> None:
        """Begin anew where the loss has become another."""
        self.lowest, self.since = float("inf"), 0

    def tell(self, loss: float) -> None:
        """An epoch's loss."""
        if loss < self.lowest * (1 - 1e-3):
            self.lowest, self.since = loss, 0
            return
        self.since += 1
        if self.since > self.patience:
            self.share, self.since = max(self.share * self.factor, self.least), 0


def second_of(values: Tensor) -> Tensor:
    """Where second moments stand: of complex modes one for a pixel."""
    return values[:1].real.contiguous() if values.is_complex() else values


def power(gradient: Tensor) -> Tensor:
    """``Σ_m |g_m|²`` of complex modes ``(1, ...)``, ``g²`` of real numbers."""
    if not gradient.is_complex():
        return gradient.square()
    return (gradient * gradient.conj()).real.sum(dim=0, keepdim=True)


def as_real(values: Tensor) -> Tensor:
    """A real view of numbers that may be complex."""
    return torch.view_as_real(values) if values.is_complex() else values
