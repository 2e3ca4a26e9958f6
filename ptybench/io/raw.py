"""What a file holds before it becomes a measurement: patterns, positions and the geometry that is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ptybench.io.start import Start
from ptybench.optics.geometry import wavelength_m
from ptybench.specs import Spec
from ptybench.types import BoolArray, ComplexArray, FloatArray, Noise, Propagation

Frames: TypeAlias = NDArray[Any]
Pair: TypeAlias = tuple[float, float]


class Geometry(Spec):
    """What is known about wavelength, distances and sampling; every field may be missing.

    Args:
        propagation: ``"far_field"`` (the default) or ``"near_field"``.
        wavelength_m: wavelength; ``energy_ev`` of photons will do instead.
        energy_ev: photon energy.
        distance_m: specimen to detector.
        pitch_m: detector pitch, one number or ``(y, x)``.
        source_distance_m: focus to specimen, for a diverging beam in the near field.
        pixel_size_m: object pixel of the patterns as stored, where nothing it follows from is known.
        reciprocal_pixel_per_m: the far field's sampling in 1/m, as electron microscopists give it.

    """

    propagation: Propagation | None = None
    wavelength_m: float | None = Field(default=None, gt=0)
    energy_ev: float | None = Field(default=None, gt=0)
    distance_m: float | None = Field(default=None, gt=0)
    pitch_m: float | Pair | None = None
    source_distance_m: float | None = Field(default=None, gt=0)
    pixel_size_m: float | Pair | None = None
    reciprocal_pixel_per_m: float | Pair | None = None

    @model_validator(mode="after")
    def _one_wavelength_and_positive_lengths(self) -> Geometry:
        if self.wavelength_m is not None and self.energy_ev is not None:
            raise ValueError("give wavelength_m or energy_ev, not both")
        for name in ("pitch_m", "pixel_size_m", "reciprocal_pixel_per_m"):
            value = pair(getattr(self, name))
            if value is not None and min(value) <= 0:
                raise ValueError(f"expected {name} above 0")
        return self

    def over(self, below: Geometry) -> Geometry:
        """These fields where they are given, else those of ``below``.

        A sampling that was computed gives way to a distance, pitch or wavelength that is given anew.
        """
        mine = self.model_dump(exclude_none=True)
        theirs = below.model_dump(exclude_none=True)
        if {"wavelength_m", "energy_ev"} & mine.keys():
            theirs.pop("wavelength_m", None)
            theirs.pop("energy_ev", None)
        if mine:
            theirs.pop("pixel_size_m", None)
            theirs.pop("reciprocal_pixel_per_m", None)
        return Geometry(**{**theirs, **mine})

    @property
    def wavelength(self) -> float | None:
        """Wavelength in metres from either field."""
        if self.energy_ev is not None:
            return wavelength_m(self.energy_ev)
        return self.wavelength_m

    @property
    def near_field(self) -> bool:
        """Whether patterns are near-field images."""
        return self.propagation == "near_field"

    @property
    def magnification(self) -> float:
        """``1 + z / z_source`` of a diverging beam in the near field, else 1."""
        if not self.near_field or self.source_distance_m is None or self.distance_m is None:
            return 1.0
        return 1 + self.distance_m / self.source_distance_m

    @property
    def effective_distance_m(self) -> float | None:
        """``z / M``: where a parallel beam would make the same pattern, scaled (Fresnel scaling theorem)."""
        return None if self.distance_m is None else self.distance_m / self.magnification

    def sampling(self, shape: tuple[int, int]) -> Pair | None:
        """The far field's step in 1/m, the near field's in metres, per axis of the stored patterns ``shape``."""
        pitch, pixel, step = pair(self.pitch_m), pair(self.pixel_size_m), pair(self.reciprocal_pixel_per_m)
        if self.near_field:
            if pixel is not None or pitch is None:
                return pixel
            return pitch[0] / self.magnification, pitch[1] / self.magnification
        if step is not None:
            return step
        if pixel is not None:
            return 1 / (shape[0] * pixel[0]), 1 / (shape[1] * pixel[1])
        if pitch is None or self.wavelength is None or self.distance_m is None:
            return None
        scale = self.wavelength * self.distance_m
        return pitch[0] / scale, pitch[1] / scale


def pair(value: float | Pair | None) -> Pair | None:
    """One number for both axes, or ``(y, x)``."""
    return (value, value) if isinstance(value, int | float) else value


class Stack(Protocol):
    """``(K, h, w)`` patterns, in memory or in an open file."""

    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102

    @property
    def dtype(self) -> np.dtype[Any]: ...  # noqa: D102

    def __getitem__(self, frames: slice) -> Frames: ...


@dataclass(frozen=True, eq=False)
class Raw:
    """What a file holds, in the orientation in which it is stored.

    Args:
        patterns: ``(K, h, w)`` in detector units.
        positions: ``(K, 2)`` probe positions relative to the specimen along the patterns' rows and columns.
        position_unit: ``"m"`` or ``"px"`` of the object.
        geometry: what is known.
        bad_pixels: ``(h, w)``, true = bad.
        probe: ``(M, h, w)`` or ``None``.
        start: how to make a first probe where there is none, and whether the probe is in √photons.
        zero_frequency: its pixel, ``"corner"``, or ``None`` where it is at ``[h // 2, w // 2]``.
        gain: photons per detector unit.
        offset: detector units without light; with one, negative photons are set to 0.
        noise: photon statistics.
        position_error_px: declared standard deviation.
        known_probe: whether the probe is exact.
        canvas: ``(H, W)`` where the positions already lie on one.
        initial_object: ``(H, W)`` on that canvas; flat where ``None``.

    """

    patterns: Stack
    positions: FloatArray
    position_unit: Literal["m", "px"]
    geometry: Geometry
    bad_pixels: BoolArray | None = None
    probe: ComplexArray | None = None
    start: Start = field(default_factory=Start)
    zero_frequency: tuple[int, int] | Literal["corner"] | None = None
    gain: float = 1.0
    offset: float = 0.0
    noise: Noise = field(default_factory=Noise)
    position_error_px: float = 0.0
    known_probe: bool = False
    canvas: tuple[int, int] | None = None
    initial_object: ComplexArray | None = None
