"""Pty-Chi and PtyLab beside ours: conventions, options, equations, tables. What needs a peer is skipped without it.

``python benchmarks/peers/compare.py`` makes the peers' environments, ``PTYBENCH_PEERS`` says where else they are.
"""

# ruff: noqa: E402 - the path comes before the imports from it
from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from problems import make_problem

FOLDER = Path(__file__).parents[1] / "benchmarks" / "peers"
sys.path.insert(0, str(FOLDER))  # as for the drivers, which run where ptybench is not installed

import cells
import compare
import conventions
import options
import plan as planning
import reference
import tables
from environments import FOLDER as ENVIRONMENTS
from environments import PEERS, installed
from exchange import Job, Problem, Unsupported, read_job, write_reconstruction

from ptybench.io.hdf5 import load_reconstruction, save_measurement
from ptybench.registry import load_method, resolve_method
from ptybench.scoring.data import predict
from ptybench.types import Measurement

OURS = {"epie": {}, "rpie": {}, "dm": options.MATCHED["dm"], "lsqml": {}}
QUIRKS = {"epie": (), "rpie": (), "dm": ("damped",), "lsqml": ("unshifted", "complex", "lagging")}


def needs(peer: str) -> Any:
    return pytest.param(
        peer,
        marks=pytest.mark.skipif(
            not installed(peer), reason=f"{PEERS[peer].title} is not installed: run benchmarks/peers/compare.py"
        ),
    )


def measured(whole: bool = False, shape: tuple[int, int] = (32, 32)) -> Measurement:
    """A small measurement whose start has light everywhere, so that no phase is that of rounding.

    Fractions stay below a half, so that floor and round are one.
    """
    made = make_problem(shape)
    rng = np.random.default_rng(1)
    at = np.floor(made.measurement.positions_px) + (0 if whole else rng.uniform(0.02, 0.45, (25, 2)))
    canvas, modes = made.measurement.canvas, made.probe.shape

    def noise(*shape: int) -> Any:
        return 0.1 * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))

    initial = replace(
        made.measurement.initial,
        object=(made.object + noise(*canvas)).astype(np.complex64),
        probe=(made.probe * (1 + noise(*modes))).astype(np.complex64),
        positions_px=at,
    )
    intensities = made.measurement.intensities + np.float32(1)
    return replace(made.measurement, intensities=intensities, positions_px=at, initial=initial)


def problem_of(m: Measurement) -> Problem:
    return Problem(m.intensities, m.bad_pixels, m.positions_px, m.initial.object, m.initial.probe, m.known_probe)


# conventions


@pytest.mark.parametrize("shape", [(32, 32), (31, 28)])
def test_ptychis_formula_on_converted_arrays_gives_our_intensities(shape: tuple[int, int]) -> None:
    m = measured(shape=shape)
    arrays = conventions.to_ptychi(problem_of(m))
    h, w = shape
    predicted = []
    for y, x in zip(arrays.position_y_px, arrays.position_x_px, strict=True):
        top = round(round(y) + arrays.origin[0] - (h - 1) / 2)
        left = round(round(x) + arrays.origin[1] - (w - 1) / 2)
        ramp = np.exp(-2j * np.pi * (np.fft.fftfreq(h)[:, None] * (y - round(y)) + np.fft.fftfreq(w) * (x - round(x))))
        probe = np.fft.ifft2(np.fft.fft2(arrays.probe_data[0, 0]) * ramp)
        predicted.append(np.abs(np.fft.fft2(probe * arrays.object_data[0, top : top + h, left : left + w])) ** 2)
    ours = np.fft.ifftshift(predict(m.initial, m), axes=(-2, -1))
    np.testing.assert_allclose(predicted, ours, rtol=1e-5, atol=1e-6 * ours.max())
    np.testing.assert_array_equal(np.fft.fftshift(arrays.diffraction_data, axes=(-2, -1)), m.intensities)


