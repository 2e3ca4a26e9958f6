"""The card of a set of images: what it is, how to read it, its statistics, its files with their checksums."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ptybench.errors import InvalidData
from ptybench.generation.recipe import Recipe
from ptybench.generation.shards import open_images
from ptybench.generation.sheet import SHOWN, draw_sheet
from ptybench.generation.statistics import Stack, measure
from ptybench.io.files import atomic, sha256_file
from ptybench.readable import number

SCHEMA = "ptybench.images/1"
BINS = 32
ABOUT = {
    "mean": "mean grey",
    "standard_deviation": "standard deviation of all pixels",
    "least": "least grey",
    "most": "most grey",
    "spread_of_image_means": "standard deviation of the images' means",
    "mean_contrast": "mean standard deviation within an image",
    "mean_step": "mean step between neighbours",
    "power_slope": "exponent of the power spectrum",
}


def card_paths(out: Path) -> tuple[Path, Path, Path]:
    """Return where the card lies: JSON, Markdown and the contact sheet."""
    return out.with_suffix(".card.json"), out.with_suffix(".card.md"), out.with_suffix(".card.png")


def require_card(out: Path, recipe: Recipe) -> dict[str, Any]:
    """Return the card of a finished set; written where there is none.

    Raises:
        InvalidData: where a file is not the one that the card was written for.

    """
    path = card_paths(out)[0]
    files = [
        {
            "name": file.name,
            "first": indices.start,
            "count": len(indices),
            "bytes": file.stat().st_size,
            "sha256": sha256_file(file),
        }
        for file, indices in recipe.files(out)
    ]
    card = _read_card(path)
    if card is None:
        return _write_card(out, recipe, files)
    for now, then in zip(files, card["files"], strict=True):
        if now != then:
            raise InvalidData(
                f"{out.with_name(str(now['name']))} is not what its card {path.name} was written for: --force makes it "
                "anew, or remove the card to write one for what is there"
            )
    return card


def draw_preview(out: Path, recipe: Recipe) -> Path:
    """Draw the contact sheet of a set that need not be there, from its first images; return its path."""
    generator, pixels = recipe.make(), range(min(SHOWN, recipe.count))
    images = [generator.image(k, recipe.shape, domain=recipe.domain, seed=recipe.seed) for k in pixels]
    draw_sheet(card_paths(out)[2], replace(recipe, count=len(images)), images, measure([np.stack(images)], 1.0))
    return card_paths(out)[2]


def _read_card(path: Path) -> dict[str, Any] | None:
    try:
        card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return card if card["schema"] == SCHEMA else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _write_card(out: Path, recipe: Recipe, files: list[dict[str, Any]]) -> dict[str, Any]:
    from ptybench.runner.provenance import git_commit

    json_path, text_path, sheet_path = card_paths(out)
    statistics = measure(_stacks(out, recipe), recipe.white)
    card = {
        "schema": SCHEMA,
        "title": _title(recipe),
        **recipe.as_json(),
        "white": recipe.white,
        "statistics": statistics.values,
        "histogram": [round(float(share), 6) for share in statistics.histogram.reshape(BINS, -1).sum(1)],
        "files": files,
        "contact_sheet": sheet_path.name,
        "made_with": {name: version(name) for name in ("ptybench", "numpy", "scipy", "h5py")}
        | {"commit": git_commit()},
    }
    draw_sheet(sheet_path, recipe, _first_images(out, recipe), statistics)
    with atomic(text_path) as temporary:
        temporary.write_text(_markdown(out, recipe, card), encoding="utf-8")
    with atomic(json_path) as temporary:
        temporary.write_text(json.dumps(card, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return card


def _stacks(out: Path, recipe: Recipe) -> Iterator[Stack]:
    for path, _ in recipe.files(out):
        yield open_images(path)


def _first_images(out: Path, recipe: Recipe) -> list[Any]:
    first = open_images(recipe.files(out)[0][0])[:SHOWN]
    return [image / recipe.white for image in first.astype(float)]


def _title(recipe: Recipe) -> str:
    return (recipe.make().__doc__ or recipe.generator).partition("\n")[0].rstrip(".")


def _markdown(out: Path, recipe: Recipe, card: dict[str, Any]) -> str:
    h, w = card["shape"]
    name, _, variant = card["generator"].partition(":")
    facts = [
        ("generator", f"`{card['generator']}`, version {card['version']}"),
        ("images", f"{card['count']} of {h} × {w} pixels, {card['pixel']}, white is {card['white']:g}"),
        ("domain, seed", f"{card['domain']}, {card['seed']}"),
        *((f"`{key}`", _told(value)) for key, value in card["parameters"].items()),
        *((ABOUT[key], number(value)) for key, value in card["statistics"].items()),
    ]
    rows = "\n".join(f"| {key} | {value} |" for key, value in facts)
    files = "\n".join(f"| `{f['name']}` | {f['count']} | {f['bytes']} | `{f['sha256']}` |" for f in card["files"])
    own = recipe.make().model_dump(mode="json", exclude_defaults=True)
    settings = "".join(f" --set '{key}={json.dumps(value)}'" for key, value in own.items())
    command = f"ptybench generate {name}{f' --variant {variant}' if variant else ''} --n {card['count']} --size {h}x{w}"
    return f"""# {card["title"]}

![The first images, the grey values, the spectrum]({card["contact_sheet"]})

| | |
|---|---|
{rows}

Made by formulas alone, no photograph and no person is in it; to make it again:

```
{command} --domain {card["domain"]} --seed {card["seed"]} --pixel {card["pixel"]} \\
  --per-file {card["per_file"]}{settings} --out {out.name}
```

To read it:

```python
from ptybench.generation.stream import ImageFile  # a torch.utils.data.Dataset of (1, {h}, {w}) tensors from 0 to 1

images = ImageFile("{out.name}")
```

or, with any HDF5 program, the dataset `images` of `{out.name}` divided by {card["white"]:g}.

| file | images | bytes | SHA-256 |
|---|--:|--:|---|
{files}
"""


def _told(value: Any) -> str:
    return " to ".join(map(str, value)) if isinstance(value, list) and len(value) == 2 else _listed(value)


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
