"""A chain of convolutions by compiled kernels: what :class:`ptybench.networks.dncnn.ResidualChain` does in torch."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from ptybench.native.library import address, loaded
from ptybench.networks.dncnn import ResidualChain


class _Convolution(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("inputs", "outputs", "side")),
        *((name, ctypes.c_void_p) for name in ("weight", "bias")),
    )


def serves(chain: ResidualChain) -> bool:
    """Whether the kernels can work on a chain, and are faster: the build for vectors of eight numbers is."""
    found = loaded()
    return (
        found is not None
        and found[0] == "avx2"
        and all(parameter.device.type == "cpu" and parameter.dtype == torch.float32 for parameter in chain.parameters())
    )


class Chain:
    """A chain's kernels, packed as they are read.

    Args:
        chain: the network, which may be changed or thrown away afterwards.

    """

    def __init__(self, chain: ResidualChain) -> None:
        found = loaded()
        assert found is not None
        self._library = found[1]
        parameters = [
            (layer.weight.detach().contiguous(), None if layer.bias is None else layer.bias.detach().contiguous())
            for layer in chain.convolutions
        ]
        layers = (_Convolution * len(parameters))(
            *(
                _Convolution(weight.shape[1], weight.shape[0], weight.shape[2], address(weight), address(bias))
                for weight, bias in parameters
            )
        )
        make = self._function("make_chain", ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_int64])
        self.address: int | None = make(layers, len(layers))
        if not self.address:
            raise MemoryError("no memory for the kernels of a network")

    def __call__(self, images: Tensor) -> Tensor:
        """Return images ``(B, H, W)``, float32, without the noise that the chain sees in them."""
        images = images.contiguous()
        found = torch.empty_like(images)
        run = self._function("chain", ctypes.c_int, [*[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 3])
        for image, there in zip(images, found, strict=True):
            if run(self.address, address(image), address(there), *image.shape, torch.get_num_threads()):
                raise MemoryError("no memory for the images within a network")
        return found

    def _function(self, name: str, result: Any, arguments: list[Any]) -> Any:
        function = getattr(self._library, f"pty_{name}")
        function.restype, function.argtypes = result, arguments
        return function

    def __del__(self) -> None:
        if getattr(self, "address", None):
            self._function("free_chain", None, [ctypes.c_void_p])(self.address)
