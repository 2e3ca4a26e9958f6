"""Fused kernels in place of chains of torch operations, each trusted after a comparison on the device.

A call says what torch would do and which tensors that changes. The first call of a kernel for a shape, and for a field
of all patterns or one of each, does both and compares; from then on the kernel does it alone, or torch does. In a CUDA
graph nothing can be compared, so what has not been compared before is captured as torch does it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from ptybench.cuda import distrust, wanted

CLOSE = {torch.complex64: 1e-4, torch.float32: 1e-4, torch.complex128: 1e-10, torch.float64: 1e-10}
OPTIONS: dict[str, Any] = {"enable_fp_fusion": True}  # the default, which Triton 3.9 wants said

_verdicts: dict[Hashable, bool] = {}


@cache
def installed() -> bool:
    """Whether Triton is here (``pip install ptybench[cuda]``; torch for CUDA on Linux brings it along)."""
    return find_spec("triton") is not None


def able(tensor: Tensor) -> bool:
    """Whether kernels can work on a tensor and its like."""
    return tensor.is_cuda and installed() and wanted("kernels")


def close(found: Tensor, expected: Tensor) -> bool:
    """Whether a tensor is another up to rounding."""
    return bool((found - expected).norm() <= CLOSE[expected.dtype] * expected.norm())


def _done(
    name: str,
    like: Tensor,
    key: Hashable,
    changed: Sequence[Tensor],
    torchs: Callable[[], Any],
    ours: Callable[[], Any],
) -> Any:
    """Let the kernel do it, or torch; return what that returns.

    Args:
        name: of the kernel.
        like: a tensor of the type and on the device in question.
        key: what else it has to be compared for anew.
        changed: tensors that both change.
        torchs: does it by torch; returns a new tensor or nothing.
        ours: does the same by the kernel.

    """

    def launched() -> Any:
        # Triton launches on the current device, whosever the tensors are
        with torch.cuda.device_of(like):  # type: ignore[no-untyped-call]
            return ours()

    key = name, str(like.device), like.dtype, key
    if key not in _verdicts:
        if like.is_cuda and torch.cuda.is_current_stream_capturing():
            return torchs()
        return _compared(name, key, changed, torchs, launched)
    return launched() if _verdicts[key] else torchs()


def _compared(
    name: str, key: Hashable, changed: Sequence[Tensor], torchs: Callable[[], Any], ours: Callable[[], Any]
) -> Any:
    """Do it both ways, remember whether they agree, and leave what torch did."""
    before = [tensor.clone() for tensor in changed]
    found, why = [], ""
    try:
        returned = ours()
        found = [tensor.clone() for tensor in changed] + ([] if returned is None else [returned])
    except Exception as error:  # a compiler or a driver may fail in any way
        why = f"{type(error).__name__}: {error}".splitlines()[0]
    for tensor, old in zip(changed, before, strict=True):
        tensor.copy_(old)
    returned = torchs()
    expected = [*changed] + ([] if returned is None else [returned])
    if not why and not all(bool(tensor.isfinite().all()) for tensor in expected):
        return returned  # says nothing about the kernel
    agree = not why and all(close(a, b) for a, b in zip(found, expected, strict=True))
    if not agree:
        distrust(f"the kernel {name}", why or "its result differs")
    _verdicts[key] = agree
    return returned


def _floats(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _rows(fields: Tensor) -> tuple[Tensor, int]:
    """Fields ``(B, ...)`` as their real numbers, and how many lie between two of them: 0 where all are the same one."""
    same = _shared(fields)
    flat = _floats(fields[:1].contiguous() if same else fields.contiguous())
    return flat, 0 if same else flat[0].numel()


def _shared(fields: Tensor) -> bool:
    """Whether fields ``(B, ...)`` are one and the same."""
    return fields.stride(0) == 0 or len(fields) == 1


def exit_waves(
    array: Tensor, corners: Tensor, probes: Tensor, less: Tensor | None, factor: float, torchs: Callable[[], Tensor]
) -> Tensor:
    """``P_bm O_b − factor f_bm``, ``(B, M, h, w)``.

    Args:
        array: the object ``(1, H, W)`` that patterns look at.
        corners: ``(B, 2)`` integers.
        probes: ``(B, M, h, w)``.
        less: ``f``, ``(B, M, h, w)``.
        factor: of ``f``.
        torchs: does it by torch.

    """
    from ptybench.cuda import kernels

    count, modes, h, w = probes.shape

    def ours() -> Tensor:
        waves = torch.empty((count, modes, h, w), dtype=array.dtype, device=array.device)
        rows, step = _rows(probes)
        other = waves if less is None else less.contiguous()
        kernels.exit_waves[(-(-h * w // kernels.PIXELS), count)](
            _floats(waves), rows, _floats(array), corners, _floats(other), factor, modes, h, w, array.shape[-1],
            step // 2, LESS=less is not None, BLOCK=kernels.PIXELS, **OPTIONS,
        )  # fmt: skip
        return waves

    found: Tensor = _done("exit_waves", array, (modes, h, w, less is None, _shared(probes)), [], torchs, ours)
    return found


def modulus(
    waves: Tensor, amplitudes: Tensor, good: Tensor | None, tiny: float, torchs: Callable[[], Tensor]
) -> Tensor:
    """``Ψ ← Ψ (√I / √(Σ_m |Ψ_m|²) − 1)`` in place where the detector is good, 0 elsewhere; its squared norm.

    Args:
        waves: ``(..., M, h, w)`` at the detector, changed.
        amplitudes: ``√I``, ``(..., 1, h, w)``.
        good: ``(h, w)`` of 1 and 0.
        tiny: added to ``Ψ`` first.
        torchs: does it by torch.

    """
    from ptybench.cuda import kernels

    if not waves.is_contiguous():  # they are changed where they are
        return torchs()
    modes, h, w = waves.shape[-3:]
    count = waves.numel() // (modes * h * w)
    across = -(-h * w // kernels.PIXELS)

    def ours() -> Tensor:
        errors = torch.empty((count, across), dtype=waves.dtype.to_real(), device=waves.device)
        kernels.modulus[(across, count)](
            _floats(waves), amplitudes.contiguous(), errors if good is None else good, errors, tiny, modes, h * w,
            GOOD=good is not None, BLOCK=kernels.PIXELS, **OPTIONS,
        )  # fmt: skip
        return errors.sum()

    found: Tensor = _done("modulus", waves, (modes, h, w, good is None), [waves], torchs, ours)
    return found


def overlap_add(
    array: Tensor, patches: Tensor, corners: Tensor, shape: tuple[int, int], torchs: Callable[[], None]
) -> None:
    """Add patches to the windows of a canvas, in their order.

    Args:
        array: ``(1, H, W)``, changed.
        patches: ``(B, 1, h, w)`` or ``(B, 1, 1, 1)`` of the same type.
        corners: ``(B, 2)`` integers.
        shape: ``(h, w)``.
        torchs: does it by torch.

    """
    from ptybench.cuda import kernels

    def ours() -> None:
        rows, step = _rows(patches)
        parts, (h, w), (height, width) = 2 if array.is_complex() else 1, shape, array.shape[-2:]
        kernels.overlap_add[_tiles(array)](
            _floats(array), rows, corners, len(corners), h, w * parts, height, width * parts, step,
            PARTS=parts, FLAT=patches.shape[-2:] != shape, SIDE=kernels.TILE, **OPTIONS,
        )  # fmt: skip

    _done("overlap_add", array, (shape, patches.shape[-2:], _shared(patches)), [array], torchs, ours)


def overlap_products(
    pull: Tensor, light: Tensor | None, probes: Tensor, fields: Tensor, corners: Tensor, torchs: Callable[[], None]
) -> None:
    """Add ``Σ_m P_bm* f_bm`` to the windows of one canvas, and ``Σ_m |P_bm|²`` to those of another.

    Args:
        pull: ``(1, H, W)``, changed.
        light: ``(1, H, W)`` real, changed.
        probes: ``(B, M, h, w)``.
        fields: ``f``, ``(B, M, h, w)``.
        corners: ``(B, 2)`` integers.
        torchs: does it by torch.

    """
    from ptybench.cuda import kernels

    count, modes, h, w = fields.shape

    def ours() -> None:
        rows, step = _rows(probes)
        kernels.overlap_products[_tiles(pull)](
            _floats(pull), pull.real if light is None else light, rows, _floats(fields.contiguous()), corners,
            count, modes, h, w, *pull.shape[-2:], step, LIGHT=light is not None, SIDE=kernels.TILE, **OPTIONS,
        )  # fmt: skip

    changed = [pull] if light is None else [pull, light]
    _done("overlap_products", pull, (modes, h, w, light is None, _shared(probes)), changed, torchs, ours)


def _tiles(array: Tensor) -> tuple[int, int]:
    from ptybench.cuda import kernels

    return -(-array.shape[-2] // kernels.TILE), -(-array.shape[-1] // kernels.TILE)
