"""Manifests: what a file of patterns does not say of itself, in TOML.

One model serves the manifests of :mod:`ptybench.datasets.real`, which name a file with its checksum, and a user's
``--geometry FILE.toml``, where every field may be missing that the file says itself. A commented example:

.. code-block:: toml

    title = "Siemens star"
    file = "star.h5"             # beside this TOML file, or in $PTYBENCH_DATA
    sha256 = "8b7b…"
    licence = "CC BY 4.0"
    orient = "transpose"         # see ptybench.io.frames.parse_orientation

    [geometry]                   # see ptybench.io.raw.Geometry
    propagation = "far_field"
    energy_ev = 8000.0
    distance_m = 2.0
    pitch_m = 75e-6

    [patterns]                   # a key may name an array of an .npz file or a dataset of an HDF5 file
    key = "patterns"
    axes = "kyx"                 # order of the dimensions; "ijyx" for a raster of I × J
    zero_frequency = [64, 64]    # or "corner"; [h // 2, w // 2] where not given
    gain = 1.0                   # photons = (value − offset) · gain

    [positions]
    key = "positions"            # (K, 2), or two keys [y, x]
    axes = "yx"
    unit = "um"
    raster = false               # with two keys: all pairs of their values, x fastest
    rotation_rad = 0.0           # turns positions from +y towards +x

    [bad_pixels]
    key = "mask"
    means = "bad"

    [probe]                      # see ptybench.io.start.Start
    key = "probe_guess"
"""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from ptybench.errors import InvalidData
from ptybench.io.files import require_file
from ptybench.io.frames import parse_orientation
from ptybench.io.raw import Geometry
from ptybench.io.start import Start
from ptybench.specs import Spec, validation_sentence
from ptybench.types import Noise

METRES = {"m": 1.0, "mm": 1e-3, "um": 1e-6, "nm": 1e-9, "angstrom": 1e-10, "pm": 1e-12}
Unit = Literal["px", "m", "mm", "um", "nm", "angstrom", "pm"]


class Patterns(Spec):
    """Where the patterns are and what their numbers mean: ``photons = (value − offset) · gain``."""

    key: str = "patterns"
    axes: Annotated[str, Field(pattern="^[kijyx]{3,4}$")] = "kyx"
    zero_frequency: tuple[int, int] | Literal["corner"] | None = None
    gain: Annotated[float, Field(gt=0)] = 1.0
    offset: float = 0.0

    @model_validator(mode="after")
    def _every_axis_once(self) -> Patterns:
        if sorted(self.axes) not in (sorted("kyx"), sorted("ijyx")):
            raise ValueError(f"expected axes with each of k, y, x (or i, j, y, x) once, got {self.axes!r}")
        return self


class Positions(Spec):
    """Where the positions are: one array ``(K, 2)``, or one key for each of the two axes.

    ``scale`` multiplies the numbers before the unit, for positions that count steps.
    """

    key: str | tuple[str, str] = "positions_px"
    axes: Literal["yx", "xy"] = "yx"
    unit: Unit = "px"
    scale: float = 1.0
    raster: bool = False
    rotation_rad: float = 0.0

    @property
    def metres(self) -> float | None:
        """Metres of one unit; ``None`` for pixels."""
        return METRES.get(self.unit)

    @model_validator(mode="after")
    def _two_keys_make_a_raster(self) -> Positions:
        if self.raster and isinstance(self.key, str):
            raise ValueError("a raster needs two keys, key = [first axis, second axis]")
        return self


class BadPixels(Spec):
    """Where the detector's bad pixels are, and what a value other than 0 says of a pixel."""

    key: str
    means: Literal["bad", "good"] = "bad"


class Photons(Spec):
    """Photon statistics, as in :class:`ptybench.types.Noise`."""

    background_photons: Annotated[float, Field(ge=0)] = 0.0
    read_noise_photons: Annotated[float, Field(ge=0)] = 0.0
    saturation_photons: Annotated[float, Field(gt=0)] | None = None

    @property
    def noise(self) -> Noise:
        """The same as a dataclass."""
        return Noise(self.background_photons, self.read_noise_photons, self.saturation_photons)


class Manifest(Spec):
    """What there is to know of a file of patterns; see the module's example.

    Args:
        title: one line.
        file: name of the file; a user's ``--geometry`` needs none.
        sha256: of the file; checked where given.
        licence: of the data.
        source: where the file can be had.
        citation: whom to cite.
        note: what a user should know.
        orient: turns that bring the stored patterns and positions together.
        position_error_px: declared standard deviation of the positions.
        recommended: method → options that work, for the documentation.

    """

    title: str = ""
    file: str | None = None
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    licence: str = ""
    source: str = ""
    citation: str = ""
    note: str = ""
    orient: str = ""
    position_error_px: Annotated[float, Field(ge=0)] = 0.0
    geometry: Geometry = Geometry()
    patterns: Patterns = Patterns()
    positions: Positions = Positions()
    bad_pixels: BadPixels | None = None
    probe: Start = Start()
    noise: Photons = Photons()
    recommended: dict[str, dict[str, Any]] = Field(default_factory=dict)

    def rotate(self, y: Any, x: Any) -> tuple[Any, Any]:
        """Turn positions by ``positions.rotation_rad`` from +y towards +x."""
        cosine, sine = math.cos(self.positions.rotation_rad), math.sin(self.positions.rotation_rad)
        return cosine * y - sine * x, sine * y + cosine * x


def parse_manifest(text: str, where: str) -> Manifest:
    """Return the manifest of a TOML text.

    Args:
        text: the document.
        where: its name, for error messages.

    Raises:
        InvalidData: where it is not TOML, or a field is misspelt or out of range.
        UnknownName: where a turn of ``orient`` does not exist.

    """
    try:
        manifest = Manifest.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise InvalidData(f"{where} is not TOML: {error}") from None
    except ValidationError as problem:
        raise InvalidData(f"{where}: {validation_sentence(problem)}") from None
    parse_orientation(manifest.orient)
    return manifest


def read_manifest(path: Path) -> Manifest:
    """Return the manifest of a TOML file; see :func:`parse_manifest`."""
    require_file(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidData(f"cannot read {path} as TOML: {error}") from None
    return parse_manifest(text, str(path))
