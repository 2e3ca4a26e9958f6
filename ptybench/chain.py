"""Chains of methods: the estimate of one starts the next (``epie>rpie``)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ptybench.errors import InvalidOption, UnknownName
from ptybench.registry import ResolvedMethod, option_keys, resolve_method, weights_of
from ptybench.solver import Cost, Solver
from ptybench.types import Estimate, Measurement, Truth

if TYPE_CHECKING:
    import torch


class Chain(Solver):
    """Several methods one after another, each with its share of the budget.

    Args:
        measurement: what all of them see.
        parts: the resolved methods in order.
        shares: shares of the budget, as long as ``parts``.
        device: torch device.
        seed: seed that every part is given.

    """

    def __init__(
        self,
        measurement: Measurement,
        parts: list[ResolvedMethod],
        shares: list[float],
        device: str | torch.device,
        seed: int,
    ) -> None:
        self.measurement, self.parts, self.seed, self.additions = measurement, parts, seed, []
        self.starts = [sum(shares[:i]) / sum(shares) for i in range(len(shares))]
        self.ends = [*self.starts[1:], 1.0]
        self.index, self.spent = 0, Cost()
        self.progress, self.epochs_done, self.converged = 0.0, 0, False
        self.current = parts[0].create(measurement, device, seed, None)
        self.device, self.team = self.current.device, self.current.team

    @property
    def threads(self) -> int:  # type: ignore[override]
        """Those of the part whose turn it is."""
        return self.current.threads

    def epoch(self) -> float:
        """One epoch of the part whose turn it is."""
        last = len(self.parts) - 1
        while self.index < last and (self.progress >= self.ends[self.index] - 1e-9 or self.current.converged):
            self._advance()
        start, end = self.starts[self.index], self.ends[self.index]
        self.current.progress = min(max((self.progress - start) / (end - start), 0.0), 1.0)
        error = self.current.step()
        self.converged = self.index == last and self.current.converged
        return error

    def _advance(self) -> None:
        self.spent = self.cost()
        found = self.current.team.part(self.current.estimate())
        measurement = replace(
            self.measurement,
            initial=found,
            positions_px=found.positions_px,
            distance_m=found.distance_m,
            pixel_size_m=found.pixel_size_m,
        )
        self.index += 1
        self.current = self.parts[self.index].create(measurement, self.device, self.seed, None)

    def estimate(self) -> Estimate:
        """The estimate of the part whose turn it is."""
        return self.current.estimate()

    def cost(self) -> Cost:
        """The cost of all parts so far."""
        now = self.current.cost()
        return Cost(self.spent.ffts + now.ffts, self.spent.network_evaluations + now.network_evaluations)


def resolve_chain(name: str, options: dict[str, Any]) -> ResolvedMethod:
    """Settle a chain ``a>b``; see :func:`ptybench.registry.resolve_method`.

    The option ``shares`` (a list) says how the budget is divided; equal parts without it. A method that stands in the
    chain twice is reached by its place, ``1.alpha`` or ``2.alpha``.
    """
    names = [part.strip() for part in name.split(">")]
    if not all(names):
        raise InvalidOption(f"the chain {name!r} has an empty part: write a>b")
    shares = options.pop("shares", [1.0] * len(names))
    if (
        not isinstance(shares, list)
        or len(shares) != len(names)
        or not all(isinstance(share, int | float) and share > 0 for share in shares)
    ):
        raise InvalidOption(f"shares of {name}: expected {len(names)} positive numbers, got {shares!r}")
    given: list[dict[str, Any]] = [{} for _ in names]
    allowed = [option_keys(part) for part in names]
    for key, value in options.items():
        owner, _, rest = key.partition(".")
        named = [i for i, part in enumerate(names) if owner in (part, str(i + 1)) and rest in allowed[i]]
        bare = rest if named else key
        takers = named or [i for i in range(len(names)) if key in allowed[i]]
        if not takers:
            known = {f"{part}.{option}" for part, own in zip(names, allowed, strict=True) for option in own}
            raise UnknownName(f"option of {name}", key, known | {"shares"})
        for i in takers:
            given[i][bare] = value
    parts = [resolve_method(part, own) for part, own in zip(names, given, strict=True)]
    if any(part.needs_truth for part in parts):
        raise InvalidOption(f"the chain {name!r} holds a control that knows the truth: chain methods only")

    def create(measurement: Measurement, device: str | torch.device, seed: int, truth: Truth | None = None) -> Solver:
        return Chain(measurement, parts, shares, device, seed)

    # written as they can be given, so that a record's options make the same chain again
    settled: dict[str, Any] = {
        f"{place}.{key}": value for place, part in enumerate(parts, 1) for key, value in part.options.items()
    }
    settled["shares"] = [float(share) for share in shares]
    version = ">".join(part.version for part in parts)
    return ResolvedMethod(name, version, settled, False, create, weights_of(*parts))
