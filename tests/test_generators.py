"""Generators: of plug-ins too, by their names and from their recipes."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from leaves import RAMPS, leaves

from ptybench import registry
from ptybench.errors import DuplicateName, InvalidOption, MethodFailed, UnknownName
from ptybench.generation.produce import produce
from ptybench.generation.recipe import Recipe, encode, make_recipe
from ptybench.generation.shards import part_of


def test_a_plugin_brings_a_generator(tmp_path: Path, ramps: Path) -> None:
    assert registry.add_plugin(ramps) == ["ramps"]
    assert ("ramps", "Ramps that lean at random.") in [(one.name, one.title) for one in registry.list_generators()]
    recipe = make_recipe("ramps", count=6, shape=(8, 8))
    one, several = (produce(recipe, tmp_path / f"{jobs}.h5", jobs=jobs) for jobs in (1, 3))
    assert one.out.read_bytes() == several.out.read_bytes()
    assert one.card["title"] == "Ramps that lean at random"
    twin = tmp_path / "twin.py"
    twin.write_text(ramps.read_text())
    with pytest.raises(DuplicateName, match="ramps"):
        registry.add_plugin(twin)


@pytest.mark.parametrize(
    ("fate", "said"),
    [
        ("raise ArithmeticError('too steep')", "ArithmeticError: too steep"),
        ("os.kill(os.getpid(), 9)", "killed by signal 9"),
        ("return np.full(shape, np.nan)", "grey values from 0 to 1"),
        ("return np.full(shape, 1.5)", "grey values from 0 to 1"),
        ("return np.zeros((3, 3))", r"image 3 as \(3, 3\)"),
    ],
)
def test_a_worker_that_fails_is_a_sentence_and_what_was_drawn_stays(
    tmp_path: Path, ramps: Path, fate: str, said: str
) -> None:
    ramps.write_text(RAMPS.replace("{fate}", fate))
    registry.add_plugin(ramps)
    with pytest.raises(MethodFailed, match=said) as caught:
        produce(make_recipe("ramps", count=40, shape=(8, 8), parameters={"bad": 3}), tmp_path / "ramps.h5", jobs=2)
    assert "\n" not in str(caught.value)
    with h5py.File(part_of(tmp_path / "ramps.h5")) as file:
        assert file["crc32"][1] != 0
        assert file["crc32"][3] == 0


def test_names_that_nothing_has_and_names_with_variants() -> None:
    with pytest.raises(UnknownName, match="'dead_leaves:textured'"):
        leaves(generator="dead_leaves:texturd")
    with pytest.raises(InvalidOption, match="--variant diverse or textured"):
        leaves(generator="dead_leaves")
    with pytest.raises(UnknownName, match="'contrast'"):
        leaves(generator="dead_leaves:textured", parameters={"contrats": 1})
    with pytest.raises(InvalidOption, match="radius"):
        leaves(parameters={"radius": [0, 1]})


def test_a_recipe_comes_back_from_its_line() -> None:
    recipe = leaves(generator="dead_leaves:textured", pixel="float32", per_file=3)
    assert Recipe.parse(recipe.line) == recipe
    generator = recipe.make()
    assert generator.generates == "dead_leaves:textured"
    assert generator.model_dump(mode="json") == recipe.parameters


def test_levels_are_as_frequent_as_greys() -> None:
    greys = (np.arange(2560) + 0.5) / 2560
    assert (np.bincount(encode(greys, "uint8")) == 10).all()
    assert encode(np.array([0.0, 1.0]), "uint8").tolist() == [0, 255]
    np.testing.assert_array_equal(encode(greys, "float32"), greys.astype(np.float32))
