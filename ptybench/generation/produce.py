"""From a recipe to files on disk: draws what is missing, and goes on where it was killed."""

from __future__ import annotations

import glob
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptybench.errors import InvalidData, UsageError
from ptybench.generation.card import card_paths, require_card
from ptybench.generation.recipe import Recipe
from ptybench.generation.shards import Part, part_of, read_recipe, write_index
from ptybench.generation.workers import draw_images


@dataclass(frozen=True)
class Produced:
    """A finished set of images.

    Args:
        out: the file with all images, or the index of the files that hold them.
        recipe: what they are.
        drawn: how many were drawn by this call; the others were there.
        card: what ``out``'s card says.

    """

    out: Path
    recipe: Recipe
    drawn: int
    card: dict[str, Any]

    @property
    def paths(self) -> dict[str, Path]:
        """The files to look at: images, contact sheet and both forms of the card."""
        card, text, sheet = card_paths(self.out)
        return {"images": self.out, "card": card, "card_text": text, "contact_sheet": sheet}


def produce(
    recipe: Recipe,
    out: Path,
    *,
    jobs: int = 1,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Produced:
    """Draw the images of a recipe into HDF5 files, with their card.

    The same call goes on where one was killed, and the files come out the same to the byte.

    Args:
        recipe: from :func:`ptybench.generation.recipe.make_recipe`.
        out: the HDF5 file; where the images are too many for one file it becomes the index of ``out-00000`` ….
        jobs: processes that draw.
        force: make everything anew, whatever is there.
        progress: told how many images are there, of how many.

    Raises:
        InvalidData: where something else is there, or it was changed since.
        UsageError: where the disk is too small.
        MethodFailed: where a generator fails.

    Example:
        >>> import tempfile
        >>> from ptybench.generation.recipe import make_recipe
        >>> recipe = make_recipe("dead_leaves:diverse", count=2, shape=(16, 16))
        >>> produce(recipe, Path(tempfile.mkdtemp()) / "leaves.h5").drawn
        2

    """
    out = out.resolve()
    if force:
        _remove(out)
    else:
        require_same(recipe, out)
    out.parent.mkdir(parents=True, exist_ok=True)
    drawn, done = 0, 0
    for path, indices in recipe.files(out):
        if path.exists():
            done += len(indices)
            continue
        with Part(path, recipe, indices) as part:
            missing = part.missing()
            _require_space(out.parent, len(missing) * recipe.image_bytes)
            done += len(indices) - len(missing)
            if progress is not None:
                progress(done, recipe.count)
            for index, image in draw_images(recipe, missing, jobs):
                part.write(index, image)
                done, drawn = done + 1, drawn + 1
                if progress is not None:
                    progress(done, recipe.count)
            part.finish()
    if not out.exists():
        write_index(out, recipe)
    return Produced(out, recipe, drawn, require_card(out, recipe))


def require_same(recipe: Recipe, out: Path) -> None:
    """Refuse to go on where something else is there already.

    Raises:
        InvalidData: with the first difference.

    """
    ours = {path for path, _ in recipe.files(out)} | {out}
    for path in _there(out):
        found = read_recipe(path)
        if found is None:
            if path in ours:
                raise InvalidData(
                    f"{path} is there already and is no file of `ptybench generate`: choose another --out, or --force "
                    "to replace it"
                )
        elif found != recipe:
            raise InvalidData(
                f"{path} holds other images ({'; '.join(recipe.differences(found)[:3])}): choose another --out, or "
                "--force to replace them"
            )


def _there(out: Path) -> Iterator[Path]:
    """Every file that a set of this name may consist of, and that is there."""
    pattern = f"{glob.escape(out.stem)}-[0-9][0-9][0-9][0-9][0-9]{glob.escape(out.suffix)}"
    numbered = [*out.parent.glob(pattern), *out.parent.glob(f"{pattern}.part")]
    yield from (path for path in (out, part_of(out), *sorted(numbered)) if path.exists())


def _remove(out: Path) -> None:
    for path in [*_there(out), *card_paths(out)]:
        # a file that only looks like one of a set is somebody else's
        if path == out or path in card_paths(out) or path.suffix == ".part" or read_recipe(path) is not None:
            path.unlink(missing_ok=True)


def _require_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UsageError(
            f"the images need {needed / 2**30:.1f} GiB and {folder} has {free / 2**30:.1f} GiB free: take fewer or "
            "smaller ones, or another --out"
        )