def test_ptylabs_formula_on_converted_arrays_gives_our_intensities() -> None:
    m = measured(whole=True)
    wide = replace(m, initial=replace(m.initial, object=np.pad(m.initial.object, ((0, 0), (0, 5)), "edge")))
    arrays = conventions.to_ptylab(problem_of(wide))
    n = m.shape[0]
    pixel = 1 / (n * arrays.dxd)  # wavelength · distance / width of the detector
    corners = np.round(arrays.encoder / pixel) + arrays.No // 2 - n // 2
    predicted = []
    for y, x in corners.astype(int):
        wave = arrays.object[0, 0, 0, 0, y : y + n, x : x + n] * arrays.probe[0, 0, 0, 0]
        far = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(wave), norm="ortho"))
        predicted.append(np.abs(far) ** 2)
    ours = predict(m.initial, m)
    np.testing.assert_allclose(predicted, ours, rtol=1e-4, atol=1e-6 * ours.max())


def test_what_a_peer_finds_comes_back_as_it_is() -> None:
    problem = problem_of(measured(whole=True))
    chi, lab = conventions.to_ptychi(problem), conventions.to_ptylab(problem)
    for back in (
        conventions.from_ptychi(problem, chi.object_data, chi.probe_data),
        conventions.from_ptylab(problem, lab.object, lab.probe),
    ):
        np.testing.assert_array_equal(back.object, problem.object)
        np.testing.assert_allclose(back.probe, problem.probe, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"positions_px": np.full((25, 2), 0.5)}, "rounds positions"),
        ({"bad_pixels": np.ones((32, 32), bool)}, "mask"),
        ({"intensities": np.ones((25, 32, 30), np.float32)}, "square"),
    ],
)
def test_ptylab_is_not_given_what_it_would_get_wrong(change: dict[str, Any], says: str) -> None:
    with pytest.raises(Unsupported, match=says):
        conventions.to_ptylab(replace(problem_of(measured(whole=True)), **change))


# options


@pytest.mark.parametrize("method", OURS)
def test_every_option_of_ours_is_accounted_for(method: str) -> None:
    resolved = resolve_method(method, dict(OURS[method])).options
    assert options.ptychi_options(method, resolved)
    with pytest.raises(Unsupported, match="sharpness"):
        options.ptychi_options(method, resolved | {"sharpness": 3})


def test_values_arrive_under_the_peers_names() -> None:
    given = resolve_method("rpie", {"alpha": 0.3, "beta": 2.0, "probe_start": 4}).options
    mapped = options.ptychi_options("rpie", given)
    assert (mapped["object_options.alpha"], mapped["probe_options.alpha"]) == (0.3, 2.0)
    assert mapped["probe_options.optimization_plan.start"] == 4
    engine, attributes = options.ptylab_options("rpie", given | {"probe_start": 0})
    assert (engine, attributes["alphaObject"], attributes["alphaProbe"], attributes["feedbackM"]) == (
        "mPIE",
        0.3,
        2.0,
        0.0,
    )
    given = resolve_method("lsqml", {"batch": 7, "object_scale": 0.5, "damping": 0.2}).options
    mapped = options.ptychi_options("lsqml", given)
    assert mapped["reconstructor_options.batch_size"] == 7
    assert mapped["object_options.optimal_step_size_scaler"] == 0.5
    assert mapped["reconstructor_options.preconditioning_damping_factor"] == 0.2


@pytest.mark.parametrize(
    ("mapping", "method", "changed"),
    [
        (options.ptychi_options, "epie", {"batch": 8}),
        (options.ptychi_options, "dm", {"fourier_relax": 0.1}),
        (options.ptychi_options, "dm", {"inner": 3}),
        (options.ptylab_options, "epie", {"probe_start": 2}),
        (options.ptylab_options, "dm", {}),
        (options.ptychi_options, "raar", {}),
    ],
)
def test_what_a_peer_cannot_do_is_refused(
    mapping: Callable[[str, dict[str, Any]], Any], method: str, changed: dict[str, Any]
) -> None:
    resolved = resolve_method(method, OURS.get(method, {}) | changed).options
    with pytest.raises(Unsupported):
        mapping(method, resolved)


# equations


