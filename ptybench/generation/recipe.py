"""What a set of generated images is: everything that its bytes depend on, and the files that hold it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from ptybench.errors import InvalidOption, UnknownName
from ptybench.generation.generator import Generator, Image, Shape
from ptybench.registry import load_generator
from ptybench.specs import validation_sentence

if TYPE_CHECKING:
    from ptybench.task import Domain

Pixel = Literal["uint8", "float32"]
Pixels = NDArray[np.uint8] | NDArray[np.float32]
LEAST_SIDE, MOST_SIDE = 8, 16384
FILE_BYTES = 2**28
"""As many images go into one file as this holds, unless said otherwise."""


@dataclass(frozen=True)
class Recipe:
    """A set of images: image ``i`` depends on the generator, domain and seed, and on no other image.

    Args:
        generator: registered name, with its variant.
        version: the generator's.
        parameters: every field of the generator, as JSON values.
        count: how many images.
        shape: ``(H, W)`` in pixels.
        pixel: ``uint8``, where grey ``g`` is level ``floor(256 g)`` (255 for white), so that equally frequent grey
            values give equally frequent levels; or ``float32``, the grey value itself.
        domain: seed domain.
        seed: names the sequence.
        per_file: images in one file.

    """

    generator: str
    version: int
    parameters: dict[str, Any]
    count: int
    shape: Shape
    pixel: Pixel
    domain: Domain
    seed: int
    per_file: int

    @property
    def image_bytes(self) -> int:
        """Bytes of one image."""
        return int(np.prod(self.shape)) * np.dtype(self.pixel).itemsize

    @property
    def white(self) -> float:
        """The stored value of white."""
        return 255.0 if self.pixel == "uint8" else 1.0

    def as_json(self) -> dict[str, Any]:
        """Return every field as a JSON value."""
        return asdict(self) | {"shape": list(self.shape)}

    @property
    def line(self) -> str:
        """The recipe as one line of JSON, keys in order."""
        return json.dumps(self.as_json(), sort_keys=True)

    @staticmethod
    def parse(text: str) -> Recipe:
        """Return the recipe of a :attr:`line`."""
        said = json.loads(text)
        return Recipe(**{one.name: said[one.name] for one in fields(Recipe)} | {"shape": tuple(said["shape"])})

    def make(self) -> Generator:
        """Return the generator."""
        return load_generator(self.generator).model_validate(self.parameters)

    def files(self, out: Path) -> list[tuple[Path, range]]:
        """Return the files that hold the images and which: ``out`` itself, or ``out-00000``, … where they are many."""
        if self.count <= self.per_file:
            return [(out, range(self.count))]
        starts = range(0, self.count, self.per_file)
        return [
            (out.with_name(f"{out.stem}-{k:05d}{out.suffix}"), range(first, min(first + self.per_file, self.count)))
            for k, first in enumerate(starts)
        ]

    def differences(self, other: Recipe) -> list[str]:
        """Say where another recipe differs, each as ``name: there, here``."""
        mine, its = (asdict(one) | {"parameters": None} | one.parameters for one in (self, other))
        return [f"{key} {its.get(key)} there, {mine.get(key)} asked" for key in mine if mine[key] != its.get(key)]


def make_recipe(
    generator: str,
    *,
    count: int,
    shape: Shape,
    parameters: dict[str, Any] | None = None,
    pixel: Pixel = "uint8",
    domain: Domain = "train",
    seed: int = 0,
    per_file: int | None = None,
) -> Recipe:
    """Return a recipe with every parameter settled.

    Raises:
        UnknownName: an unknown generator, parameter or domain.
        InvalidOption: a value out of range.

    """
    from ptybench.task import DOMAINS

    kind = load_generator(generator)
    for key in parameters or {}:
        if key not in kind.model_fields:
            raise UnknownName(f"parameter of {generator}", key, kind.model_fields)
    try:
        settled = kind.model_validate(parameters or {})
    except ValidationError as problem:
        raise InvalidOption(f"{generator}: {validation_sentence(problem)}") from None
    if domain not in DOMAINS:
        raise UnknownName("domain", domain, DOMAINS)
    if pixel not in get_args(Pixel):
        raise UnknownName("pixel type", pixel, get_args(Pixel))
    if count < 1:
        raise InvalidOption(f"expected at least 1 image, got {count}")
    if not all(LEAST_SIDE <= side <= MOST_SIDE for side in shape):
        raise InvalidOption(f"expected sides from {LEAST_SIDE} to {MOST_SIDE} pixels, got {shape[0]} x {shape[1]}")
    if per_file is not None and per_file < 1:
        raise InvalidOption(f"expected at least 1 image per file, got {per_file}")
    image_bytes = shape[0] * shape[1] * np.dtype(pixel).itemsize
    return Recipe(
        generator,
        kind.version,
        settled.model_dump(mode="json"),
        count,
        shape,
        pixel,
        domain,
        seed,
        per_file or max(1, FILE_BYTES // image_bytes),
    )


def encode(image: Image, pixel: Pixel) -> Pixels:
    """Return an image as it is stored; see :class:`Recipe`."""
    if pixel == "float32":
        return image.astype("<f4")
    return np.minimum(image * 256, 255).astype(np.uint8)
