"""A paper's own experiments and its claims, read from one TOML file and validated.

``[paper]`` says which paper; ``[tasks.NAME]`` are its tasks, as in ``tasks/`` (and ``like`` one another);
``[runs.NAME]`` are methods with the options that the paper chose; ``[claims.ID]`` are its claims. What a claim says of
all its checks stands in the claim itself, what a check says goes before it. Under ``[tiers.paper]`` and
``[tiers.large]`` stands what of runs and claims differs there. The fields are explained in ``docs/claims.md``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator

from ptybench.errors import InvalidData, InvalidOption, UnknownName
from ptybench.specs import Spec, validation_sentence
from ptybench.tables import merge, paper_tasks
from ptybench.task import TIERS, Tier

Model = TypeVar("Model", bound=Spec)

REDUCTIONS = ("mean", "best", "worst", "range", "spread", "loss", "win_rate", "rank_correlation")
NEEDED: dict[str, tuple[str, ...]] = {
    ">": ("value",),
    ">=": ("value",),
    "<": ("value",),
    "<=": ("value",),
    "within": ("value", "tolerance"),
    "better_than": (),
    "not_worse_than": ("tolerance",),
    "close_to": ("tolerance",),
    "equals": (),
}
"""Comparator → what it cannot do without."""
ALLOWED = {"better_than": ("value",), "equals": ("tolerance",)}
"""Comparator → what it takes as well."""
COMPARATORS = tuple(NEEDED)
STRICT = frozenset({">", "<", "better_than"})
"""Comparators that do not hold on the very edge."""
BESIDE = frozenset({"better_than", "not_worse_than", "close_to", "equals", "win_rate"})
"""What is said about two runs: the other one stands behind a colon."""
ELSEWHERE = ("task", "data", "set", "epochs", "epoch", "seconds", "points", "vary")
"""In what the other run's side may differ, so that both are the same quantity."""
COSTS = {
    "seconds_per_epoch": "s",
    "ffts_per_epoch": "",
    "solver_seconds": "s",
}
"""What a claim may be about beside the metrics; less is better."""
CURVE = "frc_truth"
"""The metric that stands for the whole correlation with the truth; a claim says at which frequency."""
NEEDS = ("gpu", "data", "method", "metric", "experiment")


Values = Annotated[list[Any], Field(min_length=1)]


class RunSpec(Spec):
    """A method with its options.

    Args:
        method: name of a method, a composite or a chain.
        options: option → value.
        on: task or data → options that differ there.
        grid: option → values, for claims that are about many settings.

    """

    method: str
    options: dict[str, Any] = Field(default_factory=dict)
    on: dict[str, dict[str, Any]] = Field(default_factory=dict)
    grid: dict[str, Values] = Field(default_factory=dict)


