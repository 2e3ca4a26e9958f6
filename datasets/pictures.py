"""Pairs of pictures, one as amplitude and one as phase: the specimen that most papers simulate with."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from ptybench.datasets.specimen import ComplexMap, FloatMap, Pixel, Specimen, low_pass, padded
from pydantic import Field, field_validator

if TYPE_CHECKING:
    from ptybench.optics.geometry import Grid
    from ptybench.task import Domain

PICTURES: dict[str, tuple[str, ...]] = {
    "train": ("astronaut", "brick", "coins", "moon", "page"),
    "dev": ("camera", "coffee", "grass", "text"),
    "release": ("chelsea", "gravel", "ihc", "motorcycle_left"),
}
"""PNG pictures that ship with scikit-image, shared out among the seed domains (a JPEG's pixels would depend on the
decoder's version; the blurred ones are left out)."""


class Pictures(Specimen):
    """Two different pictures of the seed domain, cropped, turned, flipped and zoomed at random.

    ``O = a exp(i phi)`` with ``a`` and ``phi`` linear in the grey values. Beyond its edges a picture goes on as its
    mirror image.

    Args:
        amplitude: amplitude of black and of white.
        phase_rad: phase of black and of white; matter retards, so not positive.
        zoom: least and most picture pixels per solver pixel.
        correlated: whether amplitude and phase are of one picture, at one place.

    """

    kind: Literal["pictures"] = "pictures"
    amplitude: tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)]] = (0.5, 1.0)
    phase_rad: tuple[Annotated[float, Field(le=0)], Annotated[float, Field(le=0)]] = (-1.0, 0.0)
    zoom: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (1.5, 3.0)
    correlated: bool = False

    @field_validator("zoom")
    @classmethod
    def _in_order(cls, zoom: tuple[float, float]) -> tuple[float, float]:
        if zoom[0] > zoom[1]:
            raise ValueError("expected the smallest zoom first")
        return zoom

    def draw(
        self,
        rng: np.random.Generator,
        grid: Grid,
        coarse_pixel_m: Pixel,
        wavelength_m: float,
        domain: Domain,
    ) -> ComplexMap:
        """Return a transmission on the fine grid; see :meth:`Specimen.draw`."""
        y, x, canvas = padded(grid, coarse_pixel_m)
        u, v = y / coarse_pixel_m[0], x / coarse_pixel_m[1]
        step = max(grid.pixel_m[0] / coarse_pixel_m[0], grid.pixel_m[1] / coarse_pixel_m[1])
        maps: list[FloatMap] = []
        grey: FloatMap | None = None
        for name, (black, white) in zip(self.pair(rng, domain), (self.amplitude, self.phase_rad), strict=True):
            if grey is None or not self.correlated:
                grey = view(read_picture(name), u, v, step, self.zoom, rng)
                grey = low_pass(grey, grid.pixel_m, coarse_pixel_m, self.cutoff)[canvas]
            maps.append(black + (white - black) * grey)
        result: ComplexMap = maps[0] * np.exp(1j * maps[1])
        return result

    def ranges(self, wavelength_m: float) -> tuple[float, float]:
        """Return the data ranges of amplitude and phase; see :meth:`Specimen.ranges`."""
        return abs(self.amplitude[1] - self.amplitude[0]), abs(self.phase_rad[1] - self.phase_rad[0])

    def pair(self, rng: np.random.Generator, domain: Domain) -> tuple[str, str]:
        """Return the names of the amplitude's and of the phase's picture, which differ."""
        first, second = rng.choice(len(PICTURES[domain]), size=2, replace=False)
        return PICTURES[domain][first], PICTURES[domain][second]


def view(
    picture: FloatMap, u: FloatMap, v: FloatMap, step: float, zoom: tuple[float, float], rng: np.random.Generator
) -> FloatMap:
    """Return a picture as seen on a grid, at a random place, zoom and quarter turn, perhaps flipped.

    Args:
        picture: grey values.
        u: ``(H', 1)`` rows of the grid, in solver pixels.
        v: ``(1, W')`` columns.
        step: distance of neighbours in ``u`` and ``v``.
        zoom: least and most picture pixels per solver pixel.
        rng: where to look.

    """
    from scipy.ndimage import gaussian_filter, map_coordinates

    turned = np.rot90(picture, int(rng.integers(4)))
    turned = turned[:, ::-1] if rng.random() < 0.5 else turned
    scale = zoom[0] * (zoom[1] / zoom[0]) ** rng.random()
    # in the middle half, so that mirror images stay at the margins
    centre = (0.25 + 0.5 * rng.random(2)) * (np.array(turned.shape) - 1)
    # neighbours further apart than the picture's pixels would alias
    smooth = gaussian_filter(turned, 0.5 * np.sqrt(max((scale * step) ** 2 - 1, 0.0)), mode="mirror")
    rows, columns = np.broadcast_arrays(centre[0] + scale * u, centre[1] + scale * v)
    seen: FloatMap = map_coordinates(smooth, [rows, columns], order=3, mode="mirror")
    return np.clip(seen, 0.0, 1.0)


@lru_cache(maxsize=4)
def read_picture(name: str) -> FloatMap:
    """Return a picture of scikit-image's wheel as grey values from 0 to 1.

    Black and white are the first and the last hundredth of the whole picture's pixels, so that a pale crop stays pale.
    """
    import skimage
    from PIL import Image

    with Image.open(Path(skimage.__file__).parent / "data" / f"{name}.png") as image:
        grey = np.asarray(image.convert("L"), dtype=np.float64)
    black, white = np.quantile(grey, (0.01, 0.99))
    stretched: FloatMap = np.clip((grey - black) / (white - black), 0.0, 1.0)
    return stretched