def ours(method: str, given: dict[str, Any], m: Measurement, epochs: int) -> tuple[Any, Any, list[list[int]]]:
    """Our object and probe in complex128, and the order in which the patterns were visited."""
    kind = load_method(method)
    double = type(kind.__name__, (kind,), {"dtype": torch.complex128})
    settled = resolve_method(method, given).options

    def make() -> Any:
        return double(m, kind.Options(**settled), "cpu", 3)

    asked, solver = make(), make()
    order = [asked.order() for _ in range(epochs)]
    for _ in range(epochs):
        solver.step()
    return solver.object.numpy(), solver.probe.numpy()[0], order


def plainly(method: str, m: Measurement, order: list[list[int]], quirks: tuple[str, ...] = ()) -> tuple[Any, Any]:
    """The same by :mod:`reference`."""
    o = resolve_method(method, dict(OURS[method])).options
    state = reference.State.start(problem_of(m))
    for visits in order:
        if method in ("epie", "rpie"):
            step = reference.epie_epoch if method == "epie" else reference.rpie_epoch
            step(state, visits, o["alpha"], o["beta"])
        elif method == "lsqml":
            scales = o["object_scale"], o["probe_scale"]
            reference.lsqml_epoch(state, visits, o["batch"], o["damping"], *scales, quirks)
        else:
            mean = float(np.mean(m.intensities, dtype=np.float64))
            inertia = o["object_inertia"] * mean, o["probe_inertia"] * len(m.intensities)
            reference.dm_epoch(state, *inertia, quirks)
    return state.object, state.probe


def apart(a: Any, b: Any) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "fractions"])
@pytest.mark.parametrize("method", OURS)
def test_ours_is_the_reference(method: str, whole: bool) -> None:
    m = measured(whole)
    object_, probe, order = ours(method, dict(OURS[method]), m, epochs=2)
    expected = plainly(method, m, order)
    assert apart(object_, m.initial.object) > 0.03  # it has moved
    # patterns and their square roots are float32
    assert apart(object_, expected[0]) < 1e-5
    assert apart(probe, expected[1]) < 1e-5


@pytest.mark.parametrize("quirk", ["unshifted", "complex", "lagging"])
def test_each_quirk_makes_a_difference(quirk: str) -> None:
    m = measured()
    order = [list(range(25))] * 2
    assert apart(plainly("lsqml", m, order, (quirk,))[0], plainly("lsqml", m, order)[0]) > 1e-5


def test_the_truth_is_no_fixed_point_of_damped_averages() -> None:
    made = make_problem(start="right")
    m = made.measurement
    lit = reference.State.start(problem_of(m)).dose()
    lit = lit > 0.01 * lit.max()
    moved = {}
    for quirks in ((), ("damped",)):
        found, _ = plainly("dm", m, [[]], quirks)
        moved[quirks] = apart(found[lit], m.initial.object[lit])
    assert moved[()] < 1e-5
    assert moved[("damped",)] > 0.01


# the peers themselves


def driven(peer: str, job: Job, m: Measurement, folder: Path) -> Path:
    save_measurement(folder / "measurement.h5", m)
    (folder / "job.json").write_text(json.dumps(asdict(job)), encoding="utf-8")
    log = folder / "log.txt"
    with log.open("w") as stream:
        code = cells.drive(peer, folder, ENVIRONMENTS, stream)
    assert code == 0, log.read_text()
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("peer", [needs("ptychi"), needs("ptylab"), needs("cdtools"), needs("ptyrad")])
def test_a_peers_forward_model_gives_our_intensities(peer: str, tmp_path: Path) -> None:
    m = measured(whole=PEERS[peer].positions == "rounded")
    driven(peer, Job("measurement.h5", "forward", {}, 1, 0, "double"), m, tmp_path)
    with h5py.File(tmp_path / "prediction.h5", "r") as file:
        predicted = file["intensities"][()]
    expected = predict(m.initial, m)
    fine = 1e-4 if peer in ("cdtools", "ptyrad") else 1e-6  # which compute in single precision
    np.testing.assert_allclose(predicted, expected, rtol=fine, atol=0.01 * fine * expected.max())


