"""Amplitude and phase as 32-bit TIFF, for eyes and for programs that know no HDF5."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from ptybench.io.files import atomic
from ptybench.types import ComplexArray


def write_images(
    folder: Path, object: ComplexArray, pixel_size_m: tuple[float, float] | None = None, stem: str = "object"
) -> dict[str, Path]:
    """Write ``{stem}_amplitude.tif`` and ``{stem}_phase.tif`` (radians, in (−π, π]) as float32.

    Args:
        folder: where to; made where it does not exist.
        object: ``(H, W)`` complex transmission.
        pixel_size_m: ``(dy, dx)``, written as the resolution (pixels per centimetre, and in full into the
            description); ``None`` where unknown.
        stem: start of the names.

    Returns:
        ``{"amplitude": path, "phase": path}``.

    Example:
        >>> import tempfile
        >>> paths = write_images(Path(tempfile.mkdtemp()), np.ones((8, 8), np.complex64), (5e-8, 5e-8))
        >>> paths["phase"].name
        'object_phase.tif'

    """
    images = {"amplitude": (np.abs(object), "transmission"), "phase": (np.angle(object), "radian")}
    paths = {}
    for name, (image, unit) in images.items():
        paths[name] = folder / f"{stem}_{name}.tif"
        _write(paths[name], image.astype(np.float32), unit, pixel_size_m)
    return paths


def _write(path: Path, image: NDArray[np.float32], unit: str, pixel_size_m: tuple[float, float] | None) -> None:
    metadata: dict[str, Any] = {"unit": unit}
    resolution: dict[str, Any] = {}
    if pixel_size_m is not None:
        dy, dx = pixel_size_m
        metadata["pixel_size_m"] = [dy, dx]
        resolution = {"resolution": (0.01 / dx, 0.01 / dy), "resolutionunit": "CENTIMETER"}
    with atomic(path) as temporary:
        tifffile.imwrite(temporary, image, photometric="minisblack", metadata=metadata, **resolution)
