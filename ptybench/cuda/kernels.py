"""The kernels in Triton, on the real and imaginary parts of contiguous complex tensors.

Each program owns what it writes and adds up in a fixed order, so results are the same to the bit from run to run.
Sums over patterns are gathered by the pixel of the object that they belong to: nothing is added by two programs.
"""

from __future__ import annotations

import triton
import triton.language as tl

PIXELS = 1024  # of a pattern, for one program
TILE = 32  # side of the object's tiles, one program each


@triton.jit
def _load(base, first, pixels, BLOCK: tl.constexpr):
    """Real and imaginary parts of ``BLOCK`` complex numbers in a row, of which ``pixels`` are there."""
    place = tl.arange(0, 2 * BLOCK)
    both = tl.load(base + 2 * first + place, mask=place < 2 * pixels, other=0.0)
    return tl.split(tl.reshape(both, (BLOCK, 2)))


@triton.jit
def _store(base, first, pixels, real, imag, BLOCK: tl.constexpr):
    place = tl.arange(0, 2 * BLOCK)
    both = tl.reshape(tl.join(real, imag), (2 * BLOCK,))
    tl.store(base + 2 * first + place, both, mask=place < 2 * pixels)


@triton.jit
def _corner(corners, b):
    """First row and column of a window, as the numbers that everything in a tile is counted in."""
    return tl.load(corners + 2 * b).to(tl.int32), tl.load(corners + 2 * b + 1).to(tl.int32)


@triton.jit
def exit_waves(
    waves, probes, array, corners, less, factor, modes, h, w, width, probe_step,
    LESS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """``P_bm O_b − factor f_bm``: one program for ``BLOCK`` pixels of a pattern, all modes."""
    b = tl.program_id(1).to(tl.int64)
    first = tl.program_id(0) * BLOCK
    pixels = h * w - first
    place = first + tl.arange(0, BLOCK)
    cy, cx = _corner(corners, b)
    seen = 2 * ((cy + place // w).to(tl.int64) * width + cx + place % w)
    inside = place < h * w
    seen_real = tl.load(array + seen, mask=inside, other=0.0)
    seen_imag = tl.load(array + seen + 1, mask=inside, other=0.0)
    for m in range(modes):
        mine = (b * modes + m) * h * w + first
        real, imag = _load(probes, b * probe_step + m * h * w + first, pixels, BLOCK)
        out_real, out_imag = real * seen_real - imag * seen_imag, real * seen_imag + imag * seen_real
        if LESS:
            less_real, less_imag = _load(less, mine, pixels, BLOCK)
            out_real, out_imag = out_real - factor * less_real, out_imag - factor * less_imag
        _store(waves, mine, pixels, out_real, out_imag, BLOCK)


@triton.jit
def modulus(
    waves, amplitudes, good, errors, tiny, modes, pixels_all,
    GOOD: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """``Ψ ← Ψ (√I / |Ψ| − 1)`` and the squared norm of that: one program for ``BLOCK`` pixels of a pattern."""
    b = tl.program_id(1).to(tl.int64)
    first = tl.program_id(0) * BLOCK
    pixels = pixels_all - first
    place = tl.arange(0, BLOCK)
    inside = place < pixels
    intensity = tl.zeros((BLOCK,), dtype=waves.dtype.element_ty)
    for m in range(modes):
        real, imag = _load(waves, (b * modes + m) * pixels_all + first, pixels, BLOCK)
        real += tiny
        intensity += real * real + imag * imag
    measured = tl.load(amplitudes + b * pixels_all + first + place, mask=inside, other=0.0)
    factor = tl.where(inside, measured * tl.rsqrt(intensity) - 1, 0.0)
    if GOOD:
        factor *= tl.load(good + first + place, mask=inside, other=0.0)
    for m in range(modes):
        mine = (b * modes + m) * pixels_all + first
        real, imag = _load(waves, mine, pixels, BLOCK)
        _store(waves, mine, pixels, (real + tiny) * factor, imag * factor, BLOCK)
    tl.store(errors + b * tl.num_programs(0) + tl.program_id(0), tl.sum(intensity * factor * factor))


@triton.jit
def overlap_add(
    array, patches, corners, count, h, w, height, width, patch_step,
    PARTS: tl.constexpr, FLAT: tl.constexpr, SIDE: tl.constexpr,
):  # fmt: skip
    """Patches added to their windows, in their order: one program for a tile of the canvas.

    All widths count real numbers, of which a pixel has ``PARTS``, so that a row is read as it lies; ``FLAT`` patches
    are one pixel each.
    """
    top, left = tl.program_id(0) * SIDE, tl.program_id(1) * SIDE * PARTS
    y, x = top + tl.arange(0, SIDE)[:, None], left + tl.arange(0, SIDE * PARTS)[None, :]
    here = array + y.to(tl.int64) * width + x
    there = (y < height) & (x < width)
    total = tl.load(here, mask=there, other=0.0)
    for b in range(count):
        cy, cx = _corner(corners, b)
        cx *= PARTS
        if (cy < top + SIDE) & (cy + h > top) & (cx < left + SIDE * PARTS) & (cx + w > left):
            inside = there & (y >= cy) & (y < cy + h) & (x >= cx) & (x < cx + w)
            place = (x + 0 * y) % PARTS if FLAT else (y - cy) * w + (x - cx)
            total += tl.load(patches + place, mask=inside, other=0.0)
        patches += patch_step
    tl.store(here, total, mask=there)


@triton.jit
def overlap_products(
    pull, light, probes, fields, corners, count, modes, h, w, height, width, probe_step,
    LIGHT: tl.constexpr, SIDE: tl.constexpr,
):  # fmt: skip
    """``Σ_m P_bm* f_bm`` added to the windows of ``pull``, ``Σ_m |P_bm|²`` to those of ``light``; as above."""
    top, left = tl.program_id(0) * SIDE, tl.program_id(1) * SIDE
    y, x = top + tl.arange(0, SIDE)[:, None], left + tl.arange(0, SIDE)[None, :]
    here = y.to(tl.int64) * width + x
    there = (y < height) & (x < width)
    real = tl.load(pull + 2 * here, mask=there, other=0.0)
    imag = tl.load(pull + 2 * here + 1, mask=there, other=0.0)
    power = tl.load(light + here, mask=there, other=0.0) if LIGHT else real
    for b in range(count):
        cy, cx = _corner(corners, b)
        if (cy < top + SIDE) & (cy + h > top) & (cx < left + SIDE) & (cx + w > left):
            inside = there & (y >= cy) & (y < cy + h) & (x >= cx) & (x < cx + w)
            pixel = 2 * ((y - cy) * w + (x - cx))
            for m in range(modes):
                p, f = probes + 2 * m * h * w + pixel, fields + 2 * m * h * w + pixel
                p_real, p_imag = tl.load(p, mask=inside, other=0.0), tl.load(p + 1, mask=inside, other=0.0)
                f_real, f_imag = tl.load(f, mask=inside, other=0.0), tl.load(f + 1, mask=inside, other=0.0)
                real += p_real * f_real + p_imag * f_imag
                imag += p_real * f_imag - p_imag * f_real
                if LIGHT:
                    power += p_real * p_real + p_imag * p_imag
        probes += probe_step
        fields += 2 * modes * h * w
    tl.store(pull + 2 * here, real, mask=there)
    tl.store(pull + 2 * here + 1, imag, mask=there)
    if LIGHT:
        tl.store(light + here, power, mask=there)