class Side(Spec):
    """What is measured: one number a seed.

    Args:
        task: on which task.
        data: or on which real measurement.
        card: or on no run at all: a network, whose card holds the number under the dotted name that ``metric`` is.
        set: field of the task → value; of data, how they are prepared.
        run: which of the runs; several where ``reduce`` makes one number of them.
        epochs: budget; the task's own unless said otherwise.
        metric: id of a metric, ``frc_truth`` with ``frequency_per_um``, or a cost.
        frequency_per_um: where the correlation with the truth is taken, in 1/µm.
        epoch: at which epoch; at the end unless said otherwise.
        seconds: at which second of solver time.
        until: count until the metric reaches this value, linearly between checkpoints.
        counted_in: what is counted then.
        points: values of the task's ladder; of data, of ``every``.
        vary: option → values, or ``"grid"`` for the run's own grid.
        reduce: how the values of several runs, settings or points become one.
        other_metric: the second metric of a rank correlation over the epochs.

    """

    task: str | None = None
    data: str | None = None
    card: str | None = None
    set: dict[str, Any] = Field(default_factory=dict)
    run: str | Annotated[list[str], Field(min_length=1)] = ""
    epochs: Annotated[int, Field(ge=1)] | None = None
    metric: str = ""
    frequency_per_um: Annotated[float, Field(gt=0)] | None = None
    epoch: Annotated[int, Field(ge=1)] | None = None
    seconds: Annotated[float, Field(gt=0)] | None = None
    until: float | None = None
    counted_in: Literal["epochs", "seconds"] = "epochs"
    points: list[float] = Field(default_factory=list)
    vary: dict[str, Values] | Literal["grid"] = Field(default_factory=dict)
    reduce: str | None = None
    other_metric: str | None = None

    @property
    def runs(self) -> list[str]:
        """The runs, as a list."""
        return [self.run] if isinstance(self.run, str) else self.run

    @property
    def reduction(self) -> str | None:
        """How several values become one, without the other run."""
        return None if self.reduce is None else self.reduce.partition(":")[0]

    @property
    def subject(self) -> str:
        """The task's or the measurement's name."""
        return self.task or self.data or self.card or ""

    @property
    def single(self) -> bool:
        """Whether there is one run a seed."""
        settings = math.inf if self.vary == "grid" else math.prod(map(len, self.vary.values()))
        return len(self.runs) * max(1, len(self.points)) * settings == 1

    @model_validator(mode="after")
    def _one_number(self) -> Side:
        if [self.task, self.data, self.card].count(None) != 2:
            raise ValueError("expected either a task, or data, or a card")
        if self.card is not None:
            own = {name: getattr(self, name) for name in Side.model_fields if name not in ("card", "metric")}
            if own != {name: Side.model_fields[name].get_default(call_default_factory=True) for name in own}:
                raise ValueError("a card belongs to a network and to no run: give card, metric and a comparator")
            return self
        whole = self.epoch is self.seconds is self.until is None
        if sum(one is not None for one in (self.epoch, self.seconds, self.until)) > 1:
            raise ValueError("expected one of epoch, seconds and until")
        if self.metric in COSTS and not whole:
            raise ValueError(f"{self.metric} belongs to the whole run: leave out epoch, seconds and until")
        if self.counted_in != "epochs" and self.until is None:
            raise ValueError("counted_in is for until: say which value is to be reached")
        if (self.metric == CURVE) != (self.frequency_per_um is not None):
            raise ValueError(f"the metric {CURVE} and frequency_per_um go together")
        if not self.single and self.reduction is None:
            raise ValueError("there are several runs, settings or points: say in reduce how they become one number")
        if self.reduction == "loss" and (len(self.points) < 2 or self.vary or len(self.runs) > 1):
            raise ValueError("a loss is that of one run from the first of the points to the last: give two or more")
        if self.reduction == "win_rate" and (not self.vary or len(self.points) > 1 or len(self.runs) > 1):
            raise ValueError("a win rate is that over the settings of one run, at one point: say in vary which")
        if self.reduction == "rank_correlation":
            if self.other_metric is None or not self.single or not whole:
                raise ValueError("a rank correlation is that of metric and other_metric over all epochs of one run")
            for name in (self.metric, self.other_metric):
                if name == CURVE or name in COSTS:
                    raise ValueError(f"a rank correlation is that of two metrics over the epochs, and {name} is none")
        elif self.other_metric is not None:
            raise ValueError("other_metric is for reduce = 'rank_correlation'")
        elif self.single and self.reduction is not None:
            raise ValueError(f"there is nothing for reduce = {self.reduce!r} to reduce: give points or vary")
        return self


class Check(Side):
    """A side, and what is to hold of it.

    Args:
        comparator: ``>``, ``>=``, ``<``, ``<=`` or ``within`` a value; or ``better_than:RUN``,
            ``not_worse_than:RUN``, ``close_to:RUN``, ``equals:RUN``.
        value: what it is compared with; of ``better_than``, by how much at least.
        tolerance: how far off it may be, of ``within``, ``not_worse_than``, ``close_to`` and ``equals``.
        per: run by whose own number the number is divided.
        against: fields in which the other run's side differs.
        published: the paper's own number, in words.

    """

    comparator: str
    value: float | None = None
    tolerance: Annotated[float, Field(ge=0)] | None = None
    per: str | None = None
    against: dict[str, Any] = Field(default_factory=dict)
    published: str = ""

    @property
    def relation(self) -> str:
        """The comparator without the other run."""
        return self.comparator.partition(":")[0]

    @property
    def rival(self) -> str | None:
        """The other run, of the comparator, the ratio or the win rate."""
        said = [text.partition(":")[2] for text in (self.comparator, self.reduce or "")]
        return next((name for name in (*said, self.per) if name), None)

    @property
    def side(self) -> Side:
        """What is measured."""
        return Side(**{name: getattr(self, name) for name in Side.model_fields})

    @property
    def other(self) -> Side | None:
        """What it is measured against, where that is another run."""
        if self.rival is None:
            return None
        own = {name: getattr(self, name) for name in Side.model_fields} | {"run": self.rival}
        return Side(**(own | self.against))

    @model_validator(mode="after")
    def _complete(self) -> Check:
        known, name = self.relation, self.comparator.partition(":")[2]
        if known not in COMPARATORS:
            return self  # said with the nearest name where names are checked
        if (known in BESIDE) != bool(name):
            raise ValueError(f"the comparator is {self.comparator!r}, write {known}{':RUN' if known in BESIDE else ''}")
        if (self.reduction in BESIDE) != bool((self.reduce or "").partition(":")[2]):
            raise ValueError(f"reduce is {self.reduce!r}, write win_rate:RUN")
        if sum(map(bool, (name, self.reduction == "win_rate", self.per))) > 1:
            raise ValueError("a comparator with a run, a win rate and per each need the other side: take one of them")
        for field in ("value", "tolerance"):
            given = getattr(self, field) is not None
            if field in NEEDED[known] and not given:
                raise ValueError(f"{known} needs a {field}")
            if given and field not in (*NEEDED[known], *ALLOWED.get(known, ())):
                raise ValueError(f"{known} takes no {field}: leave it out")
        if known == "better_than" and (self.value or 0.0) < 0:
            raise ValueError("better_than takes a value of at least 0: for less write not_worse_than with a tolerance")
        if self.against and self.rival is None:
            raise ValueError("against says in what the other run differs, and there is none")
        if strange := sorted(set(self.against) - set(ELSEWHERE)):
            raise UnknownName("field of against", strange[0], ELSEWHERE)
        if self.card is not None and self.rival is not None:
            raise ValueError("a card's number is compared with a value: take >, >=, <, <= or within")
        if self.reduction == "rank_correlation" and (self.per is not None or known.endswith("_than")):
            raise ValueError("no rank correlation is better than another or a share of it: compare it with a value")
        if self.rival is not None:
            self._other_exists()
        return self

    def _other_exists(self) -> None:
        try:
            _ = self.other
        except ValidationError as problem:
            raise ValueError(f"against: {validation_sentence(problem)}") from None


