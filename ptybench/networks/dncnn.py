"""DnCNN: the noise of a grey image as a chain of convolutions sees it."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from ptybench.networks.norms import NormEstimate, certified_norm

Variant = Literal["bn", "realsn"]


class NormalizedConv2d(nn.Conv2d):
    """A convolution without bias, divided by its operator norm (real spectral normalization, arXiv:1905.05406)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1, bias=False)
        middle = self.weight.detach()[:, :, 1, 1]
        # a ReLU passes what an identity gives it: seventeen random layers of norm 1 would let nothing through
        if inputs == outputs:
            self.weight.detach().mul_(0.05)
            middle += torch.eye(inputs)
        self.norm = NormEstimate(self.weight.detach())

    def forward(self, image: Tensor) -> Tensor:
        """Convolve."""
        found: Tensor = self._conv_forward(image, self.weight / self.norm(self.weight), None)
        return found


class DnCNN(nn.Module):
    """The residual network of Zhang et al. 2017 (10.1109/TIP.2017.2662206) in training: ``D(x) = x − R(x)``.

    ``R`` is ``depth`` convolutions of 3 x 3, ``width`` channels wide, with a ReLU between any two.

    Args:
        depth: convolutions; 17 in the source.
        width: channels; 64 in the source.
        variant: ``bn`` has biases at both ends and batch normalization between; ``realsn`` has neither, and each
            convolution is divided by its operator norm, so that ``R`` never stretches a distance.

    """

    def __init__(self, depth: int, width: int, variant: Variant) -> None:
        super().__init__()
        sizes = [1, *[width] * (depth - 1), 1]
        parts: list[nn.Module] = []
        for k, (inputs, outputs) in enumerate(pairwise(sizes)):
            inner = 0 < k < depth - 1
            if variant == "realsn":
                layer: nn.Conv2d = NormalizedConv2d(inputs, outputs)
                parts.append(layer)
            else:
                layer = nn.Conv2d(inputs, outputs, 3, padding=1, bias=not inner)
                # the last layer from zero: a network begins by leaving every image as it is
                nn.init.kaiming_normal_(layer.weight) if k < depth - 1 else nn.init.zeros_(layer.weight)
                parts += [layer, nn.BatchNorm2d(outputs)] if inner else [layer]
            if k < depth - 1:
                parts.append(nn.ReLU())
            # channels last: faster in training on a CPU
            layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
        self.parts = nn.Sequential(*parts)

    def residual(self, image: Tensor) -> Tensor:
        """``R``, of images ``(B, 1, H, W)``."""
        found: Tensor = self.parts(image)
        return found

    def forward(self, image: Tensor) -> Tensor:
        """Return images ``(B, 1, H, W)`` without the noise that ``R`` sees in them."""
        return image - self.residual(image)


class ResidualChain(nn.Module):
    """A DnCNN as it is used: convolutions and ReLUs alone, ``D(x) = x − R(x)``.

    Args:
        weights: kernels ``(n, m, s, s)`` in order.
        biases: ``(n,)`` each, or ``None`` where a layer has none.

    """

    def __init__(self, weights: list[Tensor], biases: list[Tensor | None]) -> None:
        super().__init__()
        self.convolutions: list[nn.Conv2d] = []
        for weight, bias in zip(weights, biases, strict=True):
            n, m, s, _ = weight.shape
            layer = nn.Conv2d(m, n, s, padding=s // 2, bias=bias is not None)
            layer.weight = nn.Parameter(weight, requires_grad=False)
            if bias is not None:
                layer.bias = nn.Parameter(bias, requires_grad=False)
            self.convolutions.append(layer)
        self.layers = nn.ModuleList(self.convolutions)

    def residual(self, image: Tensor) -> Tensor:
        """``R``, of images ``(B, 1, H, W)``."""
        for layer in self.convolutions[:-1]:
            image = torch.relu(layer(image))
        found: Tensor = self.convolutions[-1](image)
        return found

    def forward(self, image: Tensor) -> Tensor:
        """Return images ``(B, 1, H, W)`` without the noise that ``R`` sees in them."""
        return image - self.residual(image)


@torch.no_grad()
def deployed(network: DnCNN) -> ResidualChain:
    """Return a trained network as it is used, on the CPU.

    Batch normalization is folded into the convolution before it. A normalized convolution is divided by the certified
    bound of its operator norm instead of the estimate, so that ``Lip(R) ≤ 1`` is proved: a ReLU stretches nothing, and
    neither does any layer.
    """
    weights: list[Tensor] = []
    biases: list[Tensor | None] = []
    for part in network.parts:
        if isinstance(part, NormalizedConv2d):
            weights.append(nonexpansive(part.weight.cpu()))
            biases.append(None)
        elif isinstance(part, nn.Conv2d):
            weights.append(part.weight.cpu().clone())
            biases.append(None if part.bias is None else part.bias.cpu().clone())
        elif isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_var is not None
            scale = (part.weight / (part.running_var + part.eps).sqrt()).cpu()
            weights[-1] *= scale[:, None, None, None]
            biases[-1] = part.bias.cpu() - part.running_mean.cpu() * scale
    return ResidualChain(weights, biases)


def nonexpansive(kernel: Tensor) -> Tensor:
    """Return a kernel divided by the certified bound of its norm; float32, and rounding is on the safe side."""
    bound = certified_norm(kernel.double().numpy())
    return (kernel.double() / bound * (1 - 1e-6)).float()
