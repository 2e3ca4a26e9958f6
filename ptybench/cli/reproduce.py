"""``ptybench reproduce``: a paper's claims, by running what they need and testing each."""

from __future__ import annotations

import json as json_format
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from ptybench.cli.options import (
    DomainName,
    Flag,
    Json,
    Names,
    Plugins,
    Results,
    TierName,
    add_plugins,
    parse_duration,
    parse_seeds,
    split_names,
)
from ptybench.cli.output import Output, columns, schema
from ptybench.cli.planned import changed_options, split_done, summary
from ptybench.cli.sweep import Execution, work_off
from ptybench.errors import InvalidOption, UnknownName
from ptybench.readable import EMPTY, duration
from ptybench.runner.quiet import load_numpy_quietly

if TYPE_CHECKING:
    from ptybench.claims.results import Case
    from ptybench.claims.results import Results as Judged
    from ptybench.records import Record
    from ptybench.runner.planning import Planned
    from ptybench.runner.survey import Found


@Parameter(name="*", group=Group("What is tested", sort_key=1))
@dataclass(frozen=True)
class Wanted:
    """Which claims, and where."""

    claims: Annotated[Names, Parameter(("--claims", "--claim"))] = None
    "Ids of claims, in a comma list; all unless given."
    seeds: Annotated[str, Parameter(("--seeds", "--seed"))] = "0-2"
    "Seeds, such as 0-4."
    tier: TierName = "small"
    "Size of the problems: paper is the paper's own, small what two cores can do."
    domain: DomainName = "release"
    "Seed domain: what was tuned on dev is tested on release."
    plugin: Plugins = None


@Parameter(name="*", group=Group("How it is run", sort_key=2))
@dataclass(frozen=True)
class Running:
    """Where, and how many at a time."""

    plan: Flag = False
    "Only show what would be run, and how long that takes as far as finished cells tell."
    run: Annotated[bool, Parameter(negative="--no-run", show_default=False)] = True
    "With --no-run judge by the records that there are."
    device: str = "auto"
    "auto, cpu, cuda or cuda:N."
    jobs: int = 1
    "Cells at a time; each is given its share of the cores."
    timeout: str | None = None
    "Kill a method after 90s, 10m or 2h."
    results: Results = Path("runs")
    force: Flag = False
    "Run again what has a record already."
    out: Annotated[Path | None, Parameter("--out")] = None
    "Also write the page NAME.md, NAME.json and a figure for each claim into this folder."


def reproduce(paper: str, /, *, wanted: Wanted = Wanted(), running: Running = Running(), json: Json = False) -> int:
    """Test a paper's claims: run the cells that are missing, and say claim by claim what came of it.

    What has a record already, in the results folder or among the published ones, is not run again, so the same command
    goes on where it was stopped. A verdict is no failure: the exit code is 0 whatever it is.

    Args:
        paper: name of a paper, or the FILE.toml of one.

    """
    out = Output(json)
    with out.reserved():
        if running.jobs < 1:
            raise InvalidOption(f"--jobs must be at least 1, got {running.jobs}")
        timeout = None if running.timeout is None else parse_duration(running.timeout)
        load_numpy_quietly()
        add_plugins(wanted.plugin)

        from ptybench.claims.cells import Laboratory
        from ptybench.claims.paper import load_paper
        from ptybench.claims.results import cases, cells_of, judged

        found_paper = load_paper(paper, wanted.tier)
        seeds = parse_seeds(wanted.seeds)
        laboratory = Laboratory(found_paper, wanted.tier, wanted.domain, seeds, running.device)
        asked = split_names(wanted.claims) or list(found_paper.claims)
        for name in asked:
            if name not in found_paper.claims:
                raise UnknownName("claim", name, found_paper.claims)
        found = cases(laboratory, asked)
        cells = cells_of(found)
        published = {} if running.force else _published(cells)
        done, left = split_done([cell for cell in cells if cell.key not in published], running.results, running.force)
        if running.plan:
            _show_plan(out, found, cells, left, done)
            return 0
        if running.run and left:
            out.note(summary(cells, done, left, running.force))
            execution = Execution(wanted.seeds, running.device, running.timeout, running.jobs, running.results)
            work_off(cells, left, dict(done), execution, timeout)
        records = _records(cells, running.results) | published
        results = judged(laboratory, found, records, _stale(records))
        command = f"ptybench reproduce {shlex.quote(paper)} --tier {wanted.tier} --seeds {wanted.seeds}"
        if running.out is not None:
            command += f" --domain {wanted.domain}" if wanted.domain != "release" else ""
            for path in write(results, running.out, f"{command} --out {running.out}"):
                out.note(f"wrote {path}")
        _tell(out, results)
        return 0


