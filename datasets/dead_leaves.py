"""Dead leaves: shapes of all sizes that fall on one another until nothing shows through, seen from above.

Occlusion and the scale-free sizes give edges, corners and a spectrum like those of photographs, so that a denoiser
learns from formulas alone what it can use on specimens.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from ptybench.datasets.textures import fold, power_law_textures
from pydantic import Field, field_validator

from ptybench.generation.generator import Generator, Image, Shape

Kind = Literal["circle", "square", "rectangle", "triangle", "quadrilateral"]
Floats = NDArray[np.float64]
Labels = NDArray[np.int32]

DRAWS = 9
"""Uniform deviates of one leaf: kind, radius, centre (2), grey, angles (4)."""


class Leaves(NamedTuple):
    """``M`` convex leaves, each the part of a disc that satisfies four inequalities ``<n_j, p - centre> <= c_j``.

    Args:
        centre: ``(M, 2)`` in pixels, measured from the image's corner.
        radius: ``(M,)`` in pixels.
        normal: ``(M, 4, 2)`` unit vectors ``n_j``.
        offset: ``(M, 4)`` ``c_j`` in pixels; infinite where nothing is cut off.

    """

    centre: Floats
    radius: Floats
    normal: Floats
    offset: Floats


class DeadLeaves(Generator):
    """Dead leaves of uniform grey: circles, rectangles, triangles and others of many sizes, turned at random.

    Leaves fall at uniform places with radii of density ``p(r) ~ r^-3 - r_max^-3``, here drawn from the topmost
    downwards until every pixel is covered; what the last of them leaves open is its own. The corners of a polygon lie
    on its circle of radius ``r``; the pixel belongs to the leaf that covers its centre.

    Args:
        shapes: what leaves look like, one as often as another; name one twice to have more of it.
        radius: least and most radius, as a fraction of the image's shorter side.
        turned: whether squares and rectangles are turned; otherwise they stand upright.
        max_leaves: how many leaves may fall.
        oversampling: pixels per side that are averaged into one, for soft edges; 1 gives hard ones.

    Source: M. Baradad et al., Learning to See by Looking at Noise, NeurIPS 2021, arXiv:2106.05963, called DL-Diverse by
    A. Yamada et al., J. Appl. Cryst. 57 (2024), section 4.1; radii as in the former's code, without its rounding to
    whole pixels.

    Example:
        >>> DeadLeaves().image(0, (64, 64)).shape
        (64, 64)

    """

    generates: ClassVar[str] = "dead_leaves:diverse"

    shapes: Annotated[tuple[Kind, ...], Field(min_length=1)] = (
        "circle",
        "square",
        "rectangle",
        "triangle",
        "quadrilateral",
    )
    radius: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(le=4)]] = (0.03, 1.0)
    turned: bool = True
    max_leaves: Annotated[int, Field(ge=1, le=10**6)] = 5000
    oversampling: Annotated[int, Field(ge=1, le=8)] = 1

    @field_validator("radius")
    @classmethod
    def _in_order(cls, radius: tuple[float, float]) -> tuple[float, float]:
        if radius[0] >= radius[1]:
            raise ValueError("expected a least radius that is smaller than the most")
        return radius

    def draw(self, rng: np.random.Generator, shape: Shape) -> Image:
        """Return one image; see :meth:`Generator.draw`."""
        fine = shape[0] * self.oversampling, shape[1] * self.oversampling
        deviates = rng.random((self.max_leaves, DRAWS))
        image = self.paint(rng, self.labels(deviates, fine), deviates[:, 4])
        return block_mean(image, self.oversampling)

    def paint(self, rng: np.random.Generator, labels: Labels, greys: Floats) -> Image:
        """Return the grey values of an image.

        Args:
            rng: for whatever more is random.
            labels: ``(H, W)`` index of the leaf that is seen.
            greys: ``(M,)`` uniform deviate of each leaf.

        """
        return greys[labels]

    def labels(self, deviates: Floats, shape: Shape) -> Labels:
        """Return the map ``(H, W)`` of the leaf that is seen, 0 the topmost.

        Args:
            deviates: ``(M, 9)`` uniform on [0, 1), a row for each leaf.
            shape: ``(H, W)``.

        """
        seen: Labels = np.full(shape[0] * shape[1], -1, np.int32)
        step = max(16, min(256, 2**22 // seen.size))  # bounds the memory; the result does not depend on it
        for first in range(0, len(deviates), step):
            pixels, leaf = cover(self.leaves(deviates[first : first + step], shape), shape)
            free = seen[pixels] < 0
            # of several values for one pixel the last counts: backwards, so that it is the topmost leaf's
            seen[pixels[free][::-1]] = first + leaf[free][::-1]
            if seen.min() >= 0:
                break
        seen[seen < 0] = len(deviates) - 1
        return seen.reshape(shape)

    def leaves(self, deviates: Floats, shape: Shape) -> Leaves:
        """Return the leaves that rows ``(M, 9)`` of uniform deviates stand for."""
        kind, size, place, angles = deviates[:, 0], deviates[:, 1], deviates[:, 2:4], deviates[:, 5:]
        radius = radius_quantile(size, *self.radius) * min(shape)
        shapes = np.array(self.shapes)[(kind * len(self.shapes)).astype(np.intp)]
        corners = corner_angles(shapes, angles, self.turned)
        following = np.roll(corners, -1, axis=1)
        following[:, -1] += 2 * np.pi
        middle, half = (following + corners) / 2, (following - corners) / 2
        normal = np.stack([np.sin(middle), np.cos(middle)], axis=-1)
        offset = radius[:, None] * np.where(shapes[:, None] == "circle", np.inf, np.cos(half))
        return Leaves(place * shape, radius, normal, offset)


class TexturedLeaves(DeadLeaves):
    """Dead leaves with a texture of power-law spectrum in each, on top of the leaf's grey.

    A leaf shows a cut at a random place out of one of the image's textures, ``grey + contrast * texture`` reflected at
    black and white, so that all grey values are equally frequent.

    Args:
        textures: how many textures an image has, each with a spectrum of its own.
        slope: least and most exponent of the amplitude spectrum.
        contrast: least and most standard deviation of a texture, in units of the grey scale.
        stretch: least and most ratio of the axes of a texture.
        density: least and most share of the pixels from which a texture grows: small means separate spots.

    Source: M. Baradad et al., NeurIPS 2021, arXiv:2106.05963, called DL-Textured by A. Yamada et al., J. Appl. Cryst.
    57 (2024), section 4.1; the textures are those of :func:`ptybench.datasets.textures.power_law_textures`.

    Example:
        >>> len(np.unique(TexturedLeaves().image(0, (64, 64)))) > len(np.unique(DeadLeaves().image(0, (64, 64))))
        True

    """

    generates: ClassVar[str] = "dead_leaves:textured"

    textures: Annotated[int, Field(ge=1, le=1024)] = 12
    slope: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(le=8)]] = (0.5, 3.5)
    contrast: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(le=1)]] = (0.05, 0.25)
    stretch: tuple[Annotated[float, Field(ge=1)], Annotated[float, Field(le=64)]] = (1.0, 4.0)
    density: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(le=1)]] = (0.01, 1.0)

    @field_validator("slope", "contrast", "stretch", "density")
    @classmethod
    def _least_first(cls, bounds: tuple[float, float]) -> tuple[float, float]:
        if bounds[0] > bounds[1]:
            raise ValueError("expected the least value first")
        return bounds

    def paint(self, rng: np.random.Generator, labels: Labels, greys: Floats) -> Image:
        """Return the grey values of an image; see :meth:`DeadLeaves.paint`."""
        h, w = labels.shape
        which, down, right, more, upside = rng.random((5, len(greys)))
        textures = power_law_textures(rng, self.textures, (h, w), self.slope, self.stretch, self.density)
        # where the first pixel of each texture's cut lies in the flat stack, row by row and column by column
        row = (np.arange(h)[:, None] + (down * h).astype(np.intp)[labels]) % h
        column = (np.arange(w) + (right * w).astype(np.intp)[labels]) % w
        value = textures[(which * self.textures).astype(np.intp)[labels], row, column]
        contrast = self.contrast[0] + (self.contrast[1] - self.contrast[0]) * more
        # twice the grey scale, of which folding makes one
        return fold((greys + (upside < 0.5))[labels] + contrast[labels] * value)


def radius_quantile(u: Floats, low: float, high: float) -> Floats:
    """Return the radii below which a share ``u`` of all leaves lies, for ``p(r) ~ r^-3 - high^-3``.

    The table is even in ``1 / r²``, in which the distribution is all but linear.
    """
    inverse_square = np.linspace(low**-2, high**-2, 4097)
    below = (low**-2 - inverse_square) / 2 - (1 / np.sqrt(inverse_square) - low) / high**3
    radii: Floats = 1 / np.sqrt(np.interp(u, below / below[-1], inverse_square))
    return radii


def corner_angles(shapes: NDArray[np.str_], u: Floats, turned: bool) -> Floats:
    """Return the angles ``(M, 4)`` at which the corners of each leaf lie on its circle, in ascending order.

    Args:
        shapes: ``(M,)`` kinds; what stands for a circle does not matter.
        u: ``(M, 4)`` uniform deviates.
        turned: whether squares and rectangles are turned.

    """
    turn = 2 * np.pi * u[:, :1] * turned
    a = np.pi / 2 * np.where(shapes[:, None] == "rectangle", u[:, 1:2], 0.5)
    box = turn + np.concatenate([a, np.pi - a, np.pi + a, 2 * np.pi - a], axis=1)
    free = np.sort(2 * np.pi * u, axis=1)
    triangle = np.sort(2 * np.pi * u[:, :3], axis=1)[:, [0, 1, 2, 2]]
    return np.select([shapes[:, None] == "triangle", shapes[:, None] == "quadrilateral"], [triangle, free], box)


def cover(leaves: Leaves, shape: Shape) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return every pair of a pixel and a leaf over its centre: flat indices of pixels, and of leaves, ascending.

    A leaf is convex, so that it meets a row of pixels in one interval, which its disc and its inequalities bound.

    Args:
        leaves: ``M`` leaves.
        shape: ``(H, W)``.

    """
    (h, w), (centre_y, centre_x), radius = shape, leaves.centre.T, leaves.radius
    top, bottom = _pixels_between(centre_y - radius, centre_y + radius, h)
    leaf, y = _runs(top, bottom - top)
    dy = y + 0.5 - centre_y[leaf]
    end = np.sqrt(np.maximum(radius[leaf] ** 2 - dy**2, 0))
    start = -end
    for edge in range(leaves.offset.shape[1]):
        normal_y, normal_x = leaves.normal[leaf, edge].T
        limit = (leaves.offset[leaf, edge] - normal_y * dy) / normal_x
        np.minimum(end, limit, out=end, where=normal_x > 0)
        np.maximum(start, limit, out=start, where=normal_x < 0)
    left, right = _pixels_between(centre_x[leaf] + start, centre_x[leaf] + end, w)
    span, x = _runs(left, np.maximum(right - left, 0))
    return y[span] * w + x, leaf[span].astype(np.int32)


def _pixels_between(low: Floats, high: Floats, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first pixel whose centre lies in an interval, and the one behind the last."""
    first = np.clip(np.ceil(low - 0.5), 0, size).astype(np.int64)
    return first, np.clip(np.floor(high - 0.5) + 1, 0, size).astype(np.int64)


def _runs(first: NDArray[np.int64], length: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Consecutive numbers: the index of the run that each belongs to, and the number."""
    run = np.repeat(np.arange(len(first)), length)
    return run, np.arange(len(run)) + (first - (np.cumsum(length) - length))[run]


def block_mean(image: Image, size: int) -> Image:
    """Return the means of blocks of ``size`` by ``size`` pixels."""
    h, w = image.shape
    mean: Image = image.reshape(h // size, size, w // size, size).mean(axis=(1, 3))
    return mean
