"""PINE and denoising in the iteration: the step against direct computation, names, scales, weights in the identity."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from problems import Problem, make_problem
from scipy.ndimage import uniform_filter

from ptybench import registry
from ptybench.engines.denoising import Denoising, DenoisingOptions, Light, quantile
from ptybench.errors import InvalidData, InvalidOption, UnknownName
from ptybench.networks.denoisers import CLASSICAL, make_denoiser, network_names, network_path
from ptybench.networks.dncnn import ResidualChain
from ptybench.networks.files import read_chain, write_chain, write_tensors
from ptybench.runner.cells import plan
from ptybench.solver import Limit, Outcome, Solver, solve

Complex = NDArray[np.complexfloating]


def make(method: str, problem: Problem, **options: Any) -> Solver:
    return registry.resolve_method(method, options).create(problem.measurement, "cpu", 1, None)


def run(method: str, problem: Problem, epochs: int = 3, **options: Any) -> Outcome:
    return solve(make(method, problem, **options), Limit(epochs=epochs))


@pytest.fixture(scope="module")
def blur(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that is a mean over 3 x 3 pixels: ``R = δ − mean``."""
    kernel = -torch.full((1, 1, 3, 3), 1 / 9)
    kernel[0, 0, 1, 1] += 1
    path = tmp_path_factory.mktemp("networks") / "blur.safetensors"
    write_chain(path, ResidualChain([kernel], [None]), {})
    return path


def settled(problem: Problem, obj: Complex, **options: Any) -> tuple[Complex, Light]:
    """An object after one step of denoising, on its own."""
    solver = make("epie", problem)
    solver.object = solver.tensor(obj)
    light = Light.of(solver)
    Denoising(solver, DenoisingOptions(**options)).step(1, 1.0)
    return solver.object.numpy(), light


def inside(light: Light) -> tuple[slice, slice]:
    """The rectangle of the light without its rim, where a network sees zeros beyond the edge."""
    return tuple(slice(one.start + 1, one.stop - 1) for one in light.box)  # type: ignore[return-value]


def textured(problem: Problem, seed: int = 0) -> Complex:
    rng = np.random.default_rng(seed)
    shape = problem.object.shape
    noise = rng.uniform(-0.1, 0.1, shape) + 1j * rng.uniform(-0.1, 0.1, shape)
    return (problem.object + noise).astype(np.complex64)


# --- the step --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rescale", ["dose", "global", "photons"])
def test_a_step_goes_towards_what_the_denoiser_makes_of_both_parts(problem: Problem, blur: Path, rescale: str) -> None:
    obj = textured(problem)
    found, light = settled(problem, obj, denoiser=str(blur), rho=0.4, rescale=rescale)
    wanted = 0.6 * obj + 0.4 * (uniform_filter(obj.real, 3) + 1j * uniform_filter(obj.imag, 3))
    assert np.abs(found - wanted)[inside(light)].max() < 2e-6
    if rescale != "global":
        outside = np.ones(obj.shape, bool)
        outside[light.box] = False
        assert np.array_equal(found[outside], obj[outside])


def test_polar_forms_denoise_modulus_and_phase(problem: Problem, blur: Path) -> None:
    obj = textured(problem) * np.exp(2.5j)
    modulus, phase = np.abs(obj), np.angle(obj * np.exp(-2.5j))
    found, light = settled(problem, obj, denoiser=str(blur), rho=0.4, form="polar")
    wanted = 0.6 * obj + 0.4 * uniform_filter(modulus, 3) * np.exp(1j * (uniform_filter(phase, 3) + 2.5))
    assert np.abs(found - wanted)[inside(light)].max() < 1e-5
    found, light = settled(problem, obj, denoiser=str(blur), rho=0.4, form="amplitude")
    wanted = obj * (0.6 + 0.4 * uniform_filter(modulus, 3) / modulus)
    assert np.abs(found - wanted)[inside(light)].max() < 1e-5


@pytest.mark.parametrize("rescale", ["dose", "global"])
def test_brightness_and_contrast_do_not_matter(problem: Problem, rescale: str) -> None:
    obj = textured(problem)
    options: dict[str, Any] = {"denoiser": "realsn", "rescale": rescale}
    found, _ = settled(problem, obj, **options)
    other, _ = settled(problem, (0.05 * obj + 0.9 - 0.3j).astype(np.complex64), **options)
    assert np.abs(found - obj).max() > 0.02  # it does something
    assert np.abs((other - 0.9 + 0.3j) / 0.05 - found).max() < 1e-3


