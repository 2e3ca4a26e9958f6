"""What an epoch costs against the number of patterns and their size, beside the transforms alone.

    python benchmarks/cost.py --out cost

One thread, complex64, compiled kernels where they are built. Writes cost.json and cost.svg; see docs/performance.md.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent / "peers"))

from floor import best, floors
from history.problems import measurement
from line import run

from ptybench.native import library
from ptybench.registry import resolve_method
from ptybench.runner.provenance import cpu_name, git_commit

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "ePIE": ("epie", {}),
    "rPIE, batch 32": ("rpie", {"batch": 32}),
    "LSQ-ML, batch 32": ("lsqml", {"batch": 32}),
    "DM": ("dm", {}),
}
FLOOR = "two transforms a pattern"
PATTERNS, SIDE = [100, 300, 1000, 3000, 10000], 64
SIDES, COUNT = [64, 96, 128, 192, 256, 384, 512], 100


def epoch_of(method: str, options: dict[str, Any], side: int, patterns: int) -> Callable[[], object]:
    """Return what does an epoch, warm."""
    solver = resolve_method(method, options).create(measurement(side, patterns=patterns), "cpu", 1, None)
    solver.step()
    return solver.step


def costs(points: list[tuple[int, int]]) -> dict[str, list[float]]:
    """Return seconds of an epoch of each method for each side and number of patterns."""
    found: dict[str, list[float]] = {name: [] for name in (FLOOR, *METHODS)}
    for side, patterns in points:
        found[FLOOR].append(min(floors(side, patterns, 1).values()))
        for name, (method, options) in METHODS.items():
            found[name].append(best(epoch_of(method, options, side, patterns)))
            print(f"{name}, {patterns} patterns of {side}²: {found[name][-1] * 1e3:.2f} ms an epoch", file=sys.stderr)
    return found


def power(x: list[float], y: list[float]) -> float:
    """The exponent of the power law through all points."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def draw(document: dict[str, Any], path: Path) -> None:
    """Draw both dependences, with what they should be beside them."""
    import matplotlib.pyplot as plt
    import seaborn as sns

    sns.set_theme(style="whitegrid", palette="colorblind", context="paper")
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained", sharey=True)
    for axis, part, expected, label in (
        (axes[0], "patterns", lambda n: n, f"patterns of {SIDE}² pixels"),
        (axes[1], "sides", lambda n: n**2 * np.log(n), f"side of {COUNT} patterns, pixels"),
    ):
        x = np.array(document[part]["at"], dtype=float)
        for name, seconds in document[part]["seconds"].items():
            line = axis.loglog(x, np.array(seconds) * 1e3, "o-", ms=4, lw=2 if name != FLOOR else 1.2, label=name)
            if name == FLOOR:
                line[0].set(color="0.4", linestyle=":")
        guide = expected(x) / expected(x[0]) * document[part]["seconds"]["ePIE"][0] * 1e3
        axis.loglog(x, guide, "--", color="0.7", label="linear" if part == "patterns" else "N² log N")
        axis.set(xlabel=label)
        axis.set_xticks(x, [f"{value:g}" for value in x])
        axis.minorticks_off()
        axis.legend(frameon=False, fontsize=8)
    axes[0].set(ylabel="epoch, ms")
    figure.savefig(path)
    plt.close(figure)


def command(*, out: Path = Path("cost")) -> int:
    """Time an epoch against the number of patterns and their size.

    Args:
        out: folder of cost.json and cost.svg.

    """
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    by_patterns, by_side = costs([(SIDE, n) for n in PATTERNS]), costs([(n, COUNT) for n in SIDES])
    order = [n**2 * np.log(n) for n in SIDES]
    document = {
        "schema": "ptybench.cost/1",
        "machine": {
            "cpu": cpu_name(),
            "kernels": library.flavour(),
            "torch": torch.__version__,
            "commit": git_commit(),
        },
        "patterns": {
            "at": PATTERNS,
            "seconds": by_patterns,
            "exponent": {name: power([float(n) for n in PATTERNS], seconds) for name, seconds in by_patterns.items()},
        },
        "sides": {
            "at": SIDES,
            "seconds": by_side,
            "exponent_of_n2_log_n": {name: power(order, seconds) for name, seconds in by_side.items()},
        },
    }
    (out / "cost.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    draw(document, out / "cost.svg")
    return 0


if __name__ == "__main__":
    sys.exit(run(command, "cost.py"))
