"""Many cells at once: each subject and each method is settled once, then all are combined.

A cell of a hundred thousand costs a few microseconds that way. Its identity and key are those of
:func:`ptybench.runner.cells.plan`, to the byte: the canonical JSON of an identity is put together from the texts of its
fields, most of which are the same for many cells.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

from ptybench.records import canonical_json
from ptybench.runner.cells import Conditions, Plan, Subject, folder_name, plan_cell

if TYPE_CHECKING:
    from ptybench.registry import ResolvedMethod


@dataclass(frozen=True, slots=True)
class Planned:
    """One cell of many: where it is on each axis, and its key.

    Args:
        subject: the task at one point, or the data.
        method: the method with its options.
        seed: the seed.
        conditions: device, budget, …
        key: SHA-256 of the cell's identity.

    """

    subject: Subject
    method: ResolvedMethod
    seed: int
    conditions: Conditions
    key: str

    @property
    def folder(self) -> str:
        """The cell's folder inside a results folder."""
        task = self.subject.task
        tier = None if task is None else task.tier
        return folder_name(self.subject.name, self.method.name, self.subject.domain, tier, self.seed, self.key)

    def plan(self) -> Plan:
        """The cell as it is run."""
        return plan_cell(self.subject, self.method, self.conditions, self.seed)


class Plans(Sequence[Plan]):
    """The plans of many cells, each made when it is asked for."""

    def __init__(self, cells: Sequence[Planned]) -> None:
        self._cells = cells

    def __len__(self) -> int:
        return len(self._cells)

    @overload
    def __getitem__(self, index: int) -> Plan: ...

    @overload
    def __getitem__(self, index: slice) -> Plans: ...

    def __getitem__(self, index: int | slice) -> Plan | Plans:
        if isinstance(index, slice):
            return Plans(self._cells[index])
        return self._cells[index].plan()


Axis = tuple[Subject, Sequence["ResolvedMethod"]]


def combine(axes: Sequence[Axis], seeds: Sequence[int], conditions: Conditions) -> list[Planned]:
    """Return every cell once: each seed with each subject with each of its methods.

    Seeds vary slowest, so that a sweep that is stopped early has something of everything.

    Args:
        axes: subjects, each with its methods.
        seeds: the seeds.
        conditions: what holds for all cells.

    Raises:
        UsageError: where a method and a subject do not go together, or a seed is negative.

    """
    cells: dict[str, Planned] = {}
    written = {id(method): canonical_json(method.options) for _, methods in axes for method in methods}
    by_subject = [(subject, list(_identities(subject, methods, written, conditions))) for subject, methods in axes]
    for seed in seeds:
        for subject, identities in by_subject:
            for method, before, after in identities:
                key = hashlib.sha256(f"{before}{seed}{after}".encode()).hexdigest()
                cells.setdefault(key, Planned(subject, method, seed, conditions, key))
    return list(cells.values())


def _identities(
    subject: Subject, methods: Iterable[ResolvedMethod], written: dict[int, str], conditions: Conditions
) -> Iterator[tuple[ResolvedMethod, str, str]]:
    """Every method with the canonical JSON of its cells, before and after the seed."""
    settled: dict[bool, dict[str, str]] = {}  # what controls are given differs
    for method in methods:
        fields = settled.get(method.needs_truth)
        if fields is None:
            cell = plan_cell(subject, method, conditions, seed=0).cell
            fields = {name: canonical_json(value) for name, value in cell.identity.items()}
            settled[method.needs_truth] = fields
        fields["method"] = json.dumps(method.name, ensure_ascii=False)
        fields["method_version"] = json.dumps(method.version, ensure_ascii=False)
        fields["options"] = written[id(method)]
        fields["weights"] = canonical_json(method.weights)
        names = sorted(fields)
        place = names.index("seed")
        before = ",".join(f'"{name}":{fields[name]}' for name in names[:place])
        after = ",".join(f'"{name}":{fields[name]}' for name in names[place + 1 :])
        yield method, f'{{{before},"seed":', f",{after}}}"