@pytest.mark.parametrize("kernels", [True, False])
def test_extreme_pixels_set_the_global_scale_alone(
    kernels: bool, problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kernels:
        monkeypatch.setattr("ptybench.networks.denoisers.chains.serves", lambda _: False)
    obj = textured(problem)
    spoilt = obj.copy()
    spoilt[0, 0] = 60 + 60j
    change = {}  # of `bn`: without biases, `realsn` is homogeneous, and the width of the scale is nothing to it
    for rescale in ("dose", "global"):
        clean, _ = settled(problem, obj, denoiser="bn", rescale=rescale)
        after, _ = settled(problem, spoilt, denoiser="bn", rescale=rescale)
        middle = tuple(slice(size // 2 - 8, size // 2 + 8) for size in obj.shape)
        change[rescale] = np.abs(after - clean)[middle].max()
    # rounding in a tile of the kernels knows of all its pixels
    assert change["dose"] <= (1e-6 if kernels else 0.0), change
    assert change["global"] > 0.1, change


def test_light_is_where_the_probe_passes(problem: Problem) -> None:
    solver = make("epie", problem)
    probe = solver.probe.numpy()
    dose = np.zeros(solver.model.canvas)
    for window in solver.model.windows:
        dose[window] += np.sum(np.abs(probe) ** 2, axis=0)
    lit = dose >= 0.01 * dose.max()
    light = Light.of(solver)
    assert np.array_equal(light.lit.numpy(), lit[light.box])
    assert light.lit.sum() == lit.sum()
    assert float(light.noise) == pytest.approx(np.sqrt(np.mean(1 / (2 * dose[lit]))), rel=1e-4)


def test_noise_that_the_photons_leave_is_that_of_a_likelihood() -> None:
    """Fisher's information of Poisson counts about one pixel's parts, by explicit derivatives."""
    rng = np.random.default_rng(0)
    probe = rng.standard_normal((200, 16, 16)) + 1j * rng.standard_normal((200, 16, 16))
    obj = rng.uniform(0.5, 1.5, (16, 16)) * np.exp(2j * np.pi * rng.random((16, 16)))
    waves = np.fft.fft2(probe * obj, norm="ortho")
    point = np.zeros((16, 16))
    point[5, 7] = 1
    derivative = np.fft.fft2(probe * point, norm="ortho")
    for part in (1, 1j):
        slope = 2 * np.real(waves.conj() * part * derivative)
        information = np.sum(slope**2 / np.abs(waves) ** 2)
        assert information == pytest.approx(2 * np.sum(np.abs(probe[:, 5, 7]) ** 2), rel=0.05)


def test_quantiles_are_those_of_numpy() -> None:
    values = torch.rand(3, 1001, generator=torch.Generator().manual_seed(0))
    for share in (0.0, 0.001, 0.5, 0.999, 1.0):
        wanted = np.quantile(values.numpy(), share, axis=1, method="nearest")
        assert np.array_equal(quantile(values, share).numpy(), wanted)


def test_an_object_without_contrast_stays(problem: Problem) -> None:
    flat = np.full(problem.object.shape, 0.7 + 0.2j, np.complex64)
    for form in ("cartesian", "polar", "amplitude"):
        found, _ = settled(problem, flat, denoiser="realsn", form=form)
        assert np.abs(found - flat).max() < 1e-6


# --- methods ---------------------------------------------------------------------------------------------------------


def test_without_a_step_pine_is_epie_to_the_bit(problem: Problem) -> None:
    pine, epie = run("pine", problem, rho=0, alpha=0.7, beta=0.3), run("epie", problem, alpha=0.7, beta=0.3)
    assert np.array_equal(pine.estimate.object, epie.estimate.object)
    assert np.array_equal(pine.estimate.probe, epie.estimate.probe)
    assert pine.cost == epie.cost


def test_pine_is_epie_with_a_network(problem: Problem) -> None:
    pine, other = run("pine", problem), run("epie+dncnn", problem, alpha=0.5, beta=0.1)
    assert np.array_equal(pine.estimate.object, other.estimate.object)
    assert pine.cost == other.cost
    assert pine.cost.network_evaluations == 2 * 3
    assert not np.array_equal(pine.estimate.object, run("epie", problem, alpha=0.5, beta=0.1).estimate.object)


@pytest.mark.parametrize("method", ["rpie", "dm", "raar", "ml"])
def test_other_methods_take_a_denoiser(problem: Problem, method: str) -> None:
    with_network, without = run(f"{method}+dncnn", problem), run(method, problem)
    assert with_network.status == "ok"
    gap = np.abs(with_network.estimate.object - without.estimate.object).max()
    assert gap > 1e-3
    if method != "ml":  # which begins anew after an addition
        idle = run(f"{method}+dncnn", problem, rho=0)
        assert np.array_equal(idle.estimate.object, without.estimate.object)


def test_when_and_how_far(problem: Problem) -> None:
    late = run("pine", problem, 4, start=2, every=2)
    assert late.cost.network_evaluations == 2 * 2
    solver = make("epie", problem)
    denoising = Denoising(solver, DenoisingOptions(denoiser="tv", rho=0.4, falling=True))
    denoising.step(1, 0.5)
    assert denoising.rho(0.5) == 0.4
    assert denoising.rho(0.005) == pytest.approx(0.04)
    assert denoising.rho(2.0) == 0.4


def test_a_diverged_object_is_left_to_the_driver(problem: Problem) -> None:
    solver = make("pine", problem)
    solver.object[20, 20] = float("nan")
    solver.probe = solver.probe * float("nan")
    assert solve(solver, Limit(epochs=2)).status == "diverged"


# --- denoisers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tv", "nlm", *network_names()])
def test_denoisers_take_noise_off(name: str) -> None:
    y, x = np.indices((64, 64))
    clean = 0.3 + 0.4 * ((y - 30) ** 2 + (x - 34) ** 2 < 300) + 0.1 * (x > 20)
    noisy = clean + 15 / 255 * np.random.default_rng(0).standard_normal(clean.shape)
    images = torch.from_numpy(np.stack([noisy, noisy.T])).float()
    found = make_denoiser(name, torch.device("cpu"))(images).numpy()
    error = [np.sqrt(np.mean((one - clean) ** 2)) for one in (noisy, found[0], found[1].T)]
    assert error[1] < 0.6 * error[0]
    assert error[2] < 0.6 * error[0]


def test_names_of_denoisers() -> None:
    with pytest.raises(UnknownName, match="did you mean 'realsn'"):
        make_denoiser("realsm", torch.device("cpu"))
    with pytest.raises(InvalidData, match="there is no file"):
        registry.resolve_method("pine", {"denoiser": "nowhere.safetensors"})
    with pytest.raises(InvalidOption, match="denoiser"):
        registry.resolve_method("epie+tv", {"tv.denoiser": "nlm"})


def test_bm3d_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "bm3d", None)
    with pytest.raises(InvalidOption, match="pip install bm3d"):
        CLASSICAL["bm3d"](0.1)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"0.weight": torch.zeros(1, 1, 2, 2)}, "odd s"),
        ({"0.weight": torch.zeros(4, 1, 3, 3), "1.weight": torch.zeros(1, 5, 3, 3)}, "chain of convolutions"),
        ({"0.weight": torch.zeros(1, 1, 3, 3), "0.bias": torch.zeros(2)}, "bias"),
        ({"0.weight": torch.full((1, 1, 3, 3), torch.nan)}, "not finite"),
        ({"first": torch.zeros(1, 1, 3, 3)}, r"named N\.weight"),
    ],
)
def test_files_that_hold_no_network(tmp_path: Path, tensors: dict[str, torch.Tensor], message: str) -> None:
    path = tmp_path / "wrong.safetensors"
    write_tensors(path, tensors, {})
    with pytest.raises(InvalidData, match=message):
        read_chain(path)
    path.write_bytes(b"no safetensors")
    with pytest.raises(InvalidData, match="no whole safetensors file"):
        read_chain(path)


