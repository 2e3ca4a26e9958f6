"""``ptybench generate``: training images from formulas."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from ptybench.cli.counting import Counting
from ptybench.cli.options import DomainName, Json, Plugins, add_plugins, parse_settings
from ptybench.cli.output import Output, columns
from ptybench.errors import InvalidOption
from ptybench.readable import number

if TYPE_CHECKING:
    from ptybench.generation.produce import Produced
    from ptybench.generation.recipe import Recipe

LEAST_SHARE = 32
"""A process takes as long to start as to draw about so many images."""
MARKS = "▁▂▃▄▅▆▇█"


def generate(
    generator: str,
    /,
    *,
    out: Annotated[Path, Parameter("--out", help="The HDF5 file to write.")],
    variant: Annotated[str | None, Parameter("--variant", help="Which kind, where there are several.")] = None,
    n: Annotated[int, Parameter("--n", help="How many images.")] = 1000,
    size: Annotated[str, Parameter("--size", help="Pixels: 128, or HEIGHTxWIDTH.")] = "128",
    seed: Annotated[int, Parameter("--seed", help="Which images; the same seed gives the same, bit for bit.")] = 0,
    domain: Annotated[DomainName, Parameter("--domain", help="Seed domain; networks train on train.")] = "train",
    pixel: Annotated[
        Literal["uint8", "float32"], Parameter("--pixel", help="8-bit levels, or grey values from 0 to 1.")
    ] = "uint8",
    per_file: Annotated[
        int | None, Parameter("--per-file", help="Images in one file; what 256 MiB hold unless said otherwise.")
    ] = None,
    jobs: Annotated[int | None, Parameter("--jobs", help="Processes; one a processor unless said otherwise.")] = None,
    set_: Annotated[
        list[str] | None,
        Parameter("--set", negative="", help="KEY=VALUE: a parameter of the generator; repeatable."),
    ] = None,
    preview: Annotated[
        bool, Parameter("--preview", negative="", show_default=False, help="Draw the contact sheet alone.")
    ] = False,
    force: Annotated[
        bool, Parameter("--force", negative="", show_default=False, help="Make it anew, whatever is there.")
    ] = False,
    plugin: Plugins = None,
    json: Json = False,
) -> None:
    """Generate training images by a formula, into HDF5 with a card; the same command goes on where it was stopped.

    Args:
        generator: its name (`ptybench list generators`).

    """
    output = Output(json)
    with output.reserved():
        from ptybench.generation.recipe import make_recipe

        add_plugins(plugin)
        recipe = make_recipe(
            f"{generator}:{variant}" if variant else generator,
            count=n,
            shape=parse_size(size),
            parameters=parse_settings(set_),
            pixel=pixel,
            domain=domain,
            seed=seed,
            per_file=per_file,
        )
        if jobs is not None and jobs < 1:
            raise InvalidOption(f"--jobs: expected at least 1, got {jobs}")
        if preview:
            _preview(output, recipe, out, force)
            return
        _produce(output, recipe, out, jobs, force)


def parse_size(text: str) -> tuple[int, int]:
    """Return ``(H, W)`` of a size.

    Example:
        >>> parse_size("128"), parse_size("96x128")
        ((128, 128), (96, 128))

    Raises:
        InvalidOption: where the text is no size.

    """
    match = re.fullmatch(r"\s*(\d+)\s*(?:[x×]\s*(\d+)\s*)?", text)
    if match is None:
        raise InvalidOption(f"--size: expected pixels such as 128 or 96x128, got {text!r}")
    return int(match[1]), int(match[2] or match[1])


def _preview(output: Output, recipe: Recipe, out: Path, force: bool) -> None:
    from ptybench.generation.card import draw_preview
    from ptybench.generation.produce import require_same

    if not force:
        require_same(recipe, out.resolve())
    sheet = draw_preview(out.resolve(), recipe)
    output.text(f"wrote {sheet}")
    if output.json:
        output.document("preview", {"recipe": recipe.as_json(), "contact_sheet": str(sheet)})


def _produce(output: Output, recipe: Recipe, out: Path, jobs: int | None, force: bool) -> None:
    from ptybench.generation.produce import produce
    from ptybench.runner.provenance import threads

    jobs = jobs or min(threads(), 1 + recipe.count // LEAST_SHARE)
    with Counting("images") as counting:
        produced = produce(recipe, out, jobs=jobs, force=force, progress=counting.step)
    output.text(_told(produced))
    if output.json:
        paths = {name: str(path) for name, path in produced.paths.items()}
        output.document("images", {**produced.card, "drawn": produced.drawn, "paths": paths})


def _told(produced: Produced) -> str:
    recipe, card = produced.recipe, produced.card
    h, w = recipe.shape
    there = recipe.count - produced.drawn
    told = f"{recipe.count} images of {h} × {w} pixels" + (f", {there} of them were there" if there else "")
    rows: list[tuple[str, Any]] = [
        (name.replace("_", " "), number(value)) for name, value in card["statistics"].items()
    ]
    files = [f"wrote {path}" for path in produced.paths.values()]
    return "\n".join([told, columns([*rows, ("grey values", _bars(card["histogram"]))], indent="  "), *files])


def _bars(shares: list[float]) -> str:
    """A histogram in one line, black to white; empty at the bottom, twice the mean at the top."""
    mean = sum(shares) / len(shares)
    return "".join(MARKS[min(len(MARKS) - 1, int(len(MARKS) * share / (2 * mean)))] for share in shares)
