"""Copy the final records of a results folder to ``results/``: ``python docs/publish.py runs``.

What is published is the record alone: its arrays and pictures stay behind (their SHA-256 goes along), and of its
convergence only the epochs that were scored.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ptybench.records import Store

ROOT = Path(__file__).resolve().parents[1]


def publish(runs: Path, results: Path) -> int:
    """Copy every final record; return how many."""
    count = 0
    for record in Store(runs).records():
        if not record.final:
            continue
        folder = Path(record.path)
        document = json.loads((folder / "record.json").read_text(encoding="utf-8"))
        document["artifacts"] = {}
        document["trace"] = [point for point in document["trace"] if point["metrics"]]
        target = results / folder.resolve().relative_to(runs.resolve()) / "record.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        count += 1
    return count


if __name__ == "__main__":
    print(f"published {publish(Path(sys.argv[1]), ROOT / 'results')} records")
