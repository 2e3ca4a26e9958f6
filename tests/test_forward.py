"""The solvers' forward model against numpy, and the adjointness of each of its operators."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from problems import intensity, make_problem

from ptybench.optics.forward import (
    PART_BYTES,
    FarField,
    ForwardModel,
    NearField,
    ShiftedProbe,
    Windowed,
    largest_power,
    over_modes,
    squared_modulus,
    total_intensity,
    transfer_function,
)

CPU = torch.device("cpu")


def random_complex(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))


def inner(a: torch.Tensor, b: torch.Tensor) -> complex:
    return complex(torch.vdot(a.reshape(-1), b.reshape(-1)))


def propagators() -> list[FarField | NearField]:
    near = NearField((15, 20), (1e-6, 1.5e-6), 1.5e-10, 0.05, CPU, torch.complex128)
    return [FarField(), near]


@pytest.mark.parametrize("propagator", propagators(), ids=["far", "near"])
def test_propagators_are_adjoint_and_unitary(propagator: FarField | NearField) -> None:
    x, y = random_complex(3, 15, 20), random_complex(3, 15, 20, seed=1)
    ramp = torch.exp(1j * random_complex(15, 20, seed=2).real)
    there, back = inner(propagator.forward(x, ramp), y), inner(x, propagator.backward(y, ramp))
    assert abs(there - back) <= 1e-10 * abs(there)
    inside = propagator.backward(propagator.forward(x))
    energy = squared_modulus(propagator.forward(inside)).sum() / squared_modulus(inside).sum()
    assert abs(float(energy) - 1) < 1e-12


@pytest.mark.parametrize("shape", [(16, 16), (15, 20)])
def test_shift_and_patches_are_adjoint(shape: tuple[int, int]) -> None:
    problem = make_problem(shape, modes=2)
    model = ForwardModel(problem.measurement, CPU, dtype=torch.complex128)
    index = slice(2, 9)
    canvas, patches = random_complex(*model.canvas), random_complex(7, *shape, seed=1)
    spread = torch.zeros_like(canvas)
    model.overlap_add(patches, spread, index)
    assert abs(inner(model.patches(canvas, index), patches) - inner(canvas, spread)) <= 1e-10 * abs(
        inner(canvas, spread)
    )

    probe, change = random_complex(2, *shape), random_complex(2, *shape, seed=2)
    shifted = ShiftedProbe(model, torch.zeros_like(probe))
    shifted.at(5)
    shifted.add(change)
    moved = model.shifted_probes(probe, slice(5, 6))[0]
    assert abs(inner(moved, change) - inner(probe, shifted.modes)) <= 1e-10 * abs(inner(moved, change))


@pytest.mark.parametrize("near_field", [False, True])
@pytest.mark.parametrize("shape", [(16, 16), (15, 20)])
def test_intensities_are_those_of_numpy(shape: tuple[int, int], near_field: bool) -> None:
    problem = make_problem(shape, modes=2, near_field=near_field)
    model = ForwardModel(problem.measurement, CPU, dtype=torch.complex128)
    index = slice(0, 4)
    probes = model.shifted_probes(torch.tensor(problem.probe), index)
    waves = model.forward(probes * model.patches(torch.tensor(problem.object), index)[:, None], index)
    found = squared_modulus(waves).sum(1).numpy()
    for k in range(4):
        expected = intensity(problem.object, problem.probe, problem.measurement.positions_px[k], near_field)
        if not near_field:
            expected = np.fft.ifftshift(expected)
        assert np.abs(found[k] - expected).max() <= 1e-10 * expected.max()


def test_shifted_probe_sees_and_updates_like_two_transforms() -> None:
    problem = make_problem((16, 16), modes=3)
    model = ForwardModel(problem.measurement, CPU, dtype=torch.complex128)
    probe = torch.tensor(problem.probe)
    held = ShiftedProbe(model, probe)
    for k in (0, 7, 3):
        assert torch.allclose(held.at(k), model.shifted_probes(held.modes, slice(k, k + 1))[0])
        held.add(torch.zeros_like(probe))
    assert torch.allclose(held.modes, probe)


@pytest.mark.parametrize("subpixel", [True, False])
def test_a_probe_seen_from_several_positions_and_the_adjoint(subpixel: bool) -> None:
    problem = make_problem((15, 20), modes=2, subpixel=subpixel)
    model = ForwardModel(problem.measurement, CPU, dtype=torch.complex128)
    index = [7, 0, 3]
    held = ShiftedProbe(model, torch.tensor(problem.probe))
    seen = held.at(index)
    assert torch.allclose(seen, torch.stack([held.at(k) for k in index]))
    held.at(index)
    change = random_complex(*seen.shape)
    alone = ShiftedProbe(model, torch.zeros_like(held.held))
    for k, one in zip(index, change, strict=True):
        alone.at(k)
        alone.add(one)
    assert torch.allclose(held.gathered(change), alone.held)
    there, back = inner(seen, change), inner(held.modes, held.seen_from(held.gathered(change)))
    assert abs(there - back) <= 1e-10 * abs(there)
    assert torch.allclose(held.seen(held.held).expand_as(seen), seen)


def test_ramps_are_the_product_of_their_factors() -> None:
    model = ForwardModel(make_problem((15, 20)).measurement, CPU, dtype=torch.complex128)
    for index in (4, slice(2, 9), [8, 1]):
        y, x, y_back, x_back = model.ramp_factors(index)
        ramp = model.ramp(index) if isinstance(index, int) else model.ramp(index)[:, None]
        assert torch.allclose(y * x, ramp)
        assert torch.allclose(y_back * x_back * ramp, torch.ones_like(ramp))


def test_windows_of_a_canvas_and_what_is_added_to_them() -> None:
    model = ForwardModel(make_problem((15, 20)).measurement, CPU, dtype=torch.complex128)
    canvas, patches = random_complex(*model.canvas), random_complex(3, 15, 20, seed=1)
    index = [4, 5, 4]  # a pattern twice, and windows that overlap
    windowed = Windowed(canvas[None].clone(), model.windows)
    assert torch.equal(windowed.at(index)[:, 0], model.patches(canvas, index))
    assert torch.equal(windowed.views[4][0], canvas[model.windows[4]])
    expected = canvas.clone()
    model.overlap_add(patches, expected, index)
    windowed.add(patches[:, None], index)
    assert torch.equal(windowed.array[0], expected)
    windowed.add(-patches[:1], 4)
    model.overlap_add(-patches[:1], expected, [4])
    assert torch.equal(windowed.array[0], expected)


def test_measured_amplitudes_of_one_and_of_several() -> None:
    model = ForwardModel(make_problem((15, 20)).measurement, CPU)
    assert torch.equal(model.measured([3, 1])[1, 0], model.measured(1))
    assert torch.equal(model.measured(slice(1, 4)), model.measured([1, 2, 3]))


def test_parts_keep_the_order_and_the_size() -> None:
    model = ForwardModel(make_problem((16, 16)).measurement, CPU)
    index = list(range(25))[::-1]
    parts = model.parts(index * 40, modes=2)
    size = PART_BYTES // (2 * 16 * 16 * 8)
    assert [k for part in parts for k in part] == index * 40
    assert [len(part) for part in parts[:-1]] == [size] * (len(parts) - 1)
    assert len(parts) > 1


def test_total_intensity() -> None:
    modes = random_complex(5, 3, 8, 8)
    assert torch.allclose(total_intensity(modes), modes.abs().square().sum(dim=1, keepdim=True))
    assert torch.allclose(total_intensity(modes[:, :1]), modes[:, :1].abs().square())


def test_modulus_constraint() -> None:
    problem = make_problem((16, 16), modes=2, bad_pixels=True)
    model = ForwardModel(problem.measurement, CPU, dtype=torch.complex128)
    exit_wave = random_complex(2, 16, 16)
    change, squared = model.modulus_change(exit_wave, 0)
    after = squared_modulus(model.forward(exit_wave + change, 0)).sum(0)
    before = squared_modulus(model.forward(exit_wave, 0)).sum(0)
    assert model.good is not None
    good = model.good.bool()
    assert torch.allclose(after[good], model.amplitudes[0].square()[good])
    assert torch.allclose(after[~good], before[~good])
    assert float(squared) == pytest.approx(float(squared_modulus(change).sum()), rel=1e-12)
    expected = (before.sqrt() - model.amplitudes[0]).square()[good].sum()
    assert float(squared) == pytest.approx(float(expected), rel=1e-9)


def test_a_pixel_without_light_gets_phase_zero() -> None:
    problem = make_problem((16, 16))
    model = ForwardModel(problem.measurement, CPU, dtype=torch.complex64)
    change, _ = model.modulus_change(torch.zeros(1, 16, 16, dtype=torch.complex64), 0)
    wave = model.forward(change, 0)[0]
    assert torch.allclose(wave.real, model.amplitudes[0], atol=1e-3 * float(model.amplitudes[0].max()))
    assert float(wave.imag.abs().max()) < 1e-3 * float(model.amplitudes[0].max())


def test_largest_power() -> None:
    modes = random_complex(5, 3, 8, 8)
    power = over_modes(modes * modes.conj_physical())
    expected = modes.abs().square().sum(dim=1).amax(dim=(1, 2))
    assert largest_power(power).shape == (5, 1, 1, 1)
    assert torch.allclose(largest_power(power).flatten(), expected)
    assert float(largest_power(power[2])) == pytest.approx(float(expected[2]))


def test_transfer_function_back_and_forth_is_the_identity_inside_the_band() -> None:
    there = transfer_function((64, 48), (1e-7, 2e-7), 1e-10, 0.02)
    back = transfer_function((64, 48), (1e-7, 2e-7), 1e-10, -0.02)
    inside = there != 0
    assert np.abs((there * back)[inside] - 1).max() < 1e-12
    assert inside.mean() > 0.05


def test_rounded_positions_need_no_shift() -> None:
    problem = make_problem((16, 16))
    model = ForwardModel(problem.measurement, CPU, subpixel=False)
    assert model.ramps is None
    assert model.corners == [tuple(r) for r in np.round(problem.measurement.positions_px).astype(int).tolist()]


def test_bad_pixels_may_hold_anything() -> None:
    problem = make_problem((16, 16), bad_pixels=True)
    dirty = problem.measurement.intensities.copy()
    dirty[:, problem.measurement.bad_pixels] = np.nan
    model = ForwardModel(replace(problem.measurement, intensities=dirty), CPU)
    assert torch.isfinite(model.amplitudes).all()
