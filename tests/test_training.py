"""Training: the same result however often it is stopped, refusals, export, and the command."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ptybench.cli import main
from ptybench.cli.options import parse_settings
from ptybench.errors import InvalidData, InvalidOption, MethodFailed, UnknownName
from ptybench.networks.denoisers import network_path, weights_folder
from ptybench.networks.dncnn import DnCNN, deployed
from ptybench.networks.files import read_chain, read_tensors
from ptybench.training import evaluation
from ptybench.training.card import command, markdown
from ptybench.training.denoising import Denoising
from ptybench.training.loop import Standing, Training, learning_rate, train_network
from ptybench.training.recipe import Recipe, config_names, read_recipe

TINY: dict[str, Any] = {
    "depth": 4,
    "width": 6,
    "patch": 16,
    "batch": 4,
    "steps": 8,
    "validate_every": 3,
    "warm_up": 2,
    "data": [{"generator": f"dead_leaves:{kind}", "count": 6, "size": 32} for kind in ("diverse", "textured")],
}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that trainings share, so that images are drawn once."""
    return tmp_path_factory.mktemp("images")


def tiny(config: str = "bn", **changes: Any) -> Recipe:
    return read_recipe("dncnn", config, TINY | changes)


def training(recipe: Recipe, images: Path, state: Path) -> Training:
    return Training(recipe, recipe.load(images, 1), state, CPU)


def nothing(standing: Standing) -> None:
    pass


