"""Denoisers by name: the networks that ship with ptybench, a network of one's own, and classical ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptybench.errors import InvalidOption, UnknownName
from ptybench.io.files import sha256_file
from ptybench.native import chains
from ptybench.networks.files import read_chain

LEVEL = 15 / 255
"""Standard deviation of the noise that the networks were trained on, in units of the grey scale."""
SUFFIX = ".safetensors"
AT_ONCE = 2
"""Images that pass a network together on a GPU: both parts of an object."""


class Denoiser(ABC):
    """Takes white noise of a known strength off grey images whose scale goes from 0 to 1.

    Attributes:
        evaluations: forward passes of a network on one image so far.

    """

    evaluations: int = 0

    @abstractmethod
    def __call__(self, images: Tensor) -> Tensor:
        """Return images ``(B, H, W)`` without noise, a new tensor."""


class Network(Denoiser):
    """A chain of convolutions that sees the noise; trained on one strength, which is therefore known.

    Args:
        path: see :func:`ptybench.networks.files.read_chain`.
        device: torch device.

    """

    def __init__(self, path: Path, device: torch.device) -> None:
        self.chain = read_chain(path).to(device)
        self.chain.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.kernels = chains.Chain(self.chain) if chains.serves(self.chain) else None
        self.at_once = 1 if device.type == "cpu" else AT_ONCE  # a processor's caches hold less

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Return images ``(B, H, W)`` without noise."""
        self.evaluations += len(images)
        if self.kernels is not None:
            return self.kernels(images)
        return torch.cat([self.chain(part) for part in torch.split(images[:, None], self.at_once)])[:, 0]


class Classical(Denoiser):
    """A denoiser of numpy images, one after another on the host.

    Args:
        sigma: standard deviation of the noise, in units of the grey scale.

    """

    def __init__(self, sigma: float) -> None:
        self.sigma = sigma

    @abstractmethod
    def one(self, image: NDArray[np.float32]) -> NDArray[np.floating]:
        """Return an image ``(H, W)`` without noise."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return images ``(B, H, W)`` without noise."""
        found = [np.asarray(self.one(image), np.float32) for image in images.cpu().numpy()]
        return torch.from_numpy(np.stack(found)).to(images.device)


class TotalVariation(Classical):
    """Least total variation at a distance that noise explains (Chambolle 2004, 10.1023/B:JMIV.0000011325.36760.1e).

    The weight is in units of the noise; of 0.3 to 1.4 it has the best mean PSNR over both kinds of dead leaves
    of the domain ``train``, at a noise of 15/255.
    """

    weight = 0.5

    def one(self, image: NDArray[np.float32]) -> NDArray[np.floating]:
        """As :class:`Classical` says."""
        from skimage.restoration import denoise_tv_chambolle

        found: NDArray[np.floating] = denoise_tv_chambolle(  # type: ignore[no-untyped-call]
            image, weight=self.weight * self.sigma
        )
        return found


class NonLocalMeans(Classical):
    """Means over pixels with like surroundings (Buades, Coll & Morel 2005, 10.1109/CVPR.2005.38), of scikit-image.

    Patches of ``5 x 5`` within 6 pixels; the filter's strength is in units of the noise, tuned like
    total variation's.
    """

    strength = 0.8

    def one(self, image: NDArray[np.float32]) -> NDArray[np.floating]:
        """As :class:`Classical` says."""
        return non_local_means(image, self.sigma, self.strength)


def non_local_means(image: NDArray[np.float32], sigma: float, strength: float, patch: int = 5) -> NDArray[np.floating]:
    """Return an image ``(H, W)`` denoised with a filter of ``strength * sigma``."""
    from skimage.restoration import denoise_nl_means

    found: NDArray[np.floating] = denoise_nl_means(
        image, patch_size=patch, patch_distance=6, h=strength * sigma, sigma=sigma, fast_mode=True
    )
    return found


class BlockMatching(Classical):
    """BM3D (Dabov, Foi, Katkovnik & Egiazarian 2007, 10.1109/TIP.2007.901238), where its authors' package is installed.

    Raises:
        InvalidOption: where it is not.

    """

    def __init__(self, sigma: float) -> None:
        super().__init__(sigma)
        try:
            import bm3d
        except ImportError:
            raise InvalidOption(
                "the denoiser bm3d needs its authors' package, free for non-commercial use: pip install bm3d"
            ) from None
        self._run = bm3d.bm3d

    def one(self, image: NDArray[np.float32]) -> NDArray[np.floating]:
        """As :class:`Classical` says."""
        found: NDArray[np.floating] = self._run(image, self.sigma)
        return found


CLASSICAL: dict[str, type[Classical]] = {"tv": TotalVariation, "nlm": NonLocalMeans, "bm3d": BlockMatching}


def weights_folder() -> Path:
    """The folder of the weights that ship with ptybench, with their cards."""
    return Path(str(resources.files("ptybench.baselines").joinpath("weights")))


def network_names() -> list[str]:
    """The networks that ship with ptybench: their weights lie in ``baselines/weights``."""
    found = weights_folder().glob(f"dncnn_*{SUFFIX}")
    return sorted(path.name.removeprefix("dncnn_").removesuffix(SUFFIX) for path in found)


def network_path(name: str) -> Path:
    """Where the weights of a network lie, by its name or by the path of a file of one's own.

    Raises:
        UnknownName: where there is none.

    """
    if name.endswith(SUFFIX):
        return Path(name)
    if name not in network_names():
        known = {*network_names(), *CLASSICAL}
        raise UnknownName("denoiser", name, known, f"known are {', '.join(sorted(known))}, or the path of a {SUFFIX}")
    return weights_folder() / f"dncnn_{name}{SUFFIX}"


def make_denoiser(name: str, device: torch.device, sigma: float = LEVEL) -> Denoiser:
    """Return a denoiser.

    Args:
        name: of a network, of a classical denoiser, or the path of a safetensors file.
        device: torch device.
        sigma: standard deviation of the noise on the grey scale, for the classical ones; a network has its own.

    Raises:
        UnknownName: no such denoiser.
        InvalidData: the file is missing or holds no network.
        InvalidOption: a package is missing.

    """
    if name in CLASSICAL:
        return CLASSICAL[name](sigma)
    return Network(network_path(name), device)


@cache
def weights_sha256(name: str) -> str | None:
    """SHA-256 of a denoiser's weights; ``None`` for a classical one.

    Raises:
        UnknownName: no such denoiser.
        InvalidData: the file is missing.

    """
    return None if name in CLASSICAL else sha256_file(network_path(name))