class Claim(Spec):
    """A sentence of a paper, and the checks that all have to hold.

    Args:
        id: its short name.
        says: the claim, in our words.
        place: where it stands in the paper.
        needs: what a machine must have: ``gpu``, ``data:NAME``, ``method:NAME``, ``metric:ID`` (which may come later),
            or ``experiment: what ptybench has not got``.
        note: what a reader has to know of how it is tested.
        checks: what has to hold.

    """

    id: str
    says: str
    place: str
    needs: list[str] = Field(default_factory=list)
    note: str = ""
    checks: list[Check] = Field(default_factory=list)


class About(Spec):
    """Which paper."""

    title: str
    authors: str
    journal: str
    year: int
    doi: str
    note: str = ""


@dataclass(frozen=True)
class Paper:
    """A paper with its experiments and claims, resolved for one tier.

    Args:
        name: the file's name.
        about: title, authors, DOI, …
        tasks: name → the tables of a task, for :func:`ptybench.task.task_of`.
        runs: name → method with its options.
        claims: id → claim.
        where: the file, for messages.

    """

    name: str
    about: About
    tasks: Mapping[str, dict[str, Any]]
    runs: Mapping[str, RunSpec]
    claims: Mapping[str, Claim]
    where: str


def read_paper(raw: Mapping[str, Any], name: str, where: str, tier: Tier = "small") -> Paper:
    """Return the paper of a TOML document's tables.

    Args:
        raw: the tables.
        name: the paper's short name.
        where: the file, for messages.
        tier: which tier.

    Raises:
        InvalidData: where a field is missing, misspelt or out of range.
        UnknownName: where a name is none, with the nearest.

    """
    tables: dict[str, Any] = deepcopy(dict(raw))
    unknown = set(tables) - {"paper", "tasks", "runs", "claims", "tiers"}
    if unknown:
        raise UnknownName(f"table of {where}", sorted(unknown)[0], ["paper", "tasks", "runs", "claims", "tiers"])
    tiers = tables.pop("tiers", {})
    for other in set(tiers) - set(TIERS):
        raise UnknownName("tier", other, TIERS)
    merge(tables, tiers.get(tier, {}))
    if "paper" not in tables:
        raise InvalidData(f"{where} holds no [paper]: give title, authors, journal, year and doi")
    about = _valid(About, tables["paper"], f"{where}, paper")
    runs = {key: _valid(RunSpec, one, f"{where}, run {key}") for key, one in tables.get("runs", {}).items()}
    claims = {key: _claim(key, one, where) for key, one in tables.get("claims", {}).items()}
    paper = Paper(name, about, paper_tasks(tables, where), runs, claims, where)
    for claim in claims.values():
        _check_names(paper, claim)
    return paper


