"""Random numbers from named seeds.

A stream is named by its axes (task, domain, seed, purpose) and by nothing else, so that every device and every
point of a ladder sees the same specimen, the same jitter and paired noise.
"""

from __future__ import annotations

import hashlib

import numpy as np


def named_seed(*axes: str | int) -> int:
    """Return a 63-bit seed, the SHA-256 of the axes.

    Args:
        axes: what names the stream, for example ``("low_dose", "dev", 0, "photons")``.

    Example:
        >>> named_seed("low_dose", "dev", 0, "photons") == named_seed("low_dose", "dev", 0, "photons")
        True

    """
    digest = hashlib.sha256("\x1f".join(str(axis) for axis in axes).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def named_rng(*axes: str | int) -> np.random.Generator:
    """Return a numpy generator (PCG64) on :func:`named_seed` of the axes."""
    return np.random.Generator(np.random.PCG64(named_seed(*axes)))
