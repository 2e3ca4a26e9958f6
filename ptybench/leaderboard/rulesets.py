"""Rulesets: which options a method may have on a board.

*default*: every method with its default options, on every task. *tuned*: every method with its preset for the task,
which ``ptybench tune`` found on other objects; a method without one, or with nothing to tune, stands there with its
defaults and is marked. Controls are on both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ptybench.leaderboard.scale import CONTROLS
from ptybench.presets import Preset, TuningBudget, current_task_version, load_preset
from ptybench.records import Record

RulesetName = Literal["default", "tuned"]
RULESETS: tuple[RulesetName, ...] = ("default", "tuned")
UNTUNED, NOTHING, STALE = "untuned", "nothing to tune", "stale preset"


@dataclass(frozen=True)
class Ruleset:
    """What the methods of a board are held to.

    Args:
        name: ``default`` or ``tuned``.
        defaults: method → default options, of the methods that are known here.
        presets: method → preset, where there is one.
        marks: method → what a reader has to know about its options.

    """

    name: RulesetName
    defaults: Mapping[str, Mapping[str, Any]]
    presets: Mapping[str, Preset] = field(default_factory=dict)
    marks: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        name: RulesetName,
        defaults: Mapping[str, Mapping[str, Any]],
        task: str,
        tier: str = "small",
        folder: Path | None = None,
    ) -> Ruleset:
        """Return the ruleset for the methods that ``defaults`` knows.

        Args:
            name: ``default`` or ``tuned``.
            defaults: method → default options.
            task: name of the task.
            tier: tier of the task.
            folder: folder of presets; the default is that of the project.

        Raises:
            InvalidData: where a preset cannot be read.

        """
        if name == "default":
            return cls(name, defaults)
        found = {method: load_preset(method, task, tier, folder) for method in defaults if method not in CONTROLS}
        presets = {method: preset for method, preset in found.items() if preset is not None}
        marks = {method: _mark(preset) for method, preset in found.items()}
        return cls(name, defaults, presets, {method: mark for method, mark in marks.items() if mark})

    def allows(self, record: Record) -> bool:
        """Whether a record's options are the ruleset's; controls are allowed always, unknown methods never."""
        if record.method in CONTROLS:
            return True
        standard = self.defaults.get(record.method)
        if standard is None:
            return False
        preset = self.presets.get(record.method)
        wanted = standard if preset is None else completed(preset.options, standard)
        return completed(record.options, standard) == wanted

    def notes(self, methods: Iterable[str]) -> list[str]:
        """What a reader of a board with these methods has to know, one sentence each."""
        if self.name == "default":
            return ["Ruleset default: every method with its default options."]
        shown = sorted(set(methods) - set(CONTROLS))
        budgets: dict[str, list[str]] = {}
        for method in shown:
            if method in self.presets and self.presets[method].budget.trials:
                budgets.setdefault(budget_words(self.presets[method].budget), []).append(method)
        about = "Ruleset tuned: every method with its preset for this task, tuned on other objects of the domain dev"
        notes = [f"{about}: {next(iter(budgets))}." if len(budgets) == 1 else f"{about}."]
        if len(budgets) > 1:
            told = "; ".join(f"{', '.join(names)}: {words}" for words, names in budgets.items())
            notes.append(f"The tuning budgets differ, so that the board is not fair: {told}.")
        for mark, words in (
            (UNTUNED, "have no preset and stand with their defaults"),
            (NOTHING, "have nothing to tune"),
        ):
            names = [method for method in shown if self.marks.get(method) == mark]
            if names:
                notes.append(f"{words[0].upper() + words[1:]}: {', '.join(names)}.")
        return notes + [reason + "." for method in shown if (reason := self._stale(method))]

    def _stale(self, method: str) -> str | None:
        preset = self.presets.get(method)
        return None if preset is None else stale_reason(preset)


def completed(options: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return resolved options with those that the method has been given since, which older records do not name.

    Example:
        >>> completed({"alpha": 0.5}, {"alpha": 1.0, "batch": 1})
        {'alpha': 0.5, 'batch': 1}

    """
    return {**defaults, **options}


def budget_words(budget: TuningBudget) -> str:
    """Return a tuning budget in words.

    Example:
        >>> budget_words(TuningBudget(trials=20, seeds=[1000, 1001], epochs=200, tier="small", point=0.375))
        '20 trials on the seeds 1000, 1001 of 200 epochs each, tier small, ladder at 0.375'

    """
    seeds = ", ".join(map(str, budget.seeds))
    point = "" if budget.point is None else f", ladder at {budget.point:g}"
    return f"{budget.trials} trials on the seeds {seeds} of {budget.epochs} epochs each, tier {budget.tier}{point}"


def stale_reason(preset: Preset) -> str | None:
    """Return why a preset is stale in one sentence; ``None`` where it is not, or its method is not known here."""
    from ptybench.errors import PtybenchError
    from ptybench.registry import resolve_method

    try:
        version = resolve_method(preset.method).version
    except PtybenchError:
        return None
    return preset.stale(version, current_task_version(preset.task))


def _mark(preset: Preset | None) -> str:
    if preset is None:
        return UNTUNED
    if preset.budget.trials == 0:
        return NOTHING
    return STALE if stale_reason(preset) else ""
