"""Refractive indices of X-rays, ``n = 1 - delta + i beta``, from the tables of xraydb."""

from __future__ import annotations

from functools import lru_cache

from ptybench.errors import InvalidOption

PLANCK_TIMES_LIGHT_EV_M = 6.62607015e-34 * 299792458.0 / 1.602176634e-19
PMMA = ("C5H8O2", 1.18)
"""Formula and density in g/cm³ of polymethyl methacrylate."""


@lru_cache(maxsize=256)
def delta_beta(formula: str, density_g_cm3: float, wavelength_m: float) -> tuple[float, float]:
    """Return ``(delta, beta)`` of a compound.

    Args:
        formula: chemical formula, for example ``"TiO2"``.
        density_g_cm3: mass density.
        wavelength_m: X-ray wavelength.

    Raises:
        InvalidOption: where the formula cannot be read.

    Source: the tables of Chantler behind ``xraydb.xray_delta_beta``.

    Example:
        >>> delta, beta = delta_beta("TiO2", 4.23, 1.5498e-10)
        >>> round(delta * 1e5, 2), round(beta * 1e7, 1)
        (1.31, 6.5)

    """
    import xraydb  # costs more than a second, and only a draw needs it

    energy_ev = PLANCK_TIMES_LIGHT_EV_M / wavelength_m
    try:
        delta, beta, _ = xraydb.xray_delta_beta(formula, density_g_cm3, energy_ev)
    except ValueError as error:
        raise InvalidOption(
            f"expected a chemical formula such as 'TiO2' as material, got {formula!r} ({error})"
        ) from None
    return float(delta), float(beta)
