"""Networks in safetensors, which cannot run code: written atomically, read with errors that say what to do."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ptybench.errors import InvalidData
from ptybench.io.files import atomic, require_file
from ptybench.networks.dncnn import ResidualChain


def write_tensors(path: Path, tensors: dict[str, Tensor], about: dict[str, str]) -> None:
    """Write tensors and what is said about them; a kill leaves the old file or the new one."""
    plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    with atomic(path) as temporary:
        save_file(plain, temporary, about)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a safetensors file by name, and what is said about them.

    Raises:
        InvalidData: where the file is missing, damaged or something else.

    """
    require_file(path)
    try:
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InvalidData(f"{path} is no whole safetensors file: fetch or export it again ({error})") from None


def write_chain(path: Path, chain: ResidualChain, about: dict[str, str]) -> None:
    """Write a network as it is used: ``0.weight``, ``0.bias``, ``1.weight`` …."""
    write_tensors(path, dict(chain.layers.state_dict()), about)


def read_chain(path: Path) -> ResidualChain:
    """Return a network from a file of :func:`write_chain`, or any other with such names.

    The kernels ``N.weight (n, m, s, s)`` with odd ``s`` and, where there are any, ``N.bias (n,)`` are applied in the
    order of their numbers, with a ReLU between any two; what stands before the number does not matter.

    Raises:
        InvalidData: where the file holds no such chain.

    """
    tensors, _ = read_tensors(path)
    layers: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        *_, number, kind = ["", "", *key.split(".")]
        if kind not in ("weight", "bias") or not number.isdigit():
            raise InvalidData(f"{path}: expected tensors named N.weight and N.bias, got {key!r}")
        layers.setdefault(int(number), {})[kind] = value.float()
    weights = [layers[k].get("weight", torch.empty(0)) for k in sorted(layers)]
    biases = [layers[k].get("bias") for k in sorted(layers)]
    sizes = [tuple(weight.shape) for weight in weights]
    joined = all(after[1:2] == before[:1] for before, after in pairwise(sizes))
    kernels = all(len(size) == 4 and size[2] == size[3] and size[2] % 2 for size in sizes)
    if not (sizes and kernels and joined and sizes[0][1] == 1 and sizes[-1][0] == 1):
        raise InvalidData(
            f"{path}: expected a chain of convolutions (n, m, s, s) with odd s from one channel to one, got {sizes[:4]}"
        )
    if any(bias is not None and bias.shape != weight.shape[:1] for bias, weight in zip(biases, weights, strict=True)):
        raise InvalidData(f"{path}: a bias has not as many values as its convolution has outputs")
    if not all(tensor.isfinite().all() for layer in layers.values() for tensor in layer.values()):
        raise InvalidData(f"{path} holds values that are not finite")
    return ResidualChain(weights, biases)
