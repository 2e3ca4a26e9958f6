"""Checks and results in words: one sentence each, the document, the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ptybench.claims.paper import CURVE, Check, Side
from ptybench.claims.reading import Reading, unit
from ptybench.claims.results import Measured, Readings, Result, Results
from ptybench.claims.verdict import ALPHA, VERDICTS, interval
from ptybench.readable import EMPTY, number

SCHEMA = "ptybench.claims/1"
_SIGNS = {"not_worse_than": "not worse than", "better_than": "better than", "close_to": "close to"}


def quantity_words(side: Side) -> str:
    """Return what is measured, without where: ``frc_truth_area``, ``epochs until frc_truth_area is 0.95``."""
    metric = side.metric
    if metric == CURVE:
        metric = f"FRC at {side.frequency_per_um:g}/µm"
    if side.until is not None:
        metric = f"{side.counted_in} until {metric} is {side.until:g}"
    if side.reduction == "rank_correlation":
        return f"rank correlation of {metric} and {side.other_metric} over the epochs"
    if side.reduction is not None:
        over = ["runs"] if len(side.runs) > 1 else []
        over += [f"{len(side.points)} points"] if len(side.points) > 1 else []
        over += ["the grid"] if side.vary == "grid" else [f"{', '.join(side.vary)}"] if side.vary else []
        metric = f"{side.reduction.replace('_', ' ')} of {metric} over {' and '.join(over)}"
    return metric


def place_words(side: Side) -> str:
    """Return a run and when it is looked at: ``pine at epoch 150``."""
    text = " and ".join(side.runs)
    if side.reduction != "loss" and len(side.points) == 1:
        text += f" at {side.points[0]:g}"
    if side.epoch is not None:
        text += f" at epoch {side.epoch}"
    elif side.seconds is not None:
        text += f" after {side.seconds:g} s"
    elif side.epochs is not None:
        text += f" of {side.epochs} epochs"
    return text


def check_words(check: Check) -> str:
    """Return a check as a sentence."""
    if check.card is not None:
        sign, about = _signs(check), f" ± {check.tolerance:g}" if check.tolerance else ""
        return f"{check.metric} of the network {check.card} {sign} {check.value:g}{about}"
    own, other = place_words(check.side), other_words(check)
    what, tolerance = quantity_words(check.side), f" ± {check.tolerance:g}" if check.tolerance else ""
    where = f" on {where_words(check)}" if check.subject else ""
    if check.reduction == "win_rate":
        what = f"share of settings in which {own} has the better {check.metric} than {other}"
        own = ""
    if check.per is not None:
        own = f"{own} over {other}"
    about = f"{what}{where}: {own}".removesuffix(": ")
    if check.relation in ("better_than", "not_worse_than", "close_to", "equals"):
        by = f" by {check.value:g}" if check.relation == "better_than" and check.value else ""
        return f"{about} {_SIGNS.get(check.relation, check.relation)} {other}{by}{tolerance}"
    return f"{about} {_signs(check)} {check.value:g}{tolerance}"


def where_words(side: Side) -> str:
    """Return the task or the measurement, and what of it is set: ``low_dose with dose.photons = 1000``."""
    settings = [_setting(name, value) for name, value in side.set.items() if not name.startswith("budget.")]
    return side.subject + (f" with {', '.join(settings)}" if settings else "")


def _setting(name: str, value: Any) -> str:
    return f"{name} = {value:g}" if isinstance(value, float) else f"{name} = {value}"


def other_words(check: Check) -> str:
    """Return the other run, and in what its task differs."""
    if (side := check.other) is None:
        return ""
    text = place_words(side) + (f" on {side.subject}" if side.subject != check.subject else "")
    changed = [_setting(name, value) for name, value in side.set.items() if check.set.get(name) != value]
    return text + (f" with {', '.join(changed)}" if changed else "")


def _signs(check: Check) -> str:
    return {">=": "≥", "<=": "≤", "within": "is"}.get(check.relation, check.relation)


def reading_words(reading: Reading | None) -> str:
    """Return one seed's number."""
    if reading is None:
        return EMPTY
    if reading.value is not None:
        return number(reading.value, 3)
    if math.isinf(reading.low) and math.isinf(reading.high):
        return "failed"
    return f"> {number(reading.low, 3)}" if math.isinf(reading.high) else f"{reading.low:.3g} to {reading.high:.3g}"