def _published(cells: Sequence[Planned]) -> dict[str, Record]:
    """The published records of cells."""
    from ptybench.records import Store

    return {key: record for key, record in _load(cells, Store.published().root) if record.final}


def _records(cells: Sequence[Planned], folder: Path) -> dict[str, Record]:
    return dict(_load(cells, folder))


def _load(cells: Sequence[Planned], folder: Path) -> Iterator[tuple[str, Record]]:
    from ptybench.records import Store

    store = Store(folder)
    for cell in cells:
        record = store.load(PurePosixPath(cell.folder), cell.key)
        if record is not None:
            yield cell.key, record


def _stale(records: dict[str, Record]) -> int:
    from ptybench import registry
    from ptybench.runner.provenance import provenance
    from ptybench.runner.survey import is_stale

    now = provenance(registry.plugin_paths())
    return sum(is_stale(one.provenance.code_hash, one.provenance.plugins, now) for one in records.values())


def write(results: Judged, folder: Path, command: str) -> list[Path]:
    """Write the page, the document and the figures into a folder; return the files."""
    from ptybench.claims.figures import draw_all
    from ptybench.claims.words import document, markdown

    folder.mkdir(parents=True, exist_ok=True)
    name = results.paper.name
    figures = draw_all(results, folder)
    page, data = folder / f"{name}.md", folder / f"{name}.json"
    page.write_text(markdown(results, figures, command), encoding="utf-8")
    content = {"schema": schema("claims"), **document(results, figures)}
    data.write_text(json_format.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    return [page, data, *(folder / file for file in figures.values())]


def _tell(out: Output, results: Judged) -> None:
    from ptybench.claims.words import document, text

    out.text(text(results))
    if out.json:
        out.document("claims", document(results, {}))


def _show_plan(
    out: Output, found: Sequence[Case], cells: Sequence[Planned], left: Sequence[Planned], done: dict[str, Found]
) -> None:
    """Print what each claim needs, what of it is left, and how long that takes as far as finished cells tell."""
    from ptybench.runner.cells import epochs_of
    from ptybench.runner.pace import Pace, kind_of

    pace = Pace(map(kind_of, left), jobs=1)
    for cell in cells:
        if cell.key in done:
            pace.learn(kind_of(cell), done[cell.key].seconds)
    waiting, rows, claims = {cell.key for cell in left}, [], []
    for case in found:
        own = {cell.key: cell for trial in case.trials for cell in trial.cells}
        missing = [cell for cell in own.values() if cell.key in waiting]
        seconds = [pace.expected(kind_of(cell)) for cell in missing]
        known = [one for one in seconds if one is not None]
        cost = sum(known) if len(known) == len(seconds) else None
        rows.append(
            (case.claim.id, f"{len(own)} cells", f"{len(missing)} to run", _cost(cost, missing), case.missing or "")
        )
        claims.append(
            {
                "id": case.claim.id,
                "cells": len(own),
                "to_run": len(missing),
                "expected_seconds": cost,
                "missing": case.missing,
            }
        )
    kinds: dict[tuple[str, ...], list[Planned]] = {}
    for cell in left:
        options = " ".join(f"{key}={value}" for key, value in changed_options(cell.method).items())
        point = "" if cell.subject.task is None or cell.subject.task.point is None else f"{cell.subject.task.point:g}"
        epochs = str(epochs_of(cell.subject, cell.method, cell.conditions) or EMPTY)
        kinds.setdefault((cell.subject.name, point, f"{cell.method.name} {options}".rstrip(), epochs), []).append(cell)
    if out.json:
        head = {"cells": len(cells), "to_run": len(left), "expected_seconds": pace.remaining() if left else 0.0}
        out.document("claims_plan", {**head, "claims": claims})
        return
    if kinds:
        out.text(columns([(*kind, "epochs", f"{len(alike)} seeds") for kind, alike in kinds.items()]))
        out.text("")
    out.text(columns(rows))
    time = pace.remaining()
    out.text(
        f"{summary(cells, done, left)}"
        + ("" if time is None or not left else f", about {duration(time)} for one process")
    )


def _cost(seconds: float | None, cells: Sequence[Planned]) -> str:
    if not cells:
        return "done"
    return "time not known before the first" if seconds is None else f"about {duration(seconds)}"
