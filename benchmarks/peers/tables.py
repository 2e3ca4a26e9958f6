"""What a comparison says: mean and spread over seeds, paired differences, and whether they are more than chance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from cells import OURS, Result, title
from scipy import stats

from ptybench.readable import EMPTY

METRICS = ("cpcc_abs", "frc_truth_area", "r_factor")


LEVEL = 0.99
#: Seed by seed, the values of ours and of theirs, one a visiting order.
Pairs: TypeAlias = Sequence[tuple[Sequence[float], Sequence[float]]]


@dataclass(frozen=True)
class Line:
    """One peer's method beside ours, by one metric.

    A seed's value is the mean over visiting orders.

    Args:
        method: name of the method.
        peer: who is compared.
        positions: ``"exact"`` or ``"rounded"``, for both.
        metric: id of the metric.
        ours: mean over seeds.
        ours_spread: standard deviation over seeds.
        theirs: mean over seeds.
        theirs_spread: standard deviation over seeds.
        difference: mean over seeds of theirs − ours.
        chance: how large ``difference`` gets where two programs do the same in different orders, see :func:`chance`.
        verdict: see :func:`judge`.

    """

    method: str
    peer: str
    positions: str
    metric: str
    ours: float
    ours_spread: float
    theirs: float
    theirs_spread: float
    difference: float
    chance: float | None
    verdict: str


def compare(results: Iterable[Result], peers: Sequence[str], positions: dict[str, str]) -> list[Line]:
    """Return a line for every method, peer and metric that both have.

    Args:
        results: finished cells.
        peers: names of the peers.
        positions: peer → which positions it was given.

    """
    results = list(results)
    methods = list(dict.fromkeys(result.method for result in results))
    lines = []
    for method in methods:
        for peer in peers:
            for metric in METRICS:
                ours = _by_seed(results, OURS, method, positions[peer], metric)
                theirs = _by_seed(results, peer, method, positions[peer], metric)
                if both := sorted(set(ours) & set(theirs)):
                    pairs = [(ours[seed], theirs[seed]) for seed in both]
                    lines.append(_line(method, peer, positions[peer], metric, pairs))
    return lines


def _by_seed(results: list[Result], program: str, method: str, positions: str, metric: str) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for result in results:
        value = result.metrics.get(metric)
        if (result.program, result.method, result.positions) == (program, method, positions) and value is not None:
            found.setdefault(result.seed, []).append(value)
    return found


def _line(method: str, peer: str, positions: str, metric: str, pairs: Pairs) -> Line:
    ours, theirs = (np.array([np.mean(pair[side]) for pair in pairs]) for side in (0, 1))
    difference, spread, by_chance = float(np.mean(theirs - ours)), _spread(ours), chance(pairs)
    return Line(
        method=method,
        peer=peer,
        positions=positions,
        metric=metric,
        ours=float(ours.mean()),
        ours_spread=spread,
        theirs=float(theirs.mean()),
        theirs_spread=_spread(theirs),
        difference=difference,
        chance=by_chance,
        verdict=judge(difference, spread, by_chance),
    )


def _spread(values: np.ndarray) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def chance(pairs: Pairs) -> float | None:
    """Return how far from 0 the mean difference comes by visiting orders alone, in 99 of 100 comparisons.

    The variance over orders of one measurement is pooled over both programs and all seeds; the bound is Student's
    ``t σ √(Σ_s (1/n_s + 1/m_s)) / S`` for ``n_s`` and ``m_s`` orders of ``S`` seeds. ``None`` where nobody has two.
    """
    groups = [values for pair in pairs for values in pair]
    freedom = sum(len(values) - 1 for values in groups)
    if freedom == 0:
        return None
    squares = sum(float(np.sum((np.array(values) - np.mean(values)) ** 2)) for values in groups)
    error = np.sqrt(squares / freedom * sum(1 / len(values) for values in groups)) / len(pairs)
    return float(stats.t.ppf((1 + LEVEL) / 2, freedom) * error)


def judge(difference: float, spread: float, by_chance: float | None) -> str:
    """Return whether a mean difference is more than chance.

    - ``same``: no more than visiting orders make (:func:`chance`);
    - ``within``: no more than the standard deviation of ours over seeds;
    - ``differs``: more.
    """
    if by_chance is not None and abs(difference) <= by_chance:
        return "same"
    return "within" if abs(difference) <= spread else "differs"


def markdown(lines: Sequence[Line]) -> str:
    """Return the lines as a table."""
    head = (
        "| method | peer | positions | metric | ptybench | peer | difference | by chance | |",
        "|:--|:--|:--|:--|--:|--:|--:|--:|:--|",
    )
    rows = [
        f"| {line.method} | {title(line.peer)} | {line.positions} | {line.metric} | "
        f"{line.ours:.4f} ± {line.ours_spread:.4f} | {line.theirs:.4f} ± {line.theirs_spread:.4f} | "
        f"{line.difference:+.4f} | {EMPTY if line.chance is None else f'{line.chance:.4f}'} | {line.verdict} |"
        for line in lines
    ]
    return "\n".join([*head, *rows])
