"""What a comparison says: mean and spread over seeds, paired differences, and whether they are more than chance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from cells import OURS, Result, title

from ptybench.readable import EMPTY, number

METRICS = ("cpcc_abs", "frc_truth_area", "r_factor")


@dataclass(frozen=True)
class Line:
    """One peer's method beside ours, by one metric.

    A seed's value of ours is the mean over visiting orders.

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
        largest: the largest difference of one seed, with its sign.
        orders: standard deviation of ours over visiting orders of one measurement, pooled; ``None`` for one order.
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
    largest: float
    orders: float | None
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


def _line(method: str, peer: str, positions: str, metric: str, pairs: list[tuple[list[float], list[float]]]) -> Line:
    ours = np.array([np.mean(values) for values, _ in pairs])
    theirs = np.array([np.mean(values) for _, values in pairs])
    differences = theirs - ours
    repeated = [np.var(values, ddof=1) for values, _ in pairs if len(values) > 1]
    orders = float(np.sqrt(np.mean(repeated))) if repeated else None
    spread = float(np.std(ours, ddof=1)) if len(ours) > 1 else 0.0
    return Line(
        method=method,
        peer=peer,
        positions=positions,
        metric=metric,
        ours=float(ours.mean()),
        ours_spread=spread,
        theirs=float(theirs.mean()),
        theirs_spread=float(np.std(theirs, ddof=1)) if len(theirs) > 1 else 0.0,
        difference=float(differences.mean()),
        largest=float(differences[np.abs(differences).argmax()]),
        orders=orders,
        verdict=judge(differences, spread, orders),
    )


def judge(differences: np.ndarray, spread: float, orders: float | None) -> str:
    """Return whether differences ``(S,)`` of paired seeds are more than chance.

    - ``same``: no seed differs by more than three standard deviations of ours over visiting orders;
    - ``within``: the mean difference is below the standard deviation of ours over seeds;
    - ``differs``: it is not.
    """
    if orders is not None and np.abs(differences).max() <= 3 * orders:
        return "same"
    return "within" if abs(differences.mean()) <= spread else "differs"


def markdown(lines: Sequence[Line]) -> str:
    """Return the lines as a table."""
    head = (
        "| method | peer | positions | metric | ptybench | peer | peer − ptybench | largest | orders | |",
        "|:--|:--|:--|:--|--:|--:|--:|--:|--:|:--|",
    )
    rows = [
        f"| {line.method} | {title(line.peer)} | {line.positions} | {line.metric} | "
        f"{line.ours:.4f} ± {line.ours_spread:.4f} | {line.theirs:.4f} ± {line.theirs_spread:.4f} | "
        f"{line.difference:+.1e} | {line.largest:+.1e} | "
        f"{EMPTY if line.orders is None else number(line.orders, 2)} | {line.verdict} |"
        for line in lines
    ]
    return "\n".join([*head, *rows])
