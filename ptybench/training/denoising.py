"""Training of a denoiser: white noise on images that a formula draws."""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from ptybench.generation.produce import produce
from ptybench.generation.recipe import make_recipe
from ptybench.generation.shards import open_images
from ptybench.networks.dncnn import DnCNN, Variant
from ptybench.seeds import named_rng
from ptybench.specs import Spec
from ptybench.training.recipe import Recipe, Samples

Level = Annotated[float, Field(ge=0, le=255)]
Share = Annotated[float, Field(gt=0, le=1)]
HELD_OUT = 8
"""Images of each kind in a validation."""


class ImageSet(Spec):
    """Images of ``ptybench generate``.

    Args:
        generator: with its variant.
        count: how many, of the domain ``train``.
        size: pixels of a side.

    """

    generator: str
    count: Annotated[int, Field(ge=1)] = 1000
    size: Annotated[int, Field(ge=16, le=4096)] = 128


class Denoising(Recipe):
    """A DnCNN that takes white noise off grey images from 0 to 1 (Yamada et al. 2024, 10.1107/S1600576724006897, 4.1).

    Args:
        variant: ``bn`` or ``realsn``, see :class:`ptybench.networks.dncnn.DnCNN`.
        depth: convolutions.
        width: channels.
        noise: standard deviation in levels of 255; even between the two, drawn for each sample.
        patch: pixels of a side of a training sample, cut out at random and turned or mirrored.
        blur: every second sample is blurred by a Gaussian whose standard deviation in pixels is even between 0 and
            this. Not in the source: leaves have edges of one pixel, photographs and reconstructions have not.
        contrast: share of the grey scale that is left to a sample, even between the two; where on the scale is drawn
            too. Not in the source: a part of an image seldom goes from black to white.
        settle: share of the steps after which batch normalization keeps its statistics, those that the network in use
            has; 1 where it never does, as in the source.
        data: sets of images, each as often as another.

    """

    trains: ClassVar[str] = "dncnn"

    variant: Variant = "bn"
    depth: Annotated[int, Field(ge=2, le=64)] = 17
    width: Annotated[int, Field(ge=1, le=512)] = 64
    noise: tuple[Level, Level] = (15.0, 15.0)
    patch: Annotated[int, Field(ge=8)] = 48
    blur: Annotated[float, Field(ge=0, le=16)] = 0.0
    contrast: tuple[Share, Share] = (1.0, 1.0)
    settle: Share = 1.0
    data: Annotated[tuple[ImageSet, ...], Field(min_length=1)]

    @property
    def turn(self) -> int | None:
        """Where batch normalization settles; see :attr:`ptybench.training.recipe.Recipe.turn`."""
        return ceil(self.settle * self.steps) if self.settle < 1 and self.variant == "bn" else None

    def network(self) -> DnCNN:
        """Return a fresh network."""
        return DnCNN(self.depth, self.width, self.variant)

    def load(self, folder: Path, jobs: int) -> Samples:
        """Return memory-mapped images; they are drawn into ``folder`` where they are not there."""
        train, held_out, sources = [], [], []
        for one in self.data:
            train.append(_images(folder, one, "train", one.count, jobs))
            sources.append(one.model_dump(mode="json") | {"domain": "train", "sha256": train[-1][1]})
            held_out.append(_images(folder, one, "dev", HELD_OUT, jobs)[0])
        return Samples([images for images, _ in train], held_out, sources)

    def loss(self, network: nn.Module, samples: Samples, step: int) -> Tensor:
        """Mean squared error of the denoised samples, in units of the grey scale."""
        if self.turn is not None:
            for part in network.modules():
                if isinstance(part, nn.BatchNorm2d):
                    part.train(step < self.turn)
        rng = named_rng("train", self.trains, self.seed, step)
        clean = np.stack([self._sample(samples.train, rng, k) for k in range(self.batch)])
        sigma = rng.uniform(*self.noise, (self.batch, 1, 1)) / 255
        noisy = clean + sigma * rng.standard_normal(clean.shape, np.float32)
        x, y = (torch.from_numpy(a.astype(np.float32))[:, None].to(_device(network)) for a in (noisy, clean))
        loss: Tensor = (network(x) - y).square().mean()
        return loss

    def _sample(self, sets: list[NDArray[np.uint8]], rng: np.random.Generator, k: int) -> NDArray[np.float32]:
        images = sets[k % len(sets)]
        image = images[rng.integers(len(images))]
        side = min(self.patch, *image.shape)
        top, left = (rng.integers(length - side + 1) for length in image.shape)
        cut = np.rot90(image[top : top + side, left : left + side], int(rng.integers(4)))
        sample: NDArray[np.float32] = (cut[::-1] if rng.integers(2) else cut).astype(np.float32) / 255
        sigma, share = rng.uniform(0, self.blur) * rng.integers(2), rng.uniform(*self.contrast)
        if sigma > 0:
            sample = gaussian_filter(sample, sigma)
        return np.float32(share) * sample + np.float32(rng.uniform(0, 1 - share))

    def merits(self, network: nn.Module, samples: Samples) -> dict[str, float]:
        """PSNR in decibels on held-out images of each kind, at the strongest noise."""
        found = {}
        for one, images in zip(self.data, samples.held_out, strict=True):
            clean = torch.from_numpy(images.astype(np.float32) / 255)[:, None].to(_device(network))
            noisy = clean + self.noise[1] / 255 * _noise(clean.shape, one.generator).to(clean.device)
            found[one.generator.rpartition(":")[2]] = psnr(network(noisy), clean)
        return {"psnr_db": sum(found.values()) / len(found), **{f"psnr_{key}_db": v for key, v in found.items()}}

    def finish(self, network: nn.Module, out: Path, told: dict[str, Any]) -> dict[str, Any]:
        """Write the network as it is used, and its card; see :func:`ptybench.training.card.write_card`."""
        from ptybench.training.card import write_card

        assert isinstance(network, DnCNN)
        card: dict[str, Any] = write_card(network, out, told)
        return card


def _images(folder: Path, one: ImageSet, domain: Any, count: int, jobs: int) -> tuple[NDArray[np.uint8], str]:
    """Images ``(n, H, W)``, 8 bit, and the SHA-256 of their file."""
    recipe = make_recipe(one.generator, count=count, shape=(one.size, one.size), domain=domain, per_file=count)
    name = f"{one.generator.replace(':', '-')}-{domain}-{count}x{one.size}.h5"
    produced = produce(recipe, folder / name, jobs=jobs)
    return np.asarray(open_images(produced.out), np.uint8), produced.card["files"][0]["sha256"]


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


def _noise(shape: torch.Size, *axes: str) -> Tensor:
    rng = named_rng("validate", *axes)
    return torch.from_numpy(rng.standard_normal(tuple(shape), np.float32))


def psnr(found: Tensor, truth: Tensor) -> float:
    """Peak signal-to-noise ratio in decibels of images from 0 to 1, each ``(B, …)``; mean over ``B``."""
    error = (found - truth).square().flatten(1).mean(1)
    return float((-10 * error.log10()).mean())
