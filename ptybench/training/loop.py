"""The loop of every training: steps, checkpoints, validation, and going on where it was stopped."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ptybench.errors import InvalidData, MethodFailed
from ptybench.networks.files import read_tensors, write_tensors
from ptybench.runner.provenance import cpu_name, git_commit, package_version, threads
from ptybench.seeds import named_seed
from ptybench.solver import resolve_device
from ptybench.training.recipe import Recipe, Samples

KEEP_SECONDS = 120.0
"""Between checkpoints, beside those at validations."""


@dataclass
class Standing:
    """How far a training has come.

    Args:
        step: steps done.
        steps: of all.
        loss: mean over the steps since the last validation.
        merits: of the last validation.
        seconds: of training, over all calls.
        step_seconds: of a step, in this call.

    """

    step: int
    steps: int
    loss: float = math.nan
    merits: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    step_seconds: float = math.nan


class Training:
    """A network in training; what it consists of can be written to a file and taken up again.

    On a CPU with the same number of threads the result is the same to the bit, however often it was stopped. A training
    may go on with another number of steps than it was begun with; ``aims`` tells from which step on it had which.

    Args:
        recipe: what to do.
        samples: its data.
        state: file of the checkpoint; taken up where it is there.
        device: torch device.

    Raises:
        InvalidData: where the checkpoint belongs to another recipe, or is damaged.

    """

    def __init__(self, recipe: Recipe, samples: Samples, state: Path, device: torch.device) -> None:
        self.recipe, self.samples, self.state = recipe, samples, state
        torch.manual_seed(named_seed("train", recipe.trains, recipe.seed, "parameters"))
        self.network = recipe.network().to(device)
        self.adam = self._optimizer()
        self.step, self.seconds = 0, 0.0
        self.aims = [(0, recipe.steps)]
        self.history: list[dict[str, float]] = []
        self.losses: list[float] = []
        if state.exists():
            self._restore()

    @property
    def finished(self) -> bool:
        """True after the last step."""
        return self.step >= self.recipe.steps

    def run(self, on_step: Callable[[Standing], None], seconds: float = math.inf) -> bool:
        """Train until the last step, or for so many seconds; return whether it was the last.

        Raises:
            MethodFailed: where the loss is not finite.

        """
        start = kept = time.monotonic()
        first, before = self.step, self.seconds
        self.network.train()
        while not self.finished and time.monotonic() - start < seconds:
            self._one_step()
            now = time.monotonic()
            self.seconds = before + now - start
            if self.step % self.recipe.validate_every == 0 or self.finished:
                self._validate()
                self.keep()
                kept = now
            elif now - kept > KEEP_SECONDS:
                self.keep()
                kept = now
            on_step(self._standing((now - start) / (self.step - first)))
        self.keep()
        return self.finished

    def _optimizer(self) -> torch.optim.Adam:
        return torch.optim.Adam(self.network.parameters(), lr=self.recipe.learning_rate)

    def _one_step(self) -> None:
        if self.step == self.recipe.turn:
            self.adam = self._optimizer()  # the moments of other gradients make for steps that are far too long
        for group in self.adam.param_groups:
            group["lr"] = learning_rate(self.recipe, self.step)
        self.adam.zero_grad(set_to_none=True)
        loss = self.recipe.loss(self.network, self.samples, self.step)
        loss.backward()  # type: ignore[no-untyped-call]
        self.adam.step()
        self.losses.append(float(loss.detach()))
        if not math.isfinite(self.losses[-1]):
            raise MethodFailed(f"the loss of step {self.step} is {self.losses[-1]}: take a smaller learning_rate")
        self.step += 1

    def _validate(self) -> None:
        self.network.eval()
        with torch.inference_mode():
            merits = self.recipe.merits(self.network, self.samples)
        self.network.train()
        loss = sum(self.losses) / len(self.losses)
        self.history.append({"step": self.step, "loss": loss, **merits})
        self.losses.clear()

    def _standing(self, step_seconds: float) -> Standing:
        last = self.history[-1] if self.history else {}
        loss = sum(self.losses) / len(self.losses) if self.losses else last.get("loss", math.nan)
        merits = {key: value for key, value in last.items() if key not in ("step", "loss")}
        return Standing(self.step, self.recipe.steps, loss, merits, self.seconds, step_seconds)

    def keep(self) -> None:
        """Write the checkpoint."""
        tensors = {f"network.{key}": value for key, value in self.network.state_dict().items()}
        for index, moments in self.adam.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{key}": torch.as_tensor(value) for key, value in moments.items()}
        told = {
            "recipe": self.recipe.model_dump(mode="json"),
            "step": self.step,
            "seconds": self.seconds,
            "aims": self.aims,
            "history": self.history,
            "losses": self.losses,
        }
        write_tensors(self.state, tensors, {"training": json.dumps(told)})

    def _restore(self) -> None:
        tensors, about = read_tensors(self.state)
        try:
            told: dict[str, Any] = json.loads(about["training"])
            require_same(self.recipe, told["recipe"], self.state)
            self.network.load_state_dict(_under("network.", tensors))
            self.adam.load_state_dict(self.adam.state_dict() | {"state": _moments(tensors)})
            self.step, self.seconds = int(told["step"]), float(told["seconds"])
            self.history, self.losses = told["history"], told["losses"]
            self.aims = [(int(step), int(steps)) for step, steps in told.get("aims", [(0, told["recipe"]["steps"])])]
            if self.aims[-1][1] != self.recipe.steps:
                self.aims.append((self.step, self.recipe.steps))
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise InvalidData(
                f"{self.state} is no checkpoint of this training: --force begins anew ({error})"
            ) from None


@dataclass(frozen=True)
class Trained:
    """What a call of :func:`train_network` left.

    Args:
        out: folder of checkpoint, weights and card.
        standing: how far it came.
        card: of the finished network; ``None`` where it was stopped before.

    """

    out: Path
    name: str
    step: int
    steps: int
    card: dict[str, Any] | None

    @property
    def text(self) -> str:
        """For a reader."""
        if self.card is None:
            return f"stopped at step {self.step} of {self.steps}: the same command goes on"
        return f"{self.card['summary']}\nwrote {weights_path(self.out, self.name)} and its card"

    @property
    def document(self) -> dict[str, Any]:
        """For a program."""
        return {"out": str(self.out), "step": self.step, "steps": self.steps, "card": self.card}


def weights_path(out: Path, name: str) -> Path:
    """Where the weights of a finished training lie."""
    return out / f"{name}.safetensors"


def train_network(
    recipe: Recipe,
    name: str,
    out: Path,
    data: Path,
    *,
    device: str = "auto",
    jobs: int | None = None,
    seconds: float = math.inf,
    force: bool = False,
    on_step: Callable[[Standing], None] = lambda standing: None,
) -> Trained:
    """Train a network of a recipe, or go on with it, and write weights and card at the end.

    Args:
        recipe: from :func:`ptybench.training.recipe.read_recipe`.
        name: of the files.
        out: folder of checkpoint, weights and card.
        data: folder of the training images, which are made where they are not there.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        jobs: processes that make images; one a processor unless said otherwise.
        seconds: stop after so many, to go on another time.
        force: begin anew, whatever is there.
        on_step: told of every step.

    Raises:
        InvalidData: where another training is there, or something is damaged.
        MethodFailed: where the loss is not finite.

    """
    place = resolve_device(device)
    state = out / f"{name}.checkpoint.safetensors"
    if force:
        state.unlink(missing_ok=True)
    training = Training(recipe, recipe.load(data, jobs or threads()), state, place)
    if not training.run(on_step, seconds):
        return Trained(out, name, training.step, recipe.steps, None)
    training.network.eval()
    told = {
        "recipe": recipe.model_dump(mode="json"),
        "name": name,
        "data": training.samples.sources,
        "aims": [list(aim) for aim in training.aims],
        "history": training.history,
        "seconds": round(training.seconds, 1),
        "made_with": {"ptybench": package_version("ptybench"), "torch": torch.__version__, "commit": git_commit()},
        "device": cpu_name() if place.type == "cpu" else torch.cuda.get_device_name(place),
        "threads": torch.get_num_threads(),
    }
    card = recipe.finish(training.network, weights_path(out, name), told)
    return Trained(out, name, training.step, recipe.steps, card)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _moments(tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """The state of Adam: index of the parameter → its moments."""
    found: dict[int, dict[str, Tensor]] = {}
    for key, value in _under("adam.", tensors).items():
        index, _, name = key.partition(".")
        found.setdefault(int(index), {})[name] = value
    return found


def require_same(recipe: Recipe, there: dict[str, Any], state: Path) -> None:
    """Refuse to go on with another recipe.

    Raises:
        InvalidData: with what differs.

    """
    asked = recipe.model_dump(mode="json")
    different = [
        f"{key} {there.get(key)} there, {asked[key]} asked"
        for key in asked
        if key != "steps" and there.get(key) != asked[key]
    ]
    if different:
        raise InvalidData(
            f"{state} holds another training ({'; '.join(different[:3])}): choose another --out, or "
            "--force to begin anew"
        )


def learning_rate(recipe: Recipe, step: int) -> float:
    """The learning rate of a step: a linear rise, then half a cosine; it rises anew where the optimizer begins anew.

    Example:
        >>> from ptybench.training.recipe import read_recipe
        >>> recipe = read_recipe("dncnn", "bn", {"steps": 10, "warm_up": 2, "last_learning_rate": 0.0})
        >>> [round(learning_rate(recipe, step), 6) for step in (0, 1, 2, 9)]
        [0.0005, 0.001, 0.001, 3.8e-05]

    """
    if step < recipe.warm_up:
        return recipe.learning_rate * (step + 1) / recipe.warm_up
    share = (step - recipe.warm_up) / max(recipe.steps - recipe.warm_up, 1)
    low, high = recipe.last_learning_rate, recipe.learning_rate
    rate = low + (high - low) * (1 + math.cos(math.pi * share)) / 2
    since = step - recipe.turn + 1 if recipe.turn is not None else 0
    return rate * since / recipe.warm_up if 0 < since < recipe.warm_up else rate
