"""Run studies, several at a time, and make their presets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ptybench import registry
from ptybench.errors import PtybenchError
from ptybench.presets import Preset, Sampler, preset_path, read_preset, write_preset
from ptybench.records import Provenance, TracePoint
from ptybench.runner.job import sentence
from ptybench.runner.provenance import package_version, provenance, threads
from ptybench.runner.run import interruptible
from ptybench.runner.summary import changed
from ptybench.runner.supervisor import Nursery
from ptybench.tuning.journal import Journal
from ptybench.tuning.study import Study, Trial
from ptybench.tuning.trials import TIMEOUT_SECONDS, Objects, Workers, run_trial


@dataclass(frozen=True)
class Standing:
    """Where a study stands.

    Args:
        study: which study.
        trials: finished trials.
        object: place of the object under way.
        epoch: epochs done with it.
        seconds: time of a trial, by the pace so far; ``None`` where nothing is known yet.

    """

    study: Study
    trials: list[Trial]
    object: int = 0
    epoch: int = 0
    seconds: float | None = None

    @property
    def share(self) -> float:
        """Share of the study that is done."""
        under_way = (self.object + self.epoch / self.study.epochs) / len(self.study.seeds)
        return min(1.0, (len(self.trials) + min(under_way, 1.0)) / max(self.study.trials, 1))

    @property
    def remaining_seconds(self) -> float | None:
        """Time still to come, by the pace so far."""
        return None if self.seconds is None else self.seconds * self.study.trials * (1 - self.share)


@dataclass(frozen=True)
class Tuned:
    """What came of a study.

    Args:
        study: which study.
        preset: its preset; ``None`` where there is none.
        path: where the preset lies.
        refused: why there is none, in one sentence.
        trials: the trials.
        resumed: how many of them were there before.

    """

    study: Study
    preset: Preset | None = None
    path: Path | None = None
    refused: str | None = None
    trials: Sequence[Trial] = ()
    resumed: int = 0


@dataclass(frozen=True)
class _Setting:
    """What holds for all studies of one call."""

    results: Path
    out: Path | None
    force: bool
    workers: Workers
    progress: Callable[[Standing], None]


def _silent(_: object) -> None:
    """Tell nobody."""


def tune(
    studies: Sequence[Study],
    *,
    results: str | Path = "./runs",
    out: Path | None = None,
    jobs: int = 1,
    force: bool = False,
    timeout: float = TIMEOUT_SECONDS,
    progress: Callable[[Standing], None] = _silent,
    on_result: Callable[[Tuned], None] = _silent,
) -> list[Tuned]:
    """Run studies to their presets; one that fails stops no other.

    Args:
        studies: from :func:`ptybench.tuning.study.make_study`.
        results: results folder, for the trials; those that are there are not run again.
        out: folder of presets; the default is that of the project.
        jobs: studies at a time; the trials of one come one after another.
        force: forget the trials that are there.
        timeout: seconds after which a reconstruction has failed.
        progress: told of every epoch, from several threads.
        on_result: told of every study as it ends, from several threads.

    Raises:
        KeyboardInterrupt: on Ctrl-C and on SIGTERM; finished trials are kept.

    """
    stop = threading.Event()
    share = max(1, threads() // jobs) if jobs > 1 else None

    with Nursery(share, many=True) as nursery, interruptible():
        setting = _Setting(Path(results), out, force, Workers(nursery, timeout, stop), progress)

        def one(study: Study) -> Tuned:
            try:
                tuned = _tune(study, setting)
            except PtybenchError as error:
                tuned = Tuned(study, refused=str(error))
            except Exception as error:
                tuned = Tuned(study, refused=f"{study.title} cannot be tuned: {sentence(error)}")
            on_result(tuned)
            return tuned

        if jobs == 1:
            return [one(study) for study in studies]
        with ThreadPoolExecutor(jobs) as pool:
            futures = [pool.submit(one, study) for study in studies]
            try:
                return [future.result() for future in futures]
            except BaseException:
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise


def _tune(study: Study, setting: _Setting) -> Tuned:
    today = provenance(registry.plugin_paths())
    if study.trials == 0:
        preset = make_preset(study, [], today)
        return Tuned(study, preset, _kept(preset, setting.out) or write_preset(preset, setting.out))
    with Journal(study, setting.results, today, setting.force) as journal:
        resumed = len(journal.trials)
        if resumed < study.trials:
            _search(study, journal, setting)
        trials = journal.trials[: study.trials]
        preset = make_preset(study, trials, journal.provenance)
    return Tuned(study, preset, write_preset(preset, setting.out), None, trials, min(resumed, len(trials)))


def _kept(preset: Preset, out: Path | None) -> Path | None:
    """Where the same preset lies already; nothing was measured for it, so that another date would say nothing."""
    path = preset_path(preset.method, preset.task, preset.budget.tier, out)
    try:
        old = read_preset(path)
    except PtybenchError:
        return None
    return (
        path if old.model_copy(update={"provenance": preset.provenance, "created": preset.created}) == preset else None
    )


def _search(study: Study, journal: Journal, setting: _Setting) -> None:
    """Try one set of options after another, until the budget is spent."""
    objects = Objects(study)
    setting.progress(_standing(study, journal.trials))
    while len(journal.trials) < study.trials:
        if setting.workers.stop.is_set():
            raise KeyboardInterrupt
        number, settings = len(journal.trials), study.next_settings(journal.trials)
        trial = _known(study, settings, journal.trials)
        if trial is None:
            trials, begun = list(journal.trials), time.monotonic()

            def tell(place: int, step: TracePoint, trials: list[Trial] = trials, begun: float = begun) -> None:
                setting.progress(_standing(study, trials, place, step.epoch, time.monotonic() - begun))

            trial = run_trial(study, settings, number, objects, setting.workers, tell)
        journal.add(trial)
        setting.progress(_standing(study, journal.trials))


def _standing(
    study: Study, trials: list[Trial], place: int = 0, epoch: int = 0, elapsed: float | None = None
) -> Standing:
    timed = [trial.seconds for trial in trials if trial.same_as is None]
    seconds: float | None
    if timed:
        seconds = sum(timed) / len(timed)
    else:  # by what the first trial has done so far
        done = (place + epoch / study.epochs) / len(study.seeds)
        seconds = elapsed / done if elapsed is not None and done > 0 else None
    return Standing(study, list(trials), place, epoch, seconds)


def _known(study: Study, settings: dict[str, object], trials: Sequence[Trial]) -> Trial | None:
    """The outcome of an earlier trial with the same options: it counts, and need not be waited for."""
    options = study.options(settings)
    for trial in trials:
        if study.options(trial.settings) == options:
            changes = {"trial": len(trials), "settings": settings, "same_as": trial.trial, "seconds": 0.0}
            return trial.model_copy(update=changes)
    return None


def make_preset(study: Study, trials: Sequence[Trial], begun_by: Provenance) -> Preset:
    """Return the preset of a study's trials; the defaults where there is nothing to tune or all trials failed.

    Args:
        study: which study.
        trials: its trials, the defaults first.
        begun_by: the code that began it.

    """
    best = study.best(trials) if trials else None
    options = study.options(best.settings) if best is not None else study.defaults
    searched = {key: dimension.document() for key, dimension in study.space.items()}
    return Preset(
        task=study.task.name,
        task_version=study.task.version,
        method=study.method,
        method_version=study.method_version,
        options=options,
        changed=changed(options, study.defaults),
        budget=study.budget,
        sampler=Sampler(
            name=study.sampler,
            version=f"optuna {package_version('optuna')}" if study.sampler == "tpe" else None,
            seed=study.sampler_seed if study.sampler == "tpe" else None,
            space=searched or _grid_values(study),
        ),
        metric=study.metric,
        direction=study.direction,
        default_value=trials[0].value if trials else None,
        value=best.value if best is not None else None,
        trial=best.trial if best is not None else 0,
        values=[trial.value for trial in trials],
        other_code=sum(trial.code_hash != begun_by.code_hash for trial in trials),
        provenance=begun_by,
        created=trials[-1].created if trials else datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _grid_values(study: Study) -> dict[str, list[object]]:
    found: dict[str, list[object]] = {}
    for point in study.grid or []:
        for key, value in point.items():
            if value not in found.setdefault(key, []):
                found[key].append(value)
    return found