@pytest.mark.slow
@pytest.mark.parametrize("peer", [needs("ptychi"), needs("ptylab")])
@pytest.mark.parametrize("method", OURS)
def test_a_peer_does_what_the_reference_does_with_its_quirks(peer: str, method: str, tmp_path: Path) -> None:
    if method not in {"ptychi": options.PTYCHI, "ptylab": options.PTYLAB}[peer]:
        pytest.skip(f"{PEERS[peer].title} has no {method}")
    m = measured(whole=PEERS[peer].positions == "rounded")
    rng = np.random.default_rng(5)
    order = [rng.permutation(25).tolist() for _ in range(3)]
    given = resolve_method(method, dict(OURS[method])).options
    driven(peer, Job("measurement.h5", method, given, 3, 0, "double", order), m, tmp_path)
    found = load_reconstruction(tmp_path / "reconstruction.h5")
    expected = plainly(method, m, order, QUIRKS[method])
    assert apart(found.object, expected[0]) < 1e-5
    assert apart(found.probe[0], expected[1]) < 1e-5


# the comparison


def result(program: str, seed: int, value: float, run: int = 0) -> cells.Result:
    return cells.Result(program, "epie", "exact", seed, run, {"cpcc_abs": value})


@pytest.mark.parametrize(
    ("difference", "chance", "verdict"),
    [(0.01, 0.02, "same"), (-0.01, 0.005, "within"), (0.01, None, "within"), (-0.2, 0.005, "differs")],
)
def test_a_difference_is_judged_by_orders_and_seeds(difference: float, chance: float | None, verdict: str) -> None:
    assert tables.judge(difference, 0.07, chance) == verdict


def test_two_programs_that_do_the_same_are_told_apart_once_in_a_hundred() -> None:
    rng = np.random.default_rng(0)
    far = 0
    for _ in range(2000):
        pairs = [((level + rng.standard_normal(4)).tolist(), [level + rng.standard_normal()]) for level in (0, 5, 9)]
        difference = np.mean([theirs[0] - np.mean(own) for own, theirs in pairs])
        far += bool(abs(difference) > tables.chance(pairs))
    assert 8 <= far <= 35  # 20 expected


def test_a_line_pairs_seeds_and_takes_the_mean_over_orders() -> None:
    results = [result("ptybench", 0, 0.90), result("ptybench", 0, 0.92, 1), result("ptybench", 1, 0.80)]
    results += [result("ptychi", 0, 0.93), result("ptychi", 1, 0.81), result("ptychi", 7, 0.1)]
    (line,) = tables.compare(results, ["ptychi"], {"ptychi": "exact"})
    assert line.ours == pytest.approx(0.855)
    assert line.theirs == pytest.approx(0.87)
    assert line.difference == pytest.approx(0.015)
    assert line.ours_spread == pytest.approx(np.std([0.91, 0.80], ddof=1))
    assert "+0.0150" in tables.markdown([line])


def plan(tmp_path: Path, **changed: Any) -> planning.Plan:
    given: dict[str, Any] = {
        "task": "low_overlap",
        "overrides": {"scan.overlap": -0.5},
        "domain": "dev",
        "seeds": [1],
        "methods": ["epie", "dm"],
        "peers": ["ptychi", "ptylab"],
        "settings": {"epie.alpha": 0.5},
        "epochs": 2,
        "runs": 2,
        "peer_runs": 1,
        "order": "own",
        "out": tmp_path,
    }
    return planning.Plan(**(given | changed))


def test_the_cells_of_a_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = plan(tmp_path, order="ours")
    measurements, _ = planning.problems(asked, 1)
    planned = list(planning.cells_of(asked, 1, measurements, planning.able(asked)))
    named = [(c.job.method, c.program, c.positions, c.run) for c in planned]
    assert named == [
        ("epie", "ptybench", "exact", 0),
        ("epie", "ptybench", "exact", 1),
        ("epie", "ptychi", "exact", 0),
        ("epie", "ptybench", "rounded", 0),
        ("epie", "ptybench", "rounded", 1),
        ("epie", "ptylab", "rounded", 0),
        ("dm", "ptybench", "exact", 0),
        ("dm", "ptybench", "exact", 1),
        ("dm", "ptychi", "exact", 0),
    ]
    assert "PtyLab has no engine for dm" in capsys.readouterr().err
    assert {c.job.options["alpha"] for c in planned if c.job.method == "epie"} == {0.5}
    assert len({c.folder for c in planned}) == len(planned)
    assert planned[0].job.seed == planned[2].job.seed != planned[1].job.seed
    assert [sorted(visits) for visits in planned[2].job.order] == [
        list(range(len(measurements["exact"].intensities)))
    ] * 2
    assert np.all(measurements["rounded"].positions_px == np.round(measurements["exact"].positions_px))


