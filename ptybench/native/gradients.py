"""Gradients of a loss, steps of Adam and total variation, by compiled kernels."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ptybench.native.library import Kernel, address, loaded, suffix_of

if TYPE_CHECKING:
    from ptybench.engines.gradient import Batch, Gradient
    from ptybench.engines.losses import Loss

SAMPLINGS = {"crop": 0, "fourier": 1, "bilinear": 2}


class _Gradient(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("loss", "sampling", "states", "padded_h", "padded_w")),
        *((name, ctypes.c_int64) for name in ("refine_probe", "refine_positions", "refine_distance", "go_on")),
        *((name, ctypes.c_double) for name in ("floor", "scale")),
        *((name, ctypes.c_void_p) for name in ("object", "probe", "transfer", "bend", "positions")),
        *((name, ctypes.c_void_p) for name in ("object_gradient", "probe_gradient", "position_gradient", "sums")),
    )


class GradientKernel(Kernel):
    """Losses and gradients of batches; see :class:`ptybench.engines.gradient.Differentiable`."""

    kind = "gradients"

    def batch(self, batch: Batch, loss: Loss, found: Gradient, here: slice) -> None:
        """Loss and gradient of some patterns, which are at hand, as ``Differentiable.by_torch`` has them.

        Args:
            batch: the patterns.
            loss: what is summed up.
            found: overwritten, or added to where there were patterns before.
            here: where these patterns stand among those that the gradient is of.

        """
        order = np.array(batch.index, np.int64)
        places, pushes, sums = np.ascontiguousarray(batch.positions, np.float64), found.positions[here], np.zeros(3)
        objects, probe, sight = batch.objects, batch.probe, batch.sight
        task = _Gradient(
            loss.code, SAMPLINGS[batch.sampling], len(objects), *batch.padded, *batch.wanted, here.start > 0,
            loss.floor, loss.scale,
            address(objects), address(probe), address(sight.transfer), address(sight.bend), places.ctypes.data,
            address(found.object), address(found.probe), pushes.ctypes.data, sums.ctypes.data,
        )  # fmt: skip
        run = self.function("batch", ctypes.c_int, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p])
        if run(self.address, order.ctypes.data, len(order), ctypes.byref(task)):
            raise MemoryError("no memory for the workspaces of a reconstruction")
        value, error, distance = sums.tolist()
        found.loss, found.error, found.distance = found.loss + value, found.error + error, found.distance + distance


def serves(tensor: Tensor) -> bool:
    """Whether the kernels of this module can work on a tensor."""
    return loaded() is not None and tensor.device.type == "cpu" and tensor.is_contiguous() and tensor.is_complex()


def adam(
    values: Tensor, gradient: Tensor, first: Tensor, second: Tensor, bend: Tensor | None, constants: tuple[float, ...]
) -> None:
    """One step of :class:`ptybench.engines.descent.Adam` on ``(modes, ...)``, in place."""
    run = _function("adam", values, None, [*[ctypes.c_int64] * 2, *[ctypes.c_void_p] * 6])
    how = np.array(constants)
    run(
        len(values), values[0].numel(), address(values), address(gradient), address(first), address(second),
        address(bend), how.ctypes.data,
    )  # fmt: skip


def variation(canvas: Tensor, gradient: Tensor, p: float, q: float, epsilon: float) -> float:
    """``Σ [(|∂y O|² + ε)^(p/2) + (|∂x O|² + ε)^(p/2)]^(q/p)`` of ``(H, W)``; its gradient is written."""
    arguments = [*[ctypes.c_int64] * 2, *[ctypes.c_void_p] * 2, *[ctypes.c_double] * 3]
    run = _function("variation", canvas, ctypes.c_double, arguments)
    total: float = run(*canvas.shape, address(canvas), address(gradient), p, q, epsilon)
    return total


def _function(name: str, tensor: Tensor, result: Any, arguments: list[Any]) -> Any:
    found = loaded()
    assert found is not None
    function = getattr(found[1], f"pty_{name}_{suffix_of(tensor.dtype)}")
    function.restype, function.argtypes = result, arguments
    return function
