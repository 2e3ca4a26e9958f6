"""How good a denoiser is beside others, on images that it has not seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptybench.networks.denoisers import TotalVariation, non_local_means
from ptybench.networks.dncnn import ResidualChain
from ptybench.registry import load_generator
from ptybench.seeds import named_rng

Picture = NDArray[np.float32]
HELD_OUT = 16
"""Images of each kind of leaves; of a sequence that neither training nor validation sees."""
HELD_OUT_SEED = 1
PHOTOGRAPHS = ("camera", "coins", "moon", "astronaut", "coffee", "chelsea")
NLM_STRENGTHS = (0.6, 0.75, 0.9, 1.05)
NLM_PATCHES = (5, 7)
TV_WEIGHTS = (0.4, 0.5, 0.6, 0.7, 0.85, 1.0)


@dataclass(frozen=True)
class Figures:
    """What was measured on images of one kind.

    Args:
        psnr_db: mean PSNR of noisy images, of the network and of others.
        tuned: the options of others that were best here.
        clean_change: PSNR of the denoised clean image to the clean one.

    """

    psnr_db: dict[str, float]
    tuned: dict[str, float]
    clean_change: float


def held_out(generator: str, size: int, count: int | None = None) -> list[Tensor]:
    """Images ``(H, W)`` of the domain ``dev``."""
    made = load_generator(generator)()
    images = (made.image(k, (size, size), domain="dev", seed=HELD_OUT_SEED) for k in range(count or HELD_OUT))
    return [torch.from_numpy(image.astype(np.float32)) for image in images]


def photographs() -> list[Tensor]:
    """The middle of grey photographs that come with scikit-image, ``(256, 256)`` at most, from 0 to 1."""
    from skimage import color, data, util

    found = (getattr(data, name)() for name in PHOTOGRAPHS)
    grey = (color.rgb2gray(image) if image.ndim == 3 else util.img_as_float(image) for image in found)  # type: ignore[no-untyped-call]
    return [torch.from_numpy(middle(image).astype(np.float32)) for image in grey]


def middle(image: Picture, side: int = 256) -> Picture:
    """The middle of an image, ``side²`` pixels where it has as many."""
    top, left = (max(0, (size - side) // 2) for size in image.shape)
    return image[top : top + side, left : left + side]


def noisy(images: list[Tensor], sigma: float) -> list[Tensor]:
    """The images with the same white noise each time."""
    rng = named_rng("evaluate", len(images))
    return [image + sigma * torch.from_numpy(rng.standard_normal(image.shape, np.float32)) for image in images]


@torch.no_grad()
def evaluate(chain: ResidualChain, images: list[Tensor], sigma: float) -> Figures:
    """Measure a network and others on images ``(H, W)`` with white noise.

    Others are tuned on the very images, which is in their favour.

    Args:
        chain: the network.
        images: clean.
        sigma: standard deviation of the noise.

    """
    from scipy.ndimage import median_filter

    seen = noisy(images, sigma)
    arrays = [image.numpy() for image in seen]

    def merit(denoise: Callable[..., NDArray[np.floating]], *options: float) -> float:
        return mean_psnr([torch.from_numpy(np.asarray(denoise(one, *options), np.float32)) for one in arrays], images)

    nlm = {(h, p): merit(non_local_means, sigma, h, p) for h in NLM_STRENGTHS for p in NLM_PATCHES}
    tv = {weight: merit(total_variation, sigma, weight) for weight in TV_WEIGHTS}
    (strength, patch), weight = max(nlm, key=nlm.__getitem__), max(tv, key=tv.__getitem__)
    figures = {
        "noisy": mean_psnr(seen, images),
        "median": merit(median_filter, 3),
        "total_variation": tv[weight],
        "non_local_means": nlm[strength, patch],
        "network": mean_psnr([chain(image[None, None])[0, 0] for image in seen], images),
    }
    cleaned = [chain(image[None, None])[0, 0] for image in images]
    tuned = {"nlm_strength": strength, "nlm_patch": float(patch), "tv_weight": weight}
    return Figures(figures, tuned, mean_psnr(cleaned, images))


def total_variation(image: Picture, sigma: float, weight: float) -> NDArray[np.floating]:
    """Return an image ``(H, W)`` of less total variation."""
    denoiser = TotalVariation(sigma)
    denoiser.weight = weight
    return denoiser.one(image)


def mean_psnr(found: list[Tensor], truth: list[Tensor]) -> float:
    """Mean PSNR in decibels of images from 0 to 1."""
    errors = [float((a - b).double().square().mean()) for a, b in zip(found, truth, strict=True)]
    return float(np.mean(-10 * np.log10(errors)))