def test_ours_runs_by_the_same_files_and_is_not_run_twice(tmp_path: Path) -> None:
    asked = plan(tmp_path, methods=["epie"], peers=["ptychi"], runs=1)
    measurements, truth = planning.problems(asked, 1)
    cell = next(planning.cells_of(asked, 1, measurements, planning.able(asked)))
    save_measurement(cell.folder.parent / "measurement.h5", measurements["exact"])
    first = cells.run_cell(cell, truth, measurements["exact"], tmp_path)
    assert first.failure is None
    assert first.metrics["r_factor"] is not None
    written = (cell.folder / "reconstruction.h5").stat().st_mtime_ns
    again = cells.run_cell(cell, truth, measurements["exact"], tmp_path)
    assert (cell.folder / "reconstruction.h5").stat().st_mtime_ns == written
    assert again.metrics == first.metrics
    changed = replace(cell, job=replace(cell.job, epochs=1))
    assert cells.run_cell(changed, truth, measurements["exact"], tmp_path).metrics != first.metrics


@pytest.mark.parametrize("peer", [options.cdtools_options, options.ptyrad_options, options.ptychi_options])
def test_gradients_are_compared_in_plain_adam_alone(peer: Callable[..., Any]) -> None:
    plain = resolve_method("ad", {}).options
    assert peer("ad", plain)
    for name, value in {"variation": 0.1, "position_rate": 0.1, "recentre": True}.items():
        with pytest.raises(Unsupported, match=f"no counterpart of the option {name}={value!r}"):
            peer("ad", plain | {name: value})


def test_a_driver_that_fails_is_one_sentence(tmp_path: Path) -> None:
    asked = plan(tmp_path, methods=["epie"], peers=["ptychi"])
    measurements, truth = planning.problems(asked, 1)
    cell = next(planning.cells_of(asked, 1, measurements, planning.able(asked)))
    broken = replace(cell, job=replace(cell.job, options={"alpha": 7}))
    save_measurement(cell.folder.parent / "measurement.h5", measurements["exact"])
    assert "alpha" in str(cells.run_cell(broken, truth, measurements["exact"], tmp_path).failure)


def test_a_reconstruction_of_a_driver_can_be_scored(tmp_path: Path) -> None:
    m = measured()
    m = replace(m, intensities=np.round(m.intensities))  # which a file keeps as integers
    save_measurement(tmp_path / "measurement.h5", m)
    (tmp_path / "job.json").write_text(json.dumps(asdict(Job("measurement.h5", "epie", {}, 1, 0))), encoding="utf-8")
    job, problem = read_job(tmp_path)
    assert job.method == "epie"
    assert problem.intensities.dtype == np.float32  # the root of the file's integers would be a half
    np.testing.assert_array_equal(problem.intensities, m.intensities)
    write_reconstruction(tmp_path, problem, 1.5)
    back = load_reconstruction(tmp_path / "reconstruction.h5")
    np.testing.assert_array_equal(back.object, m.initial.object)
    np.testing.assert_array_equal(back.positions_px, m.positions_px)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--peers", "ptypy"], "unknown peer 'ptypy'"),
        (["--set", "alpha=1"], "METHOD.KEY"),
        (["--set", "task.photon=1"], "photons"),
        (["--seeds", "x"], "numbers and ranges"),
        (["--task", "low_overlapp"], "low_overlap"),
        (["--sedes", "0"], "sedes"),
    ],
)
def test_wrong_use_is_one_sentence(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main(words) == 2
    told = capsys.readouterr().err
    assert says in told
    assert told.count("\n") == 1
