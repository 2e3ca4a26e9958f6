"""From records to results: what was measured on both sides of every check, and the verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ptybench.claims.cells import Laboratory, Member, MissingError
from ptybench.claims.paper import Check, Claim, Paper, Side
from ptybench.claims.reading import Reading, read, reduced, win_rate
from ptybench.claims.verdict import Outcome, Verdict, claim_verdict, outcome
from ptybench.records import Record
from ptybench.runner.planning import Planned

Readings = dict[int, Reading | None]
Records = Mapping[str, Record]


@dataclass(eq=False)
class Trial:
    """A check with the runs that it needs.

    Args:
        check: what is to hold.
        own: runs of its own side.
        other: runs of the other one.

    """

    check: Check
    own: list[Member]
    other: list[Member] | None

    @property
    def cells(self) -> list[Planned]:
        """All its cells."""
        return [cell for member in [*self.own, *(self.other or [])] for cell in member.cells.values()]


@dataclass(eq=False)
class Case:
    """A claim with the runs that it needs; ``missing`` says why there are none."""

    claim: Claim
    trials: list[Trial] = field(default_factory=list)
    missing: str | None = None


def cases(laboratory: Laboratory, claims: Sequence[str]) -> list[Case]:
    """Settle what every claim needs.

    Raises:
        UsageError: where a check does not fit its task or its method.

    """
    found = []
    for name in claims:
        claim = laboratory.paper.claims[name]
        try:
            laboratory.need(claim)
            trials = [Trial(check, *laboratory.sides(check)) for check in claim.checks]
            found.append(Case(claim, trials))
        except MissingError as error:
            found.append(Case(claim, missing=str(error)))
    return found


def cells_of(found: Sequence[Case]) -> list[Planned]:
    """Return every cell once, seeds varying slowest, so that a run that is stopped early has something of all."""
    cells = {cell.key: cell for case in found for trial in case.trials for cell in trial.cells}
    return sorted(cells.values(), key=lambda cell: cell.seed)


@dataclass(frozen=True, eq=False)
class Measured:
    """What came of a check.

    Args:
        trial: the check and its runs.
        own: seed → what was measured; divided by the other run's where the check says ``per``.
        other: seed → the other run's; ``None`` where there is none.
        outcome: the verdict.

    """

    trial: Trial
    own: Readings
    other: Readings | None
    outcome: Outcome


@dataclass(frozen=True, eq=False)
class Result:
    """What came of a claim."""

    claim: Claim
    verdict: Verdict
    measured: list[Measured] = field(default_factory=list)
    missing: str | None = None


@dataclass(frozen=True, eq=False)
class Results:
    """What came of a paper's claims.

    Args:
        paper: the paper.
        tier, domain, seeds: where it was measured.
        results: one for each claim.
        records: key → record, of every cell that has one.
        stale: how many of these were made by other code than today's.

    """

    paper: Paper
    tier: str
    domain: str
    seeds: list[int]
    results: list[Result]
    records: Records
    stale: int = 0


def judged(laboratory: Laboratory, found: Sequence[Case], records: Records, stale: int = 0) -> Results:
    """Judge every claim by the records of its cells."""
    results = [_result(case, records) for case in found]
    return Results(
        laboratory.paper, laboratory.tier, laboratory.domain, list(laboratory.seeds), results, records, stale
    )


def _result(case: Case, records: Records) -> Result:
    if case.missing is not None:
        return Result(case.claim, "not testable here", missing=case.missing)
    measured = [measure(trial, records) for trial in case.trials]
    return Result(case.claim, claim_verdict([one.outcome for one in measured]), measured)


def measure(trial: Trial, records: Records) -> Measured:
    """Measure both sides of a check on every seed, and judge it."""
    check = trial.check
    own, other = _values(trial.own, check.side, records), None
    if trial.other is not None and check.other is not None:
        other = _values(trial.other, check.other, records)
    seeds = list(trial.own[0].cells)
    if check.reduction == "win_rate" and other is not None:
        assert trial.other is not None
        paired = [one.settings for one in trial.own] == [one.settings for one in trial.other]
        rates = {seed: win_rate(own[seed], other[seed], check.side, paired) for seed in seeds}
        return Measured(trial, rates, None, outcome(check, rates, None))
    mine = {seed: reduced(own[seed], check.side) for seed in seeds}
    theirs = None if other is None or check.other is None else {s: reduced(other[s], check.other) for s in seeds}
    if check.per is not None and theirs is not None:
        ratios = {seed: _ratio(mine[seed], theirs[seed]) for seed in seeds}
        return Measured(trial, ratios, None, outcome(check, ratios, None))
    return Measured(trial, mine, theirs, outcome(check, mine, theirs))


def _ratio(mine: Reading | None, theirs: Reading | None) -> Reading | None:
    return None if mine is None or theirs is None else mine / theirs


def _values(members: Sequence[Member], side: Side, records: Records) -> dict[int, list[Reading | None]]:
    """Seed → what each member says."""
    return {seed: [read(records.get(member.cells[seed].key), side) for member in members] for seed in members[0].cells}