# --- weights and records ---------------------------------------------------------------------------------------------


def test_weights_belong_to_the_identity(tmp_path: Path, blur: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = plan(task="low_dose", method="pine").cell
    assert ours.weights == registry.resolve_method("epie+dncnn").weights
    assert ours.weights is not None
    assert plan(task="low_dose", method="epie").cell.weights is None
    assert plan(task="low_dose", method="epie+tv").cell.weights is None
    other = plan(task="low_dose", method="pine", options={"denoiser": "realsn"}).cell
    assert other.weights not in (None, ours.weights)
    both = registry.resolve_method("pine>epie+dncnn", {"2.dncnn.denoiser": "realsn"}).weights
    assert both not in (None, ours.weights, other.weights)
    assert registry.resolve_method("epie>pine").weights == ours.weights
    # a path is settled where it was written, for a child process works elsewhere
    monkeypatch.chdir(blur.parent)
    mine = registry.resolve_method("pine", {"denoiser": "blur.safetensors"})
    assert mine.options["denoiser"] == str(blur)
    assert mine.weights is not None


def test_the_shipped_networks_are_the_ones_on_their_cards() -> None:
    import json

    from ptybench.io.files import sha256_file

    assert set(network_names()) == {"bn", "realsn", "blind"}
    for name in network_names():
        path = network_path(name)
        card = json.loads(path.with_suffix(".card.json").read_text())
        assert card["weights"]["sha256"] == sha256_file(path)
        assert path.stat().st_size < 45e6
        assert sum(v.numel() for v in read_chain(path).parameters()) == card["parameters"]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda_agrees_with_the_cpu() -> None:
    problem = make_problem()
    found = []
    for device in ("cpu", "cuda"):
        solver = registry.resolve_method("pine").create(problem.measurement, device, 1, None)
        found.append(solve(solver, Limit(epochs=2)).estimate.object)
    assert np.abs(found[0] - found[1]).max() < 1e-2


def test_a_mode_more_or_less_is_no_matter() -> None:
    problem = make_problem(modes=2)
    assert run("pine", problem).status == "ok"
    known = replace(problem.measurement, known_probe=True)
    assert run("pine", replace(problem, measurement=known)).status == "ok"
