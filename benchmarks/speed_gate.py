"""What asv measured of two commits, in one line: ``speed_gate.py BASE HEAD``, after ``asv continuous``.

The rule is that of the quality gate (:mod:`ptybench.leaderboard.verdicts`). What is tested is whether the head takes
more than ``--factor`` times as long as the base, by the Mann-Whitney test on asv's samples, corrected for the number of
benchmarks. Memory, of which there is one number, is compared as it is. Needs no asv, only its results.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scipy import stats

from ptybench.leaderboard.statistics import holm
from ptybench.leaderboard.verdicts import Verdict, overall, summary, verdict_of

ROOT = Path(__file__).resolve().parents[1]
FACTOR = 1.25


@dataclass(frozen=True)
class Measured:
    """One benchmark at one commit.

    Args:
        value: seconds or bytes; ``None`` where it failed, NaN where it was skipped.
        samples: seconds, where there are any.

    """

    value: float | None
    samples: Sequence[float] = ()


@dataclass(frozen=True)
class Compared:
    """One benchmark at two commits; p-values are ``None`` where there is nothing to test."""

    name: str
    verdict: Verdict
    why: str
    worse: float | None = None
    fine: float | None = None


def compare(base: Mapping[str, Measured], head: Mapping[str, Measured], factor: float = FACTOR) -> list[Compared]:
    """Compare all benchmarks of two commits.

    Args:
        base: name with parameters → what was measured before.
        head: the same of the commit that is judged.
        factor: how many times as long, or as much, is tolerated; above 1.

    """
    names = sorted({*base, *head})
    found = [one for name in names if (one := _compared(name, base.get(name), head.get(name), factor)) is not None]
    corrected = iter(holm([one.worse for one in found if one.worse is not None]))
    return [one if one.worse is None else _judged(one, next(corrected)) for one in found]


def _compared(name: str, base: Measured | None, head: Measured | None, factor: float) -> Compared | None:
    """One comparison, whose p-value is not corrected yet; ``None`` where both have been skipped."""
    before, now = (math.nan if side is None else side.value for side in (base, head))
    if before is None or now is None:
        lost = now is None and before is not None and math.isfinite(before)
        return Compared(name, Verdict.REGRESSED if lost else Verdict.NO_DATA, "fails now" if lost else "fails")
    if math.isnan(before) or math.isnan(now):
        if math.isnan(before) and math.isnan(now):
            return None
        return Compared(name, Verdict.NO_DATA, f"not measured in the {'base' if math.isnan(before) else 'head'}")
    assert base is not None
    assert head is not None
    ratio = now / before if before else math.inf if now else 1.0
    why = f"{ratio:.2f} times the base"
    if min(len(base.samples), len(head.samples)) < 2:
        if name.partition("(")[0].rpartition(".")[2].startswith("time_"):
            return Compared(name, Verdict.NOISY, f"{why}, of one sample each")
        return Compared(name, Verdict.REGRESSED if ratio > factor else Verdict.OK, why)
    tolerated = [factor * sample for sample in base.samples]
    worse, fine = (
        float(stats.mannwhitneyu(head.samples, tolerated, alternative=side).pvalue) for side in ("greater", "less")
    )
    return Compared(name, Verdict.NO_DATA, why, worse, fine)


def _judged(one: Compared, worse: float) -> Compared:
    assert one.fine is not None
    verdict = verdict_of(worse, one.fine)
    shown = "" if verdict == Verdict.NOISY else f", p = {one.fine if verdict == Verdict.OK else worse:.2g}"
    return replace(one, verdict=verdict, worse=worse, why=one.why + shown)


def read_results(folder: Path, commit: str) -> dict[str, Measured]:
    """Return what asv measured of a commit, on whatever machine, by the name of machine and benchmark."""
    found: dict[str, Measured] = {}
    for path in sorted(folder.glob(f"*/{commit[:8]}-*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        if document.get("commit_hash") != commit:
            continue
        for name, row in document["results"].items():
            columns = dict(zip(document["result_columns"], row, strict=False))
            found |= {f"{path.parent.name}: {full}": one for full, one in _unrolled(name, columns)}
    return found


def _unrolled(name: str, columns: Mapping[str, Any]) -> list[tuple[str, Measured]]:
    """One benchmark with all its parameters; asv writes nothing at all where everything failed."""
    combinations = list(itertools.product(*columns.get("params") or []))
    values = columns.get("result") or [None] * len(combinations)
    samples = columns.get("samples") or [None] * len(combinations)
    return [
        (f"{name}({', '.join(combination)})" if combination else name, Measured(value, tuple(drawn or ())))
        for combination, value, drawn in zip(combinations, values, samples, strict=True)
    ]


def commit_of(name: str) -> str:
    """Return the full hash of a commit."""
    words = ["git", "-C", str(ROOT), "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"speed_gate: expected a commit of this repository, got {name!r}")
    return done.stdout.strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("base", help="the commit that was there before")
    parser.add_argument("head", help="the commit that is judged")
    parser.add_argument("--factor", type=float, default=FACTOR, help="how many times as long is tolerated")
    parser.add_argument("--results", type=Path, default=ROOT / ".asv" / "results", help="asv's folder of results")
    asked = parser.parse_args()
    if not 1 < asked.factor < math.inf:
        parser.error(f"--factor must be above 1, got {asked.factor}")
    base, head = (read_results(asked.results, commit_of(name)) for name in (asked.base, asked.head))
    found = compare(base, head, asked.factor)
    for one in found:
        if one.verdict != Verdict.OK:
            print(f"{one.verdict:<9}  {one.name}  {one.why}")
    verdicts = [one.verdict for one in found]
    print(summary("speed", verdicts))
    return int(overall(verdicts) == Verdict.REGRESSED)


if __name__ == "__main__":
    sys.exit(main())
