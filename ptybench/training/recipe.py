"""What can be trained: a recipe says data, network and loss, and :mod:`ptybench.training.loop` does the rest."""

from __future__ import annotations

import importlib
import tomllib
from abc import abstractmethod
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, ValidationError
from torch import Tensor, nn

from ptybench.errors import InvalidData, InvalidOption, UnknownName
from ptybench.specs import Spec, validation_sentence

TRAINABLE = {"dncnn": "ptybench.training.denoising:Denoising"}
"""What ``ptybench train`` knows: name → module and class of its recipe."""
CONFIGS = "configs"
"""Folder of ``ptybench.training`` with the recipes of the networks that ship with ptybench."""


class Recipe(Spec):
    """Everything that a trained network depends on, except the code; what ``ptybench train --config`` reads.

    A subclass is one kind of network. Whatever is random at a step comes from a stream that the step names, so that a
    training that was stopped goes on to the same result.

    Args:
        title: one line for the card.
        steps: of the optimizer.
        batch: samples a step.
        learning_rate: of Adam at the beginning, after a linear rise over ``warm_up`` steps.
        last_learning_rate: at the end; a cosine in between.
        warm_up: steps.
        seed: of the parameters, the samples and the noise.
        validate_every: steps from one validation to the next.

    """

    trains: ClassVar[str]

    title: str = ""
    steps: Annotated[int, Field(ge=1)]
    batch: Annotated[int, Field(ge=1)] = 16
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    last_learning_rate: Annotated[float, Field(ge=0)] = 1e-5
    warm_up: Annotated[int, Field(ge=0)] = 100
    seed: Annotated[int, Field(ge=0)] = 0
    validate_every: Annotated[int, Field(ge=1)] = 250

    @property
    def turn(self) -> int | None:
        """The step from which on the loss is another one, so that the optimizer begins anew; ``None`` where none is."""
        return None

    @abstractmethod
    def network(self) -> nn.Module:
        """Return a fresh network, drawn from the global generator of torch."""

    @abstractmethod
    def load(self, folder: Path, jobs: int) -> Samples:
        """Return the data; they are made in ``folder`` where they are not there."""

    @abstractmethod
    def loss(self, network: nn.Module, samples: Samples, step: int) -> Tensor:
        """Return the loss of step ``step``."""

    @abstractmethod
    def merits(self, network: nn.Module, samples: Samples) -> dict[str, float]:
        """Return the figures of merit by name, the most important first."""

    @abstractmethod
    def finish(self, network: nn.Module, out: Path, told: dict[str, Any]) -> dict[str, Any]:
        """Write the weights to ``out``, measure them, and return the card.

        Args:
            network: trained.
            out: the safetensors file.
            told: what the training says of itself, for the card.

        """


@dataclass(frozen=True)
class Samples:
    """What a recipe loaded: ``train`` and ``held_out``, in whatever form it needs, and the card of each file.

    Args:
        train: seen by the loss.
        held_out: seen by the validation alone.
        sources: what the card says of the data.

    """

    train: Any
    held_out: Any
    sources: list[dict[str, Any]]


def trainable(name: str) -> type[Recipe]:
    """Return the recipe class of a network that can be trained.

    Raises:
        UnknownName: where there is none.

    """
    if name not in TRAINABLE:
        raise UnknownName("network to train", name, TRAINABLE)
    module, _, attribute = TRAINABLE[name].partition(":")
    kind: type[Recipe] = getattr(importlib.import_module(module), attribute)
    return kind


def config_names() -> list[str]:
    """The recipes that ship with ptybench."""
    folder = resources.files("ptybench.training").joinpath(CONFIGS)
    return sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml"))


def read_recipe(network: str, config: str, changes: dict[str, Any] | None = None) -> Recipe:
    """Return the recipe of a TOML file, or of one that ships with ptybench by its name.

    Args:
        network: what is trained.
        config: path or name.
        changes: fields to set otherwise.

    Raises:
        UnknownName: no such network, recipe or field.
        InvalidData: the file is missing or no TOML.
        InvalidOption: a value out of range.

    """
    kind = trainable(network)
    if config.endswith(".toml"):
        path = Path(config)
        if not path.is_file():
            raise InvalidData(f"there is no file {path}: give a TOML file, or one of {', '.join(config_names())}")
        text = path.read_text(encoding="utf-8", errors="replace")
    else:
        if config not in config_names():
            raise UnknownName("training recipe", config, config_names())
        text = resources.files("ptybench.training").joinpath(CONFIGS, f"{config}.toml").read_text(encoding="utf-8")
    try:
        said = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidData(f"{config} is not TOML: {error}") from None
    trains = said.pop("network", network)
    if trains != network:
        raise InvalidData(f"{config} is a recipe for {trains}, not for {network}: ptybench train {trains}")
    for key in {**said, **(changes or {})}:
        if key not in kind.model_fields:
            raise UnknownName(f"field of a {network} recipe", key, kind.model_fields)
    try:
        return kind.model_validate(said | (changes or {}))
    except ValidationError as problem:
        raise InvalidOption(f"{config}: {validation_sentence(problem)}") from None