def summary_words(readings: Readings, suffix: str = "") -> str:
    """Return the mean over the seeds with its interval; where a seed has no plain number, the seeds one by one."""
    values = [None if one is None else one.value for one in readings.values()]
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return "; ".join(reading_words(one) for one in readings.values())
    ends = interval(known)
    bounds = "" if ends is None else f" [{number(ends[0], 3)}, {number(ends[1], 3)}]"
    return f"{number(sum(known) / len(known), 3)}{bounds}{' ' + suffix if suffix else ''}"


def margin_words(measured: Measured) -> str:
    """Return the mean margin with its interval, and the p-values that decide."""
    outcome = measured.outcome
    if measured.trial.carded is not None:
        return "a fact"
    if outcome.p_for is None or outcome.p_against is None:
        return outcome.why or ("equal" if outcome.verdict == "reproduced" else "not equal")
    p, side = min((outcome.p_for, "for"), (outcome.p_against, "against"))
    return f"p {side} {p:.2g}"


# --- the document ----------------------------------------------------------------------------------------------------


def document(results: Results, figures: Mapping[str, str]) -> dict[str, Any]:
    """Return all results as plain JSON values."""
    about = results.paper.about
    return {
        "paper": {"name": results.paper.name, **about.model_dump()},
        "tier": results.tier,
        "domain": results.domain,
        "seeds": results.seeds,
        "alpha": ALPHA,
        "verdicts": {name: sum(one.verdict == name for one in results.results) for name in VERDICTS},
        "stale_records": results.stale,
        "options": "dev" if results.chosen else "paper",
        "chosen": [{"run": run, "task": task, **own} for (run, task), own in results.chosen.items()],
        "claims": [_claim(one, figures.get(one.claim.id)) for one in results.results],
    }


def _claim(result: Result, figure: str | None) -> dict[str, Any]:
    claim = result.claim
    return {
        "id": claim.id,
        "says": claim.says,
        "place": claim.place,
        "note": claim.note,
        "verdict": result.verdict,
        "missing": result.missing,
        "figure": figure,
        "checks": [_check(one) for one in result.measured],
    }


def _check(measured: Measured) -> dict[str, Any]:
    check, outcome = measured.trial.check, measured.outcome
    return {
        "check": check_words(check),
        "published": check.published,
        "comparator": check.comparator,
        "value": check.value,
        "tolerance": check.tolerance,
        "unit": "" if check.per is not None else unit(check.side),
        "own": _seeds(measured.own),
        "other": None if measured.other is None else _seeds(measured.other),
        "margins": {str(seed): _plain(one) for seed, one in outcome.margins.items()},
        "margin_interval": interval(list(outcome.margins.values())),
        "p_for": outcome.p_for,
        "p_against": outcome.p_against,
        "verdict": outcome.verdict,
        "why": outcome.why,
        "records": sorted({cell.key for cell in measured.trial.cells}),
    }


def _seeds(readings: Readings) -> dict[str, Any]:
    values = [None if one is None else one.value for one in readings.values()]
    known = [value for value in values if value is not None]
    complete = len(known) == len(values) > 0
    return {
        "mean": sum(known) / len(known) if complete else None,
        "interval": interval(known) if complete else None,
        "seeds": {
            str(seed): None if one is None else {"low": _plain(one.low), "high": _plain(one.high)}
            for seed, one in readings.items()
        },
    }


