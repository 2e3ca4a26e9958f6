"""``ptybench gate``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ptybench.cli.options import Json
from ptybench.cli.output import Output, columns
from ptybench.cli.recorded import read_records


def gate(
    base: Path,
    head: Path,
    /,
    *,
    tolerance: Annotated[
        float, Parameter("--tolerance", help="How much worse a primary metric may be, as a share of the base's median.")
    ] = 0.02,
    json: Json = False,
) -> int:
    """Say whether the runs of one commit are worse than those of another, seed by seed.

    The verdict is no data, noisy, regressed or ok; regressed, and nothing else, is exit code 1.

    Args:
        base: results folder of the commit that was there before.
        head: results folder of the commit that is judged.

    """
    out = Output(json)
    with out.reserved():
        from ptybench.leaderboard.gate import gate as compare
        from ptybench.leaderboard.verdicts import Verdict, overall, summary

        found = compare(read_records(base), read_records(head), tolerance)
        verdicts = [one.verdict for one in found]
        if found:
            out.text(columns([(one.name, f"{one.pairs} seeds", one.verdict, one.why) for one in found]))
        out.text(summary("quality", verdicts))
        if json:
            out.document(
                "gate",
                {"verdict": overall(verdicts), "tolerance": tolerance, "compared": [asdict(one) for one in found]},
            )
        return int(overall(verdicts) == Verdict.REGRESSED)
