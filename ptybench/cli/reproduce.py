"""``ptybench reproduce``: a paper's claims, by running what they need and testing each."""

from __future__ import annotations

import json as json_format
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Literal

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
    parse_settings,
    split_names,
)
from ptybench.cli.output import Output, columns, schema
from ptybench.cli.planned import changed_options, split_done, summary
from ptybench.cli.sweep import Execution, work_off
from ptybench.errors import InvalidOption, UnknownName
from ptybench.readable import EMPTY, duration
from ptybench.runner.quiet import load_numpy_quietly

if TYPE_CHECKING:
    from ptybench.claims.cells import Laboratory
    from ptybench.claims.choose import Chosen
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
    options: Literal["paper", "dev"] = "paper"
    "Options of the paper's file, or for every run those of its grid that are best on the domain dev."
    set_: Annotated[
        list[str] | None,
        Parameter(
            "--set", negative="", help="RUN.OPTION=VALUE: another option of one of the paper's runs; repeatable."
        ),
    ] = None
    dev_seeds: str = "0-1"
    "Seeds of dev that options are chosen on."
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
        if running.timeout is not None:
            parse_duration(running.timeout)
        load_numpy_quietly()
        add_plugins(wanted.plugin)

        from ptybench.claims.cells import Laboratory as Bench
        from ptybench.claims.paper import load_paper, with_options
        from ptybench.claims.results import cases, cells_of, judged

        if wanted.options == "dev" and wanted.domain == "dev":
            raise InvalidOption("--options dev are chosen on the domain dev: test them on another, --domain release")
        found_paper = with_options(load_paper(paper, wanted.tier), parse_settings(wanted.set_))
        seeds = parse_seeds(wanted.seeds)
        laboratory = Bench(found_paper, wanted.tier, wanted.domain, seeds, running.device)
        asked = split_names(wanted.claims) or list(found_paper.claims)
        for name in asked:
            if name not in found_paper.claims:
                raise UnknownName("claim", name, found_paper.claims)
        found = cases(laboratory, asked)
        if wanted.options == "dev":
            ready = [case.claim.id for case in found if case.missing is None]
            dev = Bench(found_paper, wanted.tier, "dev", parse_seeds(wanted.dev_seeds), running.device)
            chosen = _choose(out, dev, ready, running)
            if chosen is None:
                return 0
            laboratory = Bench(found_paper, wanted.tier, wanted.domain, seeds, running.device, chosen)
            found = cases(laboratory, asked)
        cells = cells_of(found)
        if running.plan:
            _show_plan(out, found, cells, *_split(cells, running))
            return 0
        records = _worked_off(out, cells, running)
        results = judged(laboratory, found, records, _stale(records))
        if running.out is not None:
            for path in write(results, running.out, _command(paper, wanted, running.device, running.out)):
                out.note(f"wrote {path}")
        _tell(out, results)
        return 0


def _command(paper: str, wanted: Wanted, device: str, folder: Path) -> str:
    """The command that makes a page: all that verdicts depend on."""
    words = ["ptybench", "reproduce", paper, "--tier", wanted.tier, "--seeds", wanted.seeds]
    if wanted.claims:
        words += ["--claims", ",".join(split_names(wanted.claims))]
    if wanted.options == "dev":
        words += ["--options", "dev", "--dev-seeds", wanted.dev_seeds]
    for text in wanted.set_ or []:
        words += ["--set", text]
    if wanted.domain != "release":
        words += ["--domain", wanted.domain]
    for path in wanted.plugin or []:
        words += ["--plugin", str(path)]
    if device != "auto":
        words += ["--device", device]
    return shlex.join([*words, "--out", str(folder)])


def _choose(out: Output, laboratory: Laboratory, claims: Sequence[str], running: Running) -> Chosen | None:
    """Choose every run's options on ``dev``; ``None`` where only the plan of that was asked for, and it is not done."""
    from ptybench.claims.choose import choose, search_cells, searches

    found = searches(laboratory, claims)
    cells = search_cells(found)
    left, _ = _split(cells, running)
    if running.plan and left:
        out.text(columns(_kinds(left)) + f"\n{len(left)} of {len(cells)} cells of dev to run before options are chosen")
        if out.json:
            out.document("claims_plan", {"cells": len(cells), "to_run": len(left), "domain": "dev", "claims": []})
        return None
    return choose(found, _worked_off(out, cells, running))


