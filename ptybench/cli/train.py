"""``ptybench train``: networks, from a recipe to weights with a card."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ptybench.cli.bars import COUNT_COLUMNS, Bars
from ptybench.cli.options import Json, parse_duration, parse_settings
from ptybench.cli.output import Output
from ptybench.cli.progress import LINE_SECONDS, clock

if TYPE_CHECKING:
    from ptybench.training.loop import Standing


def train(
    network: str,
    /,
    *,
    config: Annotated[str, Parameter("--config", help="A recipe by its name, or a TOML file.")],
    out: Annotated[
        Path | None, Parameter("--out", help="Folder of checkpoint, weights and card; runs/training/NAME.")
    ] = None,
    data: Annotated[
        Path, Parameter("--data", help="Folder of the training images, which are drawn where they are not there.")
    ] = Path("runs/training/images"),
    device: Annotated[str, Parameter("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
    jobs: Annotated[int | None, Parameter("--jobs", help="Processes that draw images; one a processor.")] = None,
    stop_after: Annotated[
        str | None, Parameter("--stop-after", help="Stop after so long, such as 10m, to go on another time.")
    ] = None,
    set_: Annotated[
        list[str] | None, Parameter("--set", negative="", help="KEY=VALUE: a field of the recipe; repeatable.")
    ] = None,
    force: Annotated[
        bool, Parameter("--force", negative="", show_default=False, help="Begin anew, whatever is there.")
    ] = False,
    json: Json = False,
) -> None:
    """Train a network, into safetensors with a card; the same command goes on where it was stopped.

    Args:
        network: what to train: dncnn.

    """
    output = Output(json)
    with output.reserved():
        from ptybench.training.loop import train_network
        from ptybench.training.recipe import read_recipe

        recipe = read_recipe(network, config, parse_settings(set_))
        name = f"{network}_{Path(config).stem}"
        with TrainingLine(name) as line:
            done = train_network(
                recipe,
                name,
                out or Path("runs/training") / name,
                data,
                device=device,
                jobs=jobs,
                seconds=math.inf if stop_after is None else parse_duration(stop_after),
                force=force,
                on_step=line.step,
            )
    output.text(done.text)
    if output.json:
        output.document("training", done.document)


class TrainingLine(Bars):
    """Shows step, loss, the validation's first figure and the time left, on stderr.

    Args:
        name: of the network.

    """

    def __init__(self, name: str) -> None:
        self._name, self._said = name, -math.inf
        super().__init__(COUNT_COLUMNS)
        self._bar = self._progress.add_task("", total=None)

    def step(self, standing: Standing) -> None:
        """Show where the training stands."""
        if self._live:
            text = standing_text(self._name, standing)
            self._progress.update(self._bar, completed=standing.step, total=standing.steps, description=text)
        elif time.monotonic() - self._said >= LINE_SECONDS or standing.step == standing.steps:
            self._said = time.monotonic()
            print(standing_text(self._name, standing), file=sys.stderr, flush=True)


def standing_text(name: str, standing: Standing) -> str:
    """Return a training's standing as one phrase."""
    merits = "".join(f" · {key} {value:.2f}" for key, value in standing.merits.items())
    left = clock((standing.steps - standing.step) * standing.step_seconds)
    return f"{name} · step {standing.step}/{standing.steps} · loss {standing.loss:.3g}{merits} · {left} left"
