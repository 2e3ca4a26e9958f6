"""What ``leaderboard``, ``table`` and ``map`` share: which records they show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import Group, Parameter

from ptybench.cli.options import Domain, Plugins, Tier
from ptybench.errors import InvalidData

if TYPE_CHECKING:
    from ptybench.records import Record

DEFAULT_RESULTS = Path("runs")


@Parameter(name="*", group=Group("The records", sort_key=1))
@dataclass(frozen=True)
class Recorded:
    """Which records are shown."""

    domain: Domain = "dev"
    tier: Tier = "small"
    plugin: Plugins = None
    results: Path | None = None
    "Folder of records; the published ones and ./runs unless given."

    def read(self) -> Iterator[Record]:
        """Yield all records there are, also those of other domains and tiers; see :func:`read_records`."""
        return read_records(self.results)


DEFAULT_RECORDS = Recorded()


def read_records(results: Path | None) -> Iterator[Record]:
    """Yield the records of a folder; without one the published ones and those of ``./runs``.

    Raises:
        InvalidData: where there is no such folder.

    """
    from ptybench.records import Store

    if results is None:
        yield from Store.published().records()
        results = DEFAULT_RESULTS
    elif not results.is_dir():
        raise InvalidData(f"there is no results folder {results}: give the --results of `ptybench run`")
    yield from Store(results).records()