def _plain(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else ("inf" if value > 0 else "-inf")


# --- the page --------------------------------------------------------------------------------------------------------


def markdown(results: Results, figures: Mapping[str, str], command: str) -> str:
    """Return the page of a paper: the verdicts, then every claim with its checks and its figure.

    Args:
        results: what came of the claims.
        figures: claim → path of its figure, from where the page lies.
        command: what made the page.

    """
    about = results.paper.about
    lines = [
        f"# {about.title}",
        "",
        f"{about.authors}, {about.journal} ({about.year}), [{about.doi}](https://doi.org/{about.doi}).",
        "",
        *([about.note, ""] if about.note else []),
        f"Made by `{command}`: tier `{results.tier}`, domain `{results.domain}`, seeds {_list(results.seeds)}. Numbers "
        f"are means over the seeds with their {100 - 200 * ALPHA:.0f} % interval; a verdict is a one-sided test at "
        f"{ALPHA:g} (docs/claims.md says how). Options are those of the paper's file"
        + (", and of runs with a grid those of it that were best on `dev`" if results.chosen else "")
        + "; they stand at the end.",
        "",
        *_table(("claim", "says", "verdict"), [_line(one) for one in results.results]),
        "",
    ]
    for result in results.results:
        lines += _section(result, figures.get(result.claim.id))
    used = {name for one in results.results for trial in one.measured for name in trial.trial.check.runs if name}
    if used:
        lines += ["## The runs", "", *_runs(results, sorted(used | _rivals(results))), ""]
    if results.stale:
        lines += [f"{results.stale} of the records were made by other code than today's.", ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _line(result: Result) -> tuple[str, str, str]:
    claim = result.claim
    return f"[{claim.id}](#{claim.id.lower()})", f"{claim.says} ({claim.place})", f"**{result.verdict}**"


def _section(result: Result, figure: str | None) -> list[str]:
    claim = result.claim
    lines = [f"## {claim.id}", "", f"{claim.says} ({claim.place})", "", f"**{result.verdict}**"]
    lines[-1] += f": {result.missing}." if result.missing else ""
    lines.append("")
    if result.measured:
        head = ("check", "the paper", "ours", "against", "test", "verdict")
        lines += [*_table(head, [_row(one) for one in result.measured]), ""]
    lines += [claim.note, ""] if claim.note else []
    lines += [f"![{claim.id}: {claim.says}]({figure})", ""] if figure else []
    return lines


def _row(measured: Measured) -> tuple[str, ...]:
    check = measured.trial.check
    suffix = "" if check.per is not None else unit(check.side)
    other = EMPTY if measured.other is None else summary_words(measured.other, suffix)
    return (
        check_words(check),
        check.published or EMPTY,
        summary_words(measured.own, suffix),
        other,
        margin_words(measured),
        measured.outcome.verdict,
    )


def _rivals(results: Results) -> set[str]:
    return {
        name
        for one in results.results
        for trial in one.measured
        if trial.trial.check.other is not None
        for name in trial.trial.check.other.runs
    }


def _runs(results: Results, names: Sequence[str]) -> list[str]:
    """A line for each run: its method and its options, where they differ on a task."""
    lines = []
    for name in names:
        run = results.paper.runs[name]
        options = ", ".join(f"{key} = {value}" for key, value in run.options.items())
        here = {task: own for (run_, task), own in results.chosen.items() if run_ == name}
        on = [f"on {task} " + ", ".join(f"{k} = {v}" for k, v in own.items()) for task, own in (run.on | here).items()]
        grid = [f"grid {key} in {_list(values)}" for key, values in run.grid.items()]
        text = "; ".join([options, *on, *grid] if options else [*on, *grid])
        nets = sorted(_weights(results, name))
        text += f"; weights {', '.join(f'`{sha[:12]}`' for sha in nets)}" if nets else ""
        lines.append(f"- {name}: `{run.method}`" + (f", {text}" if text else ""))
    return lines


def _weights(results: Results, run: str) -> set[str]:
    """SHA-256 of the weights that a run's records were made with."""
    members = [
        member
        for one in results.results
        for trial in one.measured
        for member in [*trial.trial.own, *(trial.trial.other or [])]
        if member.run == run
    ]
    keys = {cell.key for member in members for cell in member.cells.values()}
    found = {results.records[key].identity.get("weights") for key in keys if key in results.records}
    return {str(sha) for sha in found if sha}


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return [line(head), "|" + ":--|" * len(head), *map(line, rows)]


def _list(values: Sequence[Any]) -> str:
    return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)


def text(results: Results) -> str:
    """Return the results for a terminal."""
    lines = [f"{results.paper.about.title} ({results.paper.about.doi})"]
    for result in results.results:
        lines += ["", f"{result.claim.id}  {result.verdict}", f"    {result.claim.says} ({result.claim.place})"]
        if result.missing:
            lines.append(f"    {result.missing}")
        for one in result.measured:
            check = one.trial.check
            suffix = "" if check.per is not None else unit(check.side)
            against = "" if one.other is None else f", against {summary_words(one.other, suffix)}"
            published = f" (the paper: {check.published})" if check.published else ""
            lines.append(f"  - {check_words(check)}{published}")
            lines.append(
                f"    ours {summary_words(one.own, suffix)}{against}; {margin_words(one)}: {one.outcome.verdict}"
            )
    counts = [(name, sum(one.verdict == name for one in results.results)) for name in VERDICTS]
    lines += ["", ", ".join(f"{count} {name}" for name, count in counts if count)]
    return "\n".join(lines)