@pytest.mark.parametrize("config", ["bn", "realsn", "blind"])
def test_a_training_that_was_killed_comes_to_the_same_result(tmp_path: Path, images: Path, config: str) -> None:
    recipe = tiny(config)
    whole = training(recipe, images, tmp_path / "whole.safetensors")
    assert whole.run(nothing)

    class Killed(Exception):
        pass

    def kill_at(last: int) -> Callable[[Standing], None]:
        def on_step(standing: Standing) -> None:
            if standing.step == last:
                raise Killed

        return on_step

    state = tmp_path / "often.safetensors"
    assert not training(recipe, images, state).run(nothing, seconds=0)
    for last, kept in ((2, 0), (4, 3), (7, 6)):
        torch.manual_seed(last)  # what went on before is no matter
        with pytest.raises(Killed):
            training(recipe, images, state).run(kill_at(last))
        assert training(recipe, images, state).step == kept
    part = training(recipe, images, state)
    assert part.run(nothing)
    assert part.finished
    assert part.history == whole.history
    ours, theirs = part.network.state_dict(), whole.network.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    first, second = (read_tensors(path)[0] for path in (state, tmp_path / "whole.safetensors"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_training_may_be_made_longer(tmp_path: Path, images: Path) -> None:
    state = tmp_path / "state"
    assert training(tiny(), images, state).run(nothing)
    longer = training(tiny(steps=10), images, state)
    assert (longer.step, longer.finished, longer.aims) == (8, False, [(0, 8), (8, 10)])
    assert longer.run(nothing)
    assert training(tiny(steps=10), images, state).aims == longer.aims


def test_another_seed_is_another_network(tmp_path: Path, images: Path) -> None:
    one, other = (training(tiny(seed=seed), images, tmp_path / f"{seed}") for seed in (0, 1))
    assert not torch.equal(next(one.network.parameters()), next(other.network.parameters()))


def test_statistics_of_batch_normalization_settle(tmp_path: Path, images: Path) -> None:
    work = training(tiny("bn", settle=0.5), images, tmp_path / "state")
    seen, steps = [], []
    norm = next(part for part in work.network.modules() if isinstance(part, torch.nn.BatchNorm2d))
    assert norm.running_mean is not None
    while not work.finished:
        work._one_step()
        seen.append(norm.running_mean.clone())
        steps.append(next(iter(work.adam.state.values()))["step"].item())
    changed = [not torch.equal(*pair) for pair in pairwise(seen)]
    assert changed == [True] * 3 + [False] * 4
    assert steps == [1, 2, 3, 4, 1, 2, 3, 4]
    rates = [learning_rate(work.recipe, step) for step in range(8)]
    assert rates[4] == pytest.approx(learning_rate(tiny("bn", settle=1.0), 4) / 2)
    assert rates[5:] == [learning_rate(tiny("bn", settle=1.0), step) for step in (5, 6, 7)]


@pytest.mark.parametrize("blur", [0.0, 2.0])
@pytest.mark.parametrize("contrast", [(1.0, 1.0), (0.2, 0.6)])
def test_samples_are_as_smooth_and_as_faint_as_the_recipe_says(
    images: Path, blur: float, contrast: tuple[float, float]
) -> None:
    recipe = tiny(blur=blur, contrast=contrast)
    assert isinstance(recipe, Denoising)
    (train, *_), rng = recipe.load(images, 1).train, np.random.default_rng(0)
    samples = np.stack([recipe._sample([train], rng, 0) for _ in range(200)])
    rng = np.random.default_rng(0)
    sharp = np.stack([tiny(blur=0.0, contrast=(1.0, 1.0))._sample([train], rng, 0) for _ in range(200)])
    assert samples.dtype == np.float32
    assert 0 <= samples.min() < samples.max() <= 1
    assert np.ptp(samples, axis=(1, 2)).max() <= contrast[1] + 1e-6

    def edges(stack: np.ndarray) -> float:
        """Power of the differences of neighbours beside the variance: contrast is nothing to it."""
        inside = stack[np.ptp(stack, axis=(1, 2)) > 0.01].astype(float)
        return float(((np.diff(inside, axis=2) ** 2).mean((1, 2)) / inside.var(axis=(1, 2))).mean())

    if blur:
        assert edges(samples) < 0.85 * edges(sharp)
    else:
        assert edges(samples) == pytest.approx(edges(sharp), rel=0.2)
        if contrast == (1.0, 1.0):
            assert np.array_equal(samples, sharp)


def test_a_training_learns(tmp_path: Path, images: Path) -> None:
    changes = {"learning_rate": 1e-2, "warm_up": 20, "width": 8, "batch": 8, "blur": 0.0, "contrast": (1.0, 1.0)}
    recipe = tiny("realsn", steps=120, validate_every=120, **changes)
    work = training(recipe, images, tmp_path / "state")
    work.run(nothing)
    noisy_db = -20 * np.log10(15 / 255)
    assert work.history[-1]["psnr_db"] > noisy_db + 0.25
    assert work.history[-1]["loss"] < (15 / 255) ** 2


@pytest.mark.parametrize("config", ["bn", "realsn"])
def test_the_network_in_use_is_the_one_that_was_trained(config: str) -> None:
    torch.manual_seed(0)
    network = tiny(config).network()
    assert isinstance(network, DnCNN)
    image = torch.rand(8, 1, 20, 20)
    with torch.no_grad():
        for parameter in network.parameters():  # away from what it begins with
            parameter.add_(0.1 * torch.randn(parameter.shape))
        for _ in range(80):
            network(image + 0.1 * torch.randn(image.shape))  # statistics of the normalization, estimates of the norms
        network.eval()
        found, wanted = deployed(network).residual(image), network.residual(image)
    # a bound is a little above the estimate that training divides by, in each of the layers
    tolerance = 1e-5 if config == "bn" else 0.1
    assert (found - wanted).norm() < tolerance * wanted.norm()
    assert wanted.norm() > 0


def test_checkpoints_of_something_else_are_refused(tmp_path: Path, images: Path) -> None:
    out = tmp_path / "out"
    train_network(tiny(), "mine", out, images, device="cpu", jobs=1, seconds=0)
    with pytest.raises(InvalidData, match=r"another training .*batch 4 there, 5 asked.*--force"):
        train_network(tiny(batch=5), "mine", out, images, device="cpu", jobs=1)
    state = out / "mine.checkpoint.safetensors"
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(InvalidData, match="no whole safetensors file"):
        train_network(tiny(), "mine", out, images, device="cpu", jobs=1)
    assert train_network(tiny(), "mine", out, images, device="cpu", jobs=1, seconds=0, force=True).step == 0


def test_a_loss_that_is_not_finite_ends_it(tmp_path: Path, images: Path) -> None:
    with pytest.raises(MethodFailed, match="smaller learning_rate"):
        training(tiny(learning_rate=1e30, warm_up=0, steps=50), images, tmp_path / "state").run(nothing)


@pytest.mark.parametrize(
    ("network", "config", "changes", "error", "message"),
    [
        ("dncn", "bn", {}, UnknownName, "did you mean 'dncnn'"),
        ("dncnn", "bm", {}, UnknownName, "did you mean"),
        ("dncnn", "nowhere.toml", {}, InvalidData, "there is no file"),
        ("dncnn", "bn", {"stepz": 3}, UnknownName, "did you mean 'steps'"),
        ("dncnn", "bn", {"noise": [0, 900]}, InvalidOption, "noise"),
    ],
)
def test_recipes_that_are_wrong(
    network: str, config: str, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        read_recipe(network, config, changes)


def test_recipes_that_ship() -> None:
    assert {"bn", "realsn", "blind"} <= set(config_names())
    for name in config_names():
        recipe = read_recipe("dncnn", name)
        rates = [learning_rate(recipe, step) for step in range(recipe.steps)]
        assert max(rates) == pytest.approx(recipe.learning_rate, rel=1e-3)
        assert rates[-1] == pytest.approx(recipe.last_learning_rate, rel=0.01)
        assert min(rates[:50]) > 0


def test_a_card_names_the_command_of_its_recipe() -> None:
    for changes in ({}, {"steps": 7, "noise": [0.0, 9.0], "title": "Mine, short"}):
        card = {"name": "dncnn_realsn", "recipe": read_recipe("dncnn", "realsn", changes).model_dump(mode="json")}
        words = shlex.split(command(card))
        assert words[:5] == ["ptybench", "train", "dncnn", "--config", "realsn"]
        assert words[5::2] == ["--set"] * len(changes)
        assert parse_settings(words[6::2]) == changes


def test_cards_that_ship_are_of_the_recipes_that_ship() -> None:
    paths = sorted(weights_folder().glob("*.card.json"))
    assert paths
    for path in paths:
        card = json.loads(path.read_text(encoding="utf-8"))
        assert card["recipe"] == read_recipe("dncnn", card["name"].removeprefix("dncnn_")).model_dump(mode="json")
        assert markdown(card) == path.with_suffix(".md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["bn", "realsn", "blind"])
def test_shipped_networks_are_as_good_as_their_cards_say(name: str) -> None:
    path = network_path(name)
    card, chain = json.loads(path.with_suffix(".card.json").read_text(encoding="utf-8")), read_chain(path)
    kinds = {key: evaluation.held_out(f"dead_leaves:{key}", 128) for key in ("diverse", "textured")}
    for kind, images in {**kinds, "photographs": evaluation.photographs()}.items():
        seen = evaluation.noisy(images, card["sigma"])
        with torch.no_grad():
            found = evaluation.mean_psnr([chain(image[None, None])[0, 0] for image in seen], images)
        assert found == pytest.approx(card["psnr_db"][kind]["network"], abs=0.01)
        if name == "bn":
            assert found > card["psnr_db"][kind]["non_local_means"] + (1.5 if kind in kinds else 0)


def test_the_command(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "PHOTOGRAPHS", ("page",))
    monkeypatch.setattr(evaluation, "HELD_OUT", 2)
    monkeypatch.setattr(evaluation, "NLM_PATCHES", (5,))
    monkeypatch.setattr(evaluation, "NLM_STRENGTHS", (0.8,))
    config = tmp_path / "mine.toml"
    tables = "".join(
        f'[[data]]\ngenerator = "{one["generator"]}"\ncount = {one["count"]}\nsize = {one["size"]}\n'
        for one in TINY["data"]
    )
    fields = "".join(f"{key} = {value}\n" for key, value in TINY.items() if key != "data")
    config.write_text(f'network = "dncnn"\ntitle = "Mine"\nvariant = "realsn"\n{fields}{tables}')
    words = ["train", "dncnn", "--config", str(config), "--out", str(tmp_path / "out"), "--data", str(images)]
    words += ["--device", "cpu", "--json"]
    assert main([*words, "--stop-after", "0.0001s"]) == 0
    stopped = json.loads(capsys.readouterr().out)
    assert stopped["step"] < stopped["steps"] == 8
    assert stopped["card"] is None
    assert main(words) == 0
    told = capsys.readouterr()
    card = json.loads(told.out)["card"]
    assert "step 8/8" in told.err
    weights = tmp_path / "out" / "dncnn_mine.safetensors"
    assert card == json.loads(weights.with_suffix(".card.json").read_text())
    assert "# Mine" in weights.with_suffix(".card.md").read_text()
    assert set(card["psnr_db"]) == {"diverse", "textured", "photographs"}
    for figures in card["psnr_db"].values():
        assert figures["noisy"] == pytest.approx(-20 * np.log10(15 / 255), abs=0.2)
        assert figures["non_local_means"] > figures["noisy"]
    assert card["lipschitz"]["residual_found"] <= card["lipschitz"]["residual_bound"] <= 1
    assert all(layer["power_iteration_40"] <= layer["bound"] <= 1 for layer in card["layers"])
    assert len(read_chain(weights).convolutions) == 4
    assert main([*words[:2], "--config", "nothing"]) == 2
