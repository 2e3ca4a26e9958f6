"""Write the leaderboards of README.md anew from the published records: ``python docs/update_readme.py``.

A board stands between ``<!-- leaderboard OPTIONS -->`` and ``<!-- end -->``; the options are those of
``ptybench leaderboard``.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
BOARD = re.compile(r"(<!-- leaderboard (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)
NONE = "No published records yet."


def board(options: str) -> str:
    """Return a board of the published records as Markdown."""
    if not any((ROOT / "results").rglob("*.json")):
        return NONE
    command = [
        sys.executable,
        "-P",
        "-m",
        "ptybench",
        "leaderboard",
        *options.split(),
        "--results",
        str(ROOT / "results"),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def updated(text: str) -> str:
    """Return the text of the README with every board anew."""
    return BOARD.sub(lambda place: f"{place[1]}{board(place[2])}\n{place[3]}", text)


if __name__ == "__main__":
    README.write_text(updated(README.read_text(encoding="utf-8")), encoding="utf-8")