def _split(cells: Sequence[Planned], running: Running) -> tuple[list[Planned], dict[str, Found]]:
    """Which cells are left to run, and what the results folder says of the others."""
    published = {} if running.force else _published(cells)
    done, left = split_done([cell for cell in cells if cell.key not in published], running.results, running.force)
    return left, done


def _worked_off(out: Output, cells: Sequence[Planned], running: Running) -> dict[str, Record]:
    """Run what is left, and return every record that there is."""
    left, done = _split(cells, running)
    if running.run and left:
        out.note(summary(cells, done, left, running.force))
        execution = Execution("0", running.device, running.timeout, running.jobs, running.results, running.force)
        timeout = None if running.timeout is None else parse_duration(running.timeout)
        pending = {*done, *(cell.key for cell in left)}
        work_off([cell for cell in cells if cell.key in pending], left, dict(done), execution, timeout)
    return dict(_load(cells, running.results)) | ({} if running.force else _published(cells))


def _published(cells: Sequence[Planned]) -> dict[str, Record]:
    """The published records of cells."""
    from ptybench.records import Store

    return {key: record for key, record in _load(cells, Store.published().root) if record.final}


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
    from ptybench.runner.pace import Pace, kind_of

    pace, seen = Pace(map(kind_of, left), jobs=1), {cell.method.name for cell in cells if cell.key in done}
    for cell in cells:
        if cell.key in done:
            pace.learn(kind_of(cell), done[cell.key].seconds)
    waiting, rows, claims = {cell.key for cell in left}, [], []
    for case in found:
        own = {cell.key: cell for trial in case.trials for cell in trial.cells}
        missing = [cell for cell in own.values() if cell.key in waiting]
        seconds = [pace.expected(kind_of(cell)) if cell.method.name in seen else None for cell in missing]
        known = [one for one in seconds if one is not None]
        cost = sum(known) if len(known) == len(seconds) else None
        rows.append(
            (case.claim.id, f"{len(own)} cells", f"{len(missing)} to run", case.missing or _cost(cost, missing))
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
    if out.json:
        head = {"cells": len(cells), "to_run": len(left), "expected_seconds": pace.remaining() if left else 0.0}
        out.document("claims_plan", {**head, "claims": claims})
        return
    if left:
        out.text(columns(_kinds(left)) + "\n")
    out.text(columns(rows))
    time = pace.remaining() if {cell.method.name for cell in left} <= seen else None
    out.text(
        f"{summary(cells, done, left)}"
        + ("" if time is None or not left else f", about {duration(time)} for one process")
    )


def _kinds(cells: Sequence[Planned]) -> list[tuple[str, ...]]:
    """A line for each task, point, method and budget: its settings and seeds."""
    from ptybench.runner.cells import epochs_of

    kinds: dict[tuple[str, ...], list[Planned]] = {}
    for cell in cells:
        point = "" if cell.subject.task is None or cell.subject.task.point is None else f"{cell.subject.task.point:g}"
        epochs = epochs_of(cell.subject, cell.method, cell.conditions)
        kinds.setdefault((cell.subject.name, point, cell.method.name, f"{epochs or EMPTY} epochs"), []).append(cell)
    return [(*kind, f"{len(alike)} runs", _settings(alike)) for kind, alike in kinds.items()]


def _settings(cells: Sequence[Planned]) -> str:
    found = {id(cell.method): cell.method for cell in cells}
    if len(found) > 1:
        return f"{len(found)} settings"
    return " ".join(f"{key}={value}" for key, value in changed_options(cells[0].method).items())


def _cost(seconds: float | None, cells: Sequence[Planned]) -> str:
    if not cells:
        return "done"
    return "time not known before the first" if seconds is None else f"about {duration(seconds)}"
