"""Write the tables of performance.md and peers.md anew: ``python docs/make_performance.py FOLDER …``.

The folders are those that benchmarks/peers/ and the others in benchmarks/ wrote; what is not in them stays as it is. A
table stands between ``<!-- NAME -->`` and ``<!-- end -->``; performance.json has every number.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
PAGES, NUMBERS = (DOCS / "performance.md", DOCS / "peers.md"), DOCS / "performance.json"
TABLE = re.compile(r"(<!-- (speed|cost|around|agree|comparison) -->\n).*?(<!-- end -->)", re.DOTALL)


def machine(document: dict[str, Any]) -> str:
    """A line about where numbers come from."""
    facts = [f"{name} {value}" for name, value in document["machine"].items() if name != "commit"]
    versions = [f"{name} {version}" for name, version in document.get("versions", {}).items()]
    return f"Machine: {', '.join([*facts, *versions])}; commit {document['machine']['commit'][:9]}."


def cost(document: dict[str, Any]) -> str:
    """The exponents of both dependences, and the figure."""
    lines = ["| | exponent of the number of patterns | of N² log N |", "|:--|--:|--:|"]
    sizes = document["sides"]["exponent_of_n2_log_n"]
    lines += [
        f"| {name} | {value:.3f} | {sizes[name]:.3f} |" for name, value in document["patterns"]["exponent"].items()
    ]
    return "\n".join([*lines, "", "![Cost of an epoch](figures/cost.svg)", "", machine(document)])


def around(document: dict[str, Any]) -> str:
    """Simulations beside their transforms, and scoring."""
    lines = ["| simulating, tier small | ms | of it transforms, ms | × |", "|:--|--:|--:|--:|"]
    for name, found in document["simulation"].items():
        whole, part = found["seconds"] * 1e3, found["transforms"] * 1e3
        lines.append(f"| {name} | {whole:.0f} | {part:.0f} | {whole / part:.1f} |")
    lines += ["", "| scoring, all metrics | patterns | s | processor, s |", "|:--|--:|--:|--:|"]
    for size, found in document["scoring"].items():
        times = f"{found['seconds']:.2f} | {found['processor_seconds']:.2f}"
        lines.append(f"| {size} × {size} pixels | {found['patterns']:.0f} | {times} |")
    return "\n".join([*lines, "", machine(document)])


def agree(document: dict[str, Any]) -> str:
    """How far kernels and torch are apart."""
    lines = ["| method | complex128 | complex64 | FRC area by kernels | by torch |", "|:--|--:|--:|--:|--:|"]
    for name, found in document["methods"].items():
        ours, torchs = found["scores"]
        lines.append(f"| {name} | {found['complex128']:.0e} | {found['complex64']:.0e} | {ours:.4f} | {torchs:.4f} |")
    return "\n".join([*lines, "", machine(document)])


def speed(document: dict[str, Any]) -> str:
    """The tables that speed.py made."""
    return f"{document['tables'].strip()}\n\n{machine(document)}"


def comparison(document: dict[str, Any]) -> str:
    """The table that compare.py made, and what it compared."""
    plan = document["plan"]
    changes = ", ".join(f"{key} {value}" for key, value in plan["overrides"].items())
    seeds, epochs = ", ".join(map(str, plan["seeds"])), f"{plan['epochs']} epochs, {plan['runs']}"
    about = f"`{plan['task']}` ({changes}), domain `{plan['domain']}`, seeds {seeds}, {epochs}"
    return f"{about} visiting orders of ours and {plan['peer_runs']} of theirs.\n\n{speed(document)}"


MAKE: dict[str, Callable[[dict[str, Any]], str]] = {
    "speed": speed,
    "cost": cost,
    "around": around,
    "agree": agree,
    "comparison": comparison,
}


def main(folders: Sequence[Path]) -> None:
    """Write pages, numbers and figure."""
    numbers: dict[str, Any] = json.loads(NUMBERS.read_text(encoding="utf-8")) if NUMBERS.exists() else {}
    for folder in folders:
        for name in MAKE:
            if (path := folder / f"{name}.json").exists():
                numbers[name] = json.loads(path.read_text(encoding="utf-8"))
        for name in ("speed", "comparison"):
            if (path := folder / f"{name}.md").exists():
                numbers[name]["tables"] = path.read_text(encoding="utf-8")
        if (path := folder / "cost.svg").exists():
            shutil.copy(path, DOCS / "figures" / path.name)

    def anew(place: re.Match[str]) -> str:
        body = MAKE[place[2]](numbers[place[2]]) if place[2] in numbers else "Not measured yet."
        return f"{place[1]}{body}\n{place[3]}"

    for page in PAGES:
        page.write_text(TABLE.sub(anew, page.read_text(encoding="utf-8")), encoding="utf-8")
    NUMBERS.write_text(json.dumps(numbers, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"wrote {', '.join(map(str, PAGES))} and {NUMBERS}")


if __name__ == "__main__":
    main([Path(folder) for folder in sys.argv[1:]])
