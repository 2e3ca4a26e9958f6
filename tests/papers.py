"""A small paper with its claims, and checks and records that are made up, for the tests of claims."""

from __future__ import annotations

import tomllib
from typing import Any

from ptybench.claims.paper import Check, Paper, Side, read_paper
from ptybench.records import Provenance, Record, TracePoint

FILE = """
[paper]
title = "A trial"
authors = "N. N."
journal = "None"
year = 2026
doi = "10.0/none"

[tasks.base]
title = "A small task"
asks = "Does it run?"
source = "nobody"
primary_metric = "frc_truth_area"
specimen = { kind = "particles" }
probe = { kind = "aperture", numerical_aperture = 9e-4, defocus_m = 3.67e-4 }
scan = { overlap = 0.6, grid = [3, 3] }
geometry = { distance_m = 1.0 }
dose = { photons = 1e5 }
budget = { epochs = 3, trace = [1, 2], curves = [2, 3] }

[tasks.bright]
like = "base"
dose = { photons = 1e6 }

[tasks.thin]
like = "bright"
scan = { overlap = 0.75, grid = [5, 5] }
ladder = { name = "every", field = "scan.every", values = [1, 2] }

[runs.a]
method = "epie"
options = { alpha = 0.5 }
on.bright = { alpha = 0.7 }
grid = { alpha = [0.2, 0.9], beta = [0.5, 1.0] }

[runs.b]
method = "rpie"
grid = { alpha = [0.2, 0.9], beta = [0.5, 1.0] }

[claims.first]
says = "a is better than nothing"
place = "here"
task = "base"
run = "a"
metric = "frc_truth_area"
checks = [
    { comparator = ">=", value = -1 },
    { comparator = "equals:a", epoch = 2, against = { epoch = 2 } },
    { metric = "frc_truth", frequency_per_um = 1.0, comparator = "<=", value = 1 },
]

[claims.second]
says = "a is as good as b on every setting"
place = "there"
task = "bright"
run = "a"
metric = "frc_truth_half_nyquist"
vary = "grid"
checks = [{ reduce = "win_rate:b", comparator = ">=", value = 0 }, { reduce = "spread", comparator = "<=", value = 9 }]

[claims.third]
says = "thin scans cost nothing"
place = "nowhere"
task = "thin"
run = "a"
metric = "frc_truth_area"
points = [1, 2]
reduce = "loss"
comparator = "<="
value = 2

[claims.later]
says = "a method to come"
place = "nowhere"
needs = ["method:no_such_method"]
task = "base"
run = "a"
metric = "frc_truth_area"
comparator = ">="
value = 0

[tiers.paper]
runs.a.grid.alpha = [0.1, 0.2, 0.3]
"""


def paper(text: str = FILE, tier: Any = "small") -> Paper:
    return read_paper(tomllib.loads(text), "trial", "trial.toml", tier)


def check(comparator: str, **fields: Any) -> Check:
    return Check(**({"task": "low_dose", "run": "a", "metric": "frc_truth_area", "comparator": comparator} | fields))


def record(seed: int = 0, method: str = "a", status: Any = "ok", **fields: Any) -> Record:
    trace = fields.pop("trace", [])
    return Record(
        key=f"{seed:064x}",
        status=status,
        seed=seed,
        method=method,
        method_version="1",
        device="cpu",
        epochs=trace[-1].epoch if trace else 0,
        trace=trace,
        provenance=Provenance(package_version="0", code_hash="0"),
        created="2026-01-01",
        **fields,
    )


def points(values: dict[int, float], metric: str = "frc_truth_area") -> list[TracePoint]:
    return [TracePoint(epoch=epoch, seconds=0.1 * epoch, metrics={metric: value}) for epoch, value in values.items()]


def side(**fields: Any) -> Side:
    return Side(**({"task": "low_dose", "run": "a", "metric": "frc_truth_area"} | fields))
