"""Our methods beside Pty-Chi's and PtyLab's: one command that makes everything it needs.

    python benchmarks/peers/compare.py --task low_overlap --point 0.75 --seeds 0-2 --methods epie,rpie --out peers

The same measurement, start, options and number of epochs; every reconstruction in a process of its own, on one thread,
scored by ptybench. See docs/peers.md.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from cells import Result, run_cell, title
from cyclopts import Parameter
from environments import FOLDER, PEERS, install
from line import run
from plan import Plan, able, cells_of, options_of, overrides_of, problems
from tables import compare, markdown

from ptybench.cli.options import parse_seeds, parse_settings, split_names
from ptybench.errors import InvalidOption, UnknownName
from ptybench.io.hdf5 import save_measurement
from ptybench.readable import duration
from ptybench.registry import load_task
from ptybench.runner.provenance import cpu_name, git_commit

SCHEMA = "ptybench.peers/1"


def run_all(plan: Plan, capable: dict[str, list[str]], environments: Path, jobs: int) -> list[Result]:
    """Run every cell that has not been run; return all results."""
    results: list[Result] = []
    with ThreadPoolExecutor(jobs) as pool:
        waiting = []
        for seed in plan.seeds:
            measurements, truth = problems(plan, seed)
            cells = list(cells_of(plan, seed, measurements, capable))
            for positions in dict.fromkeys(cell.positions for cell in cells):
                path = next(cell.folder for cell in cells if cell.positions == positions).parent / "measurement.h5"
                save_measurement(path, measurements[positions])
            waiting += [
                pool.submit(run_cell, cell, truth, measurements[cell.positions], environments) for cell in cells
            ]
        for task in waiting:
            result = task.result()
            results.append(result)
            said = result.failure or f"cpcc {result.metrics['cpcc_abs']:.4f} in {duration(result.seconds)}"
            where = f"{result.method} seed {result.seed} {result.positions} run {result.run}"
            print(f"{title(result.program)} {where}: {said}", file=sys.stderr, flush=True)
    return results


def write(plan: Plan, results: list[Result]) -> str:
    """Write ``comparison.json`` and ``comparison.md`` into the folder; return the table."""
    lines = compare(results, plan.peers, {peer: PEERS[peer].positions for peer in plan.peers})
    table = markdown(lines)
    document = {
        "schema": SCHEMA,
        "machine": {"cpu": cpu_name(), "commit": git_commit()},
        "plan": {name: value for name, value in asdict(plan).items() if name != "out"},
        "versions": {peer: PEERS[peer].version for peer in plan.peers},
        "options": {method: options_of(plan, method) for method in plan.methods},
        "lines": [asdict(line) for line in lines],
        "results": [asdict(result) for result in results],
    }
    suffix = "-same-order" if plan.order == "ours" else ""
    (plan.out / f"comparison{suffix}.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (plan.out / f"comparison{suffix}.md").write_text(table + "\n", encoding="utf-8")
    return table


def command(
    *,
    task: str = "low_overlap",
    point: float | None = None,
    domain: Literal["train", "dev", "release"] = "release",
    seeds: str = "0-2",
    methods: list[str] | None = None,
    peers: list[str] | None = None,
    set_: Annotated[list[str] | None, Parameter("--set", negative="")] = None,
    epochs: int | None = None,
    runs: int = 3,
    peer_runs: int = 1,
    order: Literal["own", "ours"] = "own",
    jobs: int = 1,
    out: Path = Path("peers"),
    environments: Path = FOLDER,
) -> int:
    """Compare our methods with those of other packages.

    Args:
        task: a task in the far field.
        point: value of the task's ladder; its default where none is given.
        domain: seed domain.
        seeds: seeds of the task, as 0-2,7.
        methods: names of methods, comma separated.
        peers: ptychi, ptylab, cdtools, ptyrad.
        set_: METHOD.KEY=VALUE, an option of our method that is mapped to the peer's, or task.KEY=VALUE; repeatable.
        epochs: passes over all patterns; the task's own number where none is given.
        runs: visiting orders of ours on each measurement, which tell chance from difference.
        peer_runs: visiting orders of the peers.
        order: visiting order of the peers, their own or ours.
        jobs: reconstructions at a time; times are comparable with 1 only.
        out: folder of everything; what is there is not run again.
        environments: folder of the peers' environments.

    """
    names = split_names(peers) or list(PEERS)
    for name in names:
        if name not in PEERS:
            raise UnknownName("peer", name, PEERS)
    settings = parse_settings(set_)
    chosen = split_names(methods) or ["epie", "rpie"]
    for key in settings:
        if key.partition(".")[0] not in ("task", *chosen):
            raise InvalidOption(f"--set {key}: expected task.KEY, or METHOD.KEY with a method of --methods")
    overrides = overrides_of(task, point, settings)
    budget = load_task(task, overrides=overrides).budget.epochs
    plan = Plan(
        task=task,
        overrides=overrides,
        domain=domain,
        seeds=parse_seeds(seeds),
        methods=chosen,
        peers=names,
        settings=settings,
        epochs=epochs or budget,
        runs=runs,
        peer_runs=peer_runs,
        order=order,
        out=out.resolve(),
    )
    capable = able(plan)
    for name in dict.fromkeys(peer for peers in capable.values() for peer in peers):
        install(name, environments)
    results = run_all(plan, capable, environments, jobs)
    print(write(plan, results))
    return 1 if any(result.failure for result in results) else 0


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; every error is one sentence."""
    return run(command, "compare.py", words)


if __name__ == "__main__":
    sys.exit(main())