def _claim(key: str, raw: dict[str, Any], where: str) -> Claim:
    """A claim whose checks have been given all that it says of them in common."""
    own = {name: raw.pop(name) for name in list(raw) if name in Claim.model_fields}
    common = {name: raw.pop(name) for name in list(raw) if name in Check.model_fields}
    if raw:
        raise UnknownName(f"field of claim {key}", sorted(raw)[0], [*Claim.model_fields, *Check.model_fields])
    checks = own.pop("checks", [{}] if common else [])
    place = f"{where}, claim {key}"
    if "against" in common and checks and not any(_beside(common | one) for one in checks):
        raise InvalidData(f"{place}: against says in what the other run differs, and no check has one")
    if not isinstance(checks, list) or not all(isinstance(one, dict) for one in checks):
        raise InvalidData(f"{place}: expected checks to be a list of tables")
    found = [
        _valid(Check, _shared(common, one) | one, place + (f", check {number}" if len(checks) > 1 else ""))
        for number, one in enumerate(checks, 1)
    ]
    claim = _valid(Claim, own | {"id": key}, place).model_copy(update={"checks": found})
    if not found and not any(need.startswith("experiment:") for need in claim.needs):
        raise InvalidData(f"{place}: expected checks, or in needs the experiment that ptybench has not got")
    return claim


def _shared(common: dict[str, Any], check: dict[str, Any]) -> dict[str, Any]:
    """What a claim says of a check: of the other run only where there is one."""
    return common if _beside(common | check) else {name: one for name, one in common.items() if name != "against"}


def _beside(check: dict[str, Any]) -> bool:
    """Whether a check has another run."""
    return ":" in str(check.get("comparator", "")) + str(check.get("reduce", "")) or "per" in check


def _valid(model: type[Model], raw: Any, where: str) -> Model:
    if isinstance(raw, dict):
        for name in raw:
            if name not in model.model_fields:
                raise UnknownName(f"field of {where}", name, model.model_fields)
    try:
        return model.model_validate(raw)
    except ValidationError as problem:
        raise InvalidData(f"{where}: {validation_sentence(problem)}") from None


def with_options(paper: Paper, settings: Mapping[str, Any]) -> Paper:
    """Return a paper with other options of its runs.

    Args:
        paper: the paper.
        settings: ``RUN.OPTION`` → value, on every task.

    Raises:
        UnknownName: where there is no such run.
        InvalidOption: where a key names no run.

    """
    runs = dict(paper.runs)
    for key, value in settings.items():
        name, _, option = key.partition(".")
        if not option:
            raise InvalidOption(f"--set: expected RUN.OPTION=VALUE such as pine.rho=0.3, got the key {key!r}")
        if name not in runs:
            raise UnknownName("run", name, runs)
        on = {task: own | {option: value} for task, own in runs[name].on.items()}
        runs[name] = runs[name].model_copy(update={"options": runs[name].options | {option: value}, "on": on})
    return replace(paper, runs=runs)


# --- names -----------------------------------------------------------------------------------------------------------


def _check_names(paper: Paper, claim: Claim) -> None:
    """Raise where a claim names what does not exist, unless its needs say that it is yet to come."""
    from ptybench.registry import list_datasets, list_tasks
    from ptybench.scoring.metrics import METRICS

    later = {kind: set[str]() for kind in NEEDS}
    for need in claim.needs:
        kind, _, name = need.partition(":")
        if kind.strip() not in NEEDS:
            raise UnknownName(f"need of claim {claim.id}", kind.strip(), NEEDS)
        later[kind.strip()].add(name.strip())

    def known(what: str, name: str, names: Iterable[str]) -> None:
        if name not in (names := list(names)):
            raise UnknownName(f"{what} of claim {claim.id}", name, names)

    tasks = [*paper.tasks, *(one.name for one in list_tasks())]
    metrics = [*METRICS, *COSTS, CURVE, *later["metric"]]
    for check in claim.checks:
        known("comparator", check.relation, COMPARATORS)
        for side in filter(None, (check.side, check.other)):
            if side.task is not None:
                known("task", side.task, tasks)
            if side.data is not None and not re.search(r"[./]", side.data):
                known("dataset", side.data, [*(one.name for one in list_datasets()), *later["data"]])
            if side.card is not None:
                continue
            for run in side.runs:
                known("run", run, paper.runs)
            for metric in filter(None, (side.metric or "", side.other_metric)):
                known("metric", metric, metrics)
            if not side.metric:
                raise InvalidData(f"{paper.where}, claim {claim.id}: the field 'metric' is missing")
            if side.reduction is not None:
                known("reduction", side.reduction, REDUCTIONS)


def load_paper(source: str | Path, tier: Tier = "small") -> Paper:
    """Return a paper of the project by its name, or of a TOML file.

    Raises:
        UnknownName: where there is no such paper.
        InvalidData: where its file is missing or not valid.

    """
    from ptybench.registry import paper_files, read_toml

    papers, text = paper_files(), str(source)
    if text in papers:
        where = f"tasks/papers/{text}.toml"
        return read_paper(read_toml(papers[text], where), text, where, tier)
    path = Path(source)
    if path.suffix != ".toml":
        raise UnknownName("paper", text, papers, hint="or give the FILE.toml of a paper of your own")
    return read_paper(read_toml(path, str(path)), path.stem, str(path), tier)
