"""Copy the final records of a results folder to ``results/``: ``python docs/publish.py runs``.

What is published is the record alone: its arrays and pictures stay behind (their SHA-256 goes along), and of its
convergence only the epochs that were scored, with the metrics that its task names.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ptybench.records import Store

ROOT = Path(__file__).resolve().parents[1]


def named(document: dict[str, Any]) -> set[str]:
    """The metrics that a record's task names; all where it has no task."""
    task = document["identity"]["task"]
    return {task["primary_metric"], *task["metrics"]} if task else set(document["metrics"])


def thinned(point: dict[str, Any], kept: set[str]) -> dict[str, Any]:
    """A point of the convergence with some of its metrics."""
    return point | {"metrics": {name: value for name, value in point["metrics"].items() if name in kept}}


def publish(runs: Path, results: Path) -> int:
    """Copy every final record; return how many."""
    count = 0
    for record in Store(runs).records():
        if not record.final:
            continue
        folder = Path(record.path)
        document = json.loads((folder / "record.json").read_text(encoding="utf-8"))
        document["artifacts"] = {}
        document["trace"] = [thinned(point, named(document)) for point in document["trace"] if point["metrics"]]
        target = results / folder.resolve().relative_to(runs.resolve()) / "record.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(document, ensure_ascii=False) + "\n", encoding="utf-8")
        count += 1
    return count


if __name__ == "__main__":
    print(f"published {publish(Path(sys.argv[1]), ROOT / 'results')} records")
