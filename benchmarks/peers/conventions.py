"""Conventions of other packages, and ours, in both directions; numpy alone.

============================ ==================== ======================== =========================
what                         ptybench             Pty-Chi 2.2.0            PtyLab 0.3.7
============================ ==================== ======================== =========================
zero frequency of a pattern  ``[h//2, w//2]``     ``[0, 0]``               ``[h//2, w//2]``
Fourier transform            unitary              no factor forward        unitary
probe's unit                 square-root photons  the same ``/ √(h w)``    square-root photons
position                     corner, pixels       centre, from an origin   corner, metres from centre
part of a pixel              shifts the probe     shifts the probe         rounded away
shapes of object and probe   (H, W), (M, h, w)    (1, H, W), (1, M, h, w)  six axes, both square
============================ ==================== ======================== =========================

cdtools (0.3.2, ``SimplePtycho``) is as we are but for the positions: of the optics in metres, x first, negative, and
rounded. PtyRAD (1.0.0) is as we are, with the object's amplitude and phase as parameters of their own; without
refinement of positions it rounds them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from exchange import Problem, Unsupported
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class PtyChiArrays:
    """A problem as Pty-Chi's ``PtychographyTask`` takes it, with ``fft_shift=False``.

    Args:
        diffraction_data: ``(K, h, w)``, zero frequency at ``[0, 0]``.
        valid_pixel_mask: ``(h, w)`` in the same order.
        object_data: ``(1, H, W)``.
        probe_data: ``(1, M, h, w)``.
        position_y_px: ``(K,)``.
        position_x_px: ``(K,)``.
        origin: where position 0 lies in the object, counted to the centre between the patch's pixels.

    """

    diffraction_data: Array
    valid_pixel_mask: Array
    object_data: Array
    probe_data: Array
    position_y_px: Array
    position_x_px: Array
    origin: tuple[float, float]


def to_ptychi(problem: Problem) -> PtyChiArrays:
    """Return a problem in Pty-Chi's conventions.

    A patch starts at ``round(round(position) + origin − (h − 1) / 2)``, so that the origin ``(h − 1) / 2`` makes
    positions of corners out of those of centres.
    """
    h, w = problem.intensities.shape[1:]
    return PtyChiArrays(
        diffraction_data=np.fft.ifftshift(problem.intensities, axes=(-2, -1)),
        valid_pixel_mask=np.fft.ifftshift(~problem.bad_pixels),
        object_data=problem.object[None],
        probe_data=problem.probe[None] / np.sqrt(h * w),
        position_y_px=problem.positions_px[:, 0],
        position_x_px=problem.positions_px[:, 1],
        origin=((h - 1) / 2, (w - 1) / 2),
    )


def whole(positions_px: Array, peer: str) -> Array:
    """Return positions, which are whole pixels up to rounding, as whole numbers.

    Raises:
        Unsupported: where they are not.

    """
    corners: Array = np.round(positions_px)
    if np.abs(corners - positions_px).max() > 1e-6:
        raise Unsupported(f"{peer} rounds positions to pixels: give it, and whom it is compared with, rounded ones")
    return corners


def from_ptychi(problem: Problem, object_data: Array, probe_data: Array) -> Problem:
    """Return what Pty-Chi found, ``(1, H, W)`` and ``(1, M, h, w)``, in our conventions."""
    h, w = problem.intensities.shape[1:]
    return replace(problem, object=object_data[0], probe=probe_data[0] * np.sqrt(h * w))


@dataclass(frozen=True)
class PtyLabArrays:
    """A problem as PtyLab's ``ExperimentalData`` and ``Reconstruction`` take it.

    Wavelength and distance are 1 m and the detector is 1 m wide, which makes the object's pixel 1 m.

    Args:
        ptychogram: ``(K, n, n)``, zero frequency at ``[n//2, n//2]``.
        encoder: ``(K, 2)`` in metres from the object's centre, rows first.
        dxd: pitch of the detector in metres.
        No: width of the object in pixels.
        object: ``(1, 1, 1, 1, No, No)``.
        probe: ``(1, 1, M, 1, n, n)``.

    """

    ptychogram: Array
    encoder: Array
    dxd: float
    No: int
    object: Array
    probe: Array


def to_ptylab(problem: Problem) -> PtyLabArrays:
    """Return a problem in PtyLab's conventions: ``corner = round(encoder / pixel) + No // 2 − n // 2``.

    The object is continued to a square with ones, which no pattern sees.

    Raises:
        Unsupported: where patterns are not square, pixels bad or positions not whole.

    """
    _, n, width = problem.intensities.shape
    if n != width:
        raise Unsupported(f"PtyLab takes square patterns only, got {n} × {width}")
    if problem.bad_pixels.any():
        raise Unsupported("PtyLab 0.3.7 uses its detector mask in constrained pixel sums only: no bad pixels, please")
    corners = whole(problem.positions_px, "PtyLab")
    height, width = problem.object.shape
    size = max(height, width)
    canvas = np.pad(problem.object, ((0, size - height), (0, size - width)), constant_values=1)
    return PtyLabArrays(
        ptychogram=problem.intensities,
        encoder=corners - size // 2 + n // 2,
        dxd=1 / n,
        No=size,
        object=canvas[None, None, None, None],
        probe=problem.probe[None, None, :, None],
    )


def from_ptylab(problem: Problem, object: Array, probe: Array) -> Problem:
    """Return what PtyLab found, six axes each, in our conventions."""
    height, width = problem.object.shape
    return replace(problem, object=object[0, 0, 0, 0, :height, :width], probe=probe[0, 0, :, 0])


@dataclass(frozen=True)
class CdtoolsArrays:
    """A problem as cdtools' ``Ptycho2DDataset`` and ``SimplePtycho`` take it, with pixels of 1 m.

    Args:
        patterns: ``(K, h, w)``, zero frequency at ``[h//2, w//2]``.
        translations: ``(K, 3)`` in metres.
        basis: ``(3, 2)``, of the probe's pixels.

    """

    patterns: Array
    translations: Array
    basis: Array


def to_cdtools(problem: Problem) -> CdtoolsArrays:
    """Return a problem in cdtools' conventions: ``corner = round(basis⁺ translation)``.

    Raises:
        Unsupported: where there are several modes, bad pixels, or positions that are not whole.

    """
    if len(problem.probe) > 1 or problem.bad_pixels.any():
        raise Unsupported("cdtools' SimplePtycho has one mode and no mask: no modes and no bad pixels, please")
    corners = whole(problem.positions_px, "SimplePtycho")
    translations = np.column_stack([-corners[:, 1], -corners[:, 0], np.zeros(len(corners))])
    basis = np.array([[0.0, -1.0], [-1.0, 0.0], [0.0, 0.0]])
    return CdtoolsArrays(problem.intensities, translations, basis)


def to_ptyrad(problem: Problem) -> dict[str, Any]:
    """Return a problem as PtyRAD's ``PtychoModel`` takes it, one slice thick.

    Raises:
        Unsupported: where patterns are not square, pixels bad or positions not whole.

    """
    count, n, width = problem.intensities.shape
    if n != width or problem.bad_pixels.any():
        raise Unsupported("PtyRAD is given square patterns without bad pixels only")
    corners = whole(problem.positions_px, "PtyRAD")
    return {
        "measurements": problem.intensities,
        "obj": problem.object[None, None],
        "probe": problem.probe,
        "crop_pos": corners.astype(np.int32),
        "probe_pos_shifts": np.zeros((count, 2)),
        "obj_tilts": np.zeros((1, 2)),
        "slice_thickness": 1.0,
        "omode_occu": np.ones(1),
        "H": np.ones((n, n)),
        "N_scan_slow": 1,
        "N_scan_fast": count,
        "dx": 1.0,
        "dk": 1.0 / n,
        "lambd": 0.01,
    }
