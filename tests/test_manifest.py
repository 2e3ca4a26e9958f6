"""Manifests and loading: keys, axes, units, turns, crop, bin, names, and what is wrong with a user's files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import intensity, make_problem

from ptybench import memory
from ptybench.errors import InvalidData, InvalidOption, NotEnoughMemory, UnknownName
from ptybench.io import files, hdf5, manifest
from ptybench.io.cxi import write_cxi
from ptybench.io.frames import Window, parse_orientation, turn_frames
from ptybench.io.layout import parse_manifest
from ptybench.io.manifest import load_measurement
from ptybench.io.prepare import prepare
from ptybench.io.raw import Geometry, Raw
from ptybench.io.start import Start
from ptybench.optics.geometry import Grid
from ptybench.optics.waves import far_field, near_field
from ptybench.types import Measurement

PROBLEM = make_problem((16, 20), subpixel=False, noise=True)
PATTERNS = PROBLEM.measurement.intensities
POSITIONS = PROBLEM.measurement.positions_px
FAR = "[geometry]\nenergy_ev = 8000\ndistance_m = 2.0\npitch_m = 55e-6\n"


def save(path: Path, **arrays: Any) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **arrays)
        return path
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return path


def load(
    folder: Path, text: str = "", suffix: str = ".npz", arrays: dict[str, Any] | None = None, **how: Any
) -> Measurement:
    """Load arrays through a file and a geometry TOML."""
    content = {"patterns": PATTERNS, "positions_px": POSITIONS} | (arrays or {})
    path = save(folder / f"m{suffix}", **{name: array for name, array in content.items() if array is not None})
    geometry = folder / "geometry.toml"
    geometry.write_text(text)
    return load_measurement(path, geometry, **how).measurement


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_default_keys_need_no_geometry(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"star{suffix}", patterns=PATTERNS.astype(np.uint32), positions_px=POSITIONS)
    loaded = load_measurement(str(path))
    m = loaded.measurement
    np.testing.assert_array_equal(m.intensities, PATTERNS)
    np.testing.assert_allclose(m.positions_px, POSITIONS - POSITIONS.min(axis=0) + 1)
    assert m.pixel_size_m is None
    assert loaded.name == "star"
    assert loaded.provenance["sha256"] == files.sha256_file(path)
    top = np.ceil(m.positions_px.max(axis=0)).astype(int)
    assert m.canvas == (top[0] + 16 + 1, top[1] + 20 + 1)
    assert (m.initial.object == 1).all()


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
@pytest.mark.parametrize("axes", ["kyx", "kxy", "yxk", "xky"])
def test_axes_of_patterns(tmp_path: Path, suffix: str, axes: str) -> None:
    stored = np.transpose(PATTERNS, ["kyx".index(axis) for axis in axes])
    m = load(tmp_path, f'[patterns]\naxes = "{axes}"\n', suffix, {"patterns": stored})
    np.testing.assert_array_equal(m.intensities, PATTERNS)


def test_a_raster_of_patterns_and_steps(tmp_path: Path) -> None:
    stored = PATTERNS[:15].reshape(3, 5, 16, 20)
    text = (
        FAR
        + '[patterns]\naxes = "ijyx"\n[positions]\nkey = ["rows", "columns"]\nraster = true\nunit = "nm"\nscale = 100\n'
    )
    arrays = {"patterns": stored, "rows": np.arange(3), "columns": 2 * np.arange(5)}
    m = load(tmp_path, text, ".h5", arrays)
    np.testing.assert_array_equal(m.intensities, PATTERNS[:15])
    y, x = np.meshgrid(np.arange(3) * 100e-9, np.arange(5) * 200e-9, indexing="ij")
    metres = (m.positions_px - m.positions_px[0]) * m.pixel_size_m
    np.testing.assert_allclose(metres, np.stack([y.ravel(), x.ravel()], 1), atol=1e-15)


def test_far_field_pixels_follow_from_the_shape(tmp_path: Path) -> None:
    m = load(tmp_path, FAR)
    wavelength = 1.239841984e-6 / 8000
    assert m.pixel_size_m == pytest.approx((wavelength * 2 / (16 * 55e-6), wavelength * 2 / (20 * 55e-6)))
    assert (m.wavelength_m, m.distance_m, m.pitch_m) == (pytest.approx(wavelength), 2.0, 55e-6)
    stepped = load(tmp_path, f"[geometry]\nreciprocal_pixel_per_m = {55e-6 / (wavelength * 2)}\n")
    assert stepped.pixel_size_m == pytest.approx(m.pixel_size_m)


def test_positions_by_unit_order_and_rotation(tmp_path: Path) -> None:
    plain = load(tmp_path, '[positions]\nkey = "p"\n', arrays={"p": POSITIONS}).positions_px
    swapped = load(tmp_path, '[positions]\nkey = "p"\naxes = "xy"\n', arrays={"p": POSITIONS[:, ::-1]}).positions_px
    lines = load(tmp_path, '[positions]\nkey = "p"\n', arrays={"p": POSITIONS.T}).positions_px
    two = load(
        tmp_path, '[positions]\nkey = ["a", "b"]\n', arrays={"a": POSITIONS[:, 0], "b": POSITIONS[:, 1]}
    ).positions_px
    for other in (swapped, lines, two):
        np.testing.assert_array_equal(other, plain)
    turned = load(tmp_path, f"[positions]\nrotation_rad = {np.pi / 2}\n").positions_px
    steps = plain - plain[0]  # a quarter turn from +y towards +x: (1, 0) becomes (0, 1) and (0, 1) becomes (-1, 0)
    np.testing.assert_allclose(turned - turned[0], np.stack([-steps[:, 1], steps[:, 0]], 1), atol=1e-9)
    pixel = np.array(load(tmp_path, FAR).pixel_size_m)
    metres = load(tmp_path, FAR + '[positions]\nunit = "um"\n', arrays={"positions_px": POSITIONS * pixel * 1e6})
    np.testing.assert_allclose(metres.positions_px, plain, atol=1e-9)


def test_zero_frequency_gain_offset_and_mask(tmp_path: Path) -> None:
    corner = np.fft.ifftshift(PATTERNS, axes=(1, 2))
    m = load(tmp_path, '[patterns]\nzero_frequency = "corner"\n', arrays={"patterns": corner})
    np.testing.assert_array_equal(m.intensities, PATTERNS)
    wide = np.pad(PATTERNS, ((0, 0), (5, 0), (2, 9)))
    m = load(tmp_path, "[patterns]\nzero_frequency = [13, 12]\n", arrays={"patterns": wide})
    assert m.shape == (16, 25)  # the widest with column 12 in the middle
    np.testing.assert_array_equal(m.intensities[:, :, 2:22], PATTERNS)
    good = np.ones((16, 20))
    good[3, 4] = 0
    text = '[patterns]\noffset = 10.0\ngain = 0.5\n[bad_pixels]\nkey = "good"\nmeans = "good"\n'
    m = load(tmp_path, text, arrays={"patterns": 2 * PATTERNS.astype(float) + 10, "good": good})
    assert m.bad_pixels.sum() == 1
    assert m.bad_pixels[3, 4]
    np.testing.assert_allclose(m.intensities[:, ~m.bad_pixels], PATTERNS[:, ~m.bad_pixels], rtol=1e-6)


def test_a_stored_probe_gets_the_right_power(tmp_path: Path) -> None:
    probe = PROBLEM.probe[0] * 7
    m = load(tmp_path, '[probe]\nkey = "probe"\n', arrays={"probe": probe})
    power = PATTERNS.sum(axis=(1, 2), dtype=float).max()
    np.testing.assert_allclose(m.initial.probe[0], probe * np.sqrt(power / np.sum(np.abs(probe) ** 2)), rtol=1e-5)
    kept = load(tmp_path, '[probe]\nkey = "probe"\nunit = "sqrt_photons"\n', arrays={"probe": probe})
    np.testing.assert_allclose(kept.initial.probe[0], probe, rtol=1e-6)


def test_a_told_defocus_is_a_flight_from_the_focus(tmp_path: Path) -> None:
    """Against the angular spectrum, whose phase is not the parabola of the start's."""
    y, x = np.indices((64, 64)) - 32
    disc = (np.hypot(y, x) < 15) * 1000.0
    pixel, wavelength, defocus = 10e-9, 1e-10, -30e-6
    text = f"[geometry]\nwavelength_m = {wavelength}\npixel_size_m = {pixel}\n[probe]\ndefocus_m = {defocus}\n"
    arrays = {"patterns": np.repeat(disc[None], 4, 0), "positions_px": np.array([[0, 0], [0, 9], [9, 0], [9, 9]])}
    probe = load(tmp_path, text, arrays=arrays).initial.probe[0]
    focus = far_field(np.sqrt(disc).astype(complex), inverse=True)
    there = near_field(focus, Grid((64, 64), (pixel, pixel)), wavelength, defocus, pad=1)
    np.testing.assert_allclose(probe, there, atol=1e-3 * np.abs(there).max())
    narrow = load(tmp_path, text + "numerical_aperture = 1.0e-3\n", arrays=arrays).initial.probe[0]
    light = np.abs(far_field(narrow.astype(complex)))
    assert light[32, 32 + 6] > 1e3 * light[32, 32 + 7]  # 1 mrad is 6.4 pixels


# turns


@settings(max_examples=30, deadline=None)
@given(
    turns=st.lists(st.sampled_from(["transpose", "flip-y", "flip-x"]), max_size=4),
    shape=st.tuples(st.integers(5, 9), st.integers(5, 9)),
    seed=st.integers(0, 99),
)
def test_turning_a_pattern_turns_its_exit_wave(turns: list[str], shape: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    wave = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)

    def pattern(psi: Any) -> Any:
        return np.abs(np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(psi)))) ** 2

    turned = turn_frames(pattern(wave), tuple(turns), about_zero=True)
    np.testing.assert_allclose(turned, pattern(turn_frames(wave, tuple(turns), about_zero=True)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("turns", "object_turn"),
    [
        ("transpose,swap-xy", lambda o: o.T),
        ("flip-y,negate-y", lambda o: o[::-1]),
        ("flip-x,negate-x", lambda o: o[:, ::-1]),
        ("flip-x,transpose,negate-x,swap-xy", lambda o: o[:, ::-1].T),
    ],
)
@pytest.mark.parametrize("shape", [(16, 20), (15, 17)])
def test_turned_patterns_and_positions_are_those_of_a_turned_specimen(
    turns: str, object_turn: Any, shape: tuple[int, int]
) -> None:
    """Patterns turned together with positions are what a turned object and probe make."""
    problem = make_problem(shape, grid=(2, 3), subpixel=False)
    raw = Raw(problem.measurement.intensities, problem.measurement.positions_px, "px", Geometry(), probe=problem.probe)
    m = prepare(raw, parse_orientation(turns))
    obj = np.ascontiguousarray(object_turn(problem.object))
    probe = turn_frames(problem.probe, parse_orientation(turns), about_zero=True)
    ratio = m.initial.probe[0] / probe[0]  # the probe in the file turns with the patterns
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-4)
    # which of the places of the turned object is position 0: the one that makes its pattern
    room = np.array(obj.shape) - m.shape
    steps = m.positions_px - m.positions_px[0]
    errors = [
        np.abs(intensity(obj, probe, np.array([y, x], float), False) - m.intensities[0]).max()
        for y in range(room[0] + 1)
        for x in range(room[1] + 1)
    ]
    first = np.array(divmod(int(np.argmin(errors)), int(room[1]) + 1), float)
    for step, found in zip(steps, m.intensities, strict=True):
        wanted = intensity(obj, probe, first + step, False)
        # for even sizes the outermost line, where there is still a little light, has no mirror image
        np.testing.assert_allclose(found, wanted, atol=3e-4 * wanted.max())


def test_unknown_turns_name_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'flip-y'"):
        parse_orientation("flip_y")
    assert parse_orientation(" transpose , flip-x,") == ("transpose", "flip-x")


# crop and bin


@given(
    size=st.integers(16, 70),
    crop=st.one_of(st.none(), st.integers(16, 70)),
    bin=st.integers(1, 4),
    other=st.integers(16, 70),
)
def test_the_zero_frequency_stays_in_the_middle(size: int, crop: int | None, bin: int, other: int) -> None:
    full = (size, other)
    wrong = []
    if crop is not None and crop > min(full):
        wrong.append("take at most")
    if min(size, other, crop or size) // bin < 8:
        wrong.append("crop or bin less")
    if wrong:  # where both are wrong, either may be said
        with pytest.raises(InvalidOption, match="|".join(wrong)):
            Window.about_zero(full, crop, bin)
        return
    window = Window.about_zero(full, crop, bin)
    delta = np.zeros(full)
    delta[size // 2, other // 2] = 1
    binned = window.blocks(delta).sum(axis=(-3, -1))
    assert binned[window.shape[0] // 2, window.shape[1] // 2] == 1
    assert all(n * bin <= (crop or f) < (n + 1) * bin for n, f in zip(window.shape, full, strict=True))


def test_crop_makes_larger_pixels_and_fewer_of_them(tmp_path: Path) -> None:
    whole, cropped = load(tmp_path, FAR), load(tmp_path, FAR, crop=12)
    assert cropped.shape == (12, 12)
    np.testing.assert_array_equal(cropped.intensities, PATTERNS[:, 2:14, 4:16])
    assert whole.pixel_size_m is not None
    assert cropped.pixel_size_m == pytest.approx((whole.pixel_size_m[0] * 16 / 12, whole.pixel_size_m[1] * 20 / 12))
    steps = [np.ptp(m.positions_px, axis=0) for m in (whole, cropped)]
    np.testing.assert_allclose(steps[1], steps[0] * (12 / 16, 12 / 20))


def test_bin_sums_photons_and_keeps_pixels(tmp_path: Path) -> None:
    bad = np.zeros((16, 20), bool)
    bad[1, 1] = True
    np.save(tmp_path / "bad.npy", bad)
    whole, binned = load(tmp_path, FAR), load(tmp_path, FAR, bin=2, bad_pixels=tmp_path / "bad.npy")
    assert binned.shape == (8, 10)
    assert binned.bad_pixels.sum() == 1
    assert binned.bad_pixels[0, 0]
    kept = PATTERNS.copy()
    kept[:, 1, 1] = 0
    np.testing.assert_allclose(binned.intensities, kept.reshape(-1, 8, 2, 10, 2).sum(axis=(2, 4)))
    assert binned.pixel_size_m == pytest.approx(whole.pixel_size_m)
    assert binned.pitch_m == pytest.approx(110e-6)
    np.testing.assert_allclose(np.ptp(binned.positions_px, axis=0), np.ptp(whole.positions_px, axis=0))


def test_near_field_bins_make_larger_pixels_and_crops_do_not(tmp_path: Path) -> None:
    text = (
        '[geometry]\npropagation = "near_field"\nenergy_ev = 8000\ndistance_m = 1.0\npitch_m = 50e-6\n'
        "source_distance_m = 0.01\n"
    )
    whole, cropped, binned = load(tmp_path, text), load(tmp_path, text, crop=10), load(tmp_path, text, bin=2)
    pixel = 50e-6 / 101
    assert whole.pixel_size_m == pytest.approx((pixel, pixel))
    assert whole.distance_m == pytest.approx(1 / 101)
    assert cropped.pixel_size_m == whole.pixel_size_m
    assert binned.pixel_size_m == pytest.approx((2 * pixel, 2 * pixel))
    np.testing.assert_allclose(np.ptp(binned.positions_px, axis=0), np.ptp(whole.positions_px, axis=0) / 2)
    np.testing.assert_allclose(np.ptp(cropped.positions_px, axis=0), np.ptp(whole.positions_px, axis=0))


@pytest.mark.parametrize(("crop", "bin"), [(None, 2), (None, 3), (32, None), (31, None), (33, 2), (30, 3)])
@pytest.mark.parametrize("shape", [(48, 48), (49, 51)])
def test_a_stored_probe_follows_crop_and_bin(crop: int | None, bin: int | None, shape: tuple[int, int]) -> None:
    """Without a specimen the prepared probe makes the prepared pattern: the same centre, width and photons."""
    y, x = (np.arange(n) - n // 2 for n in shape)
    y = y[:, None]
    # small in the window and on the detector, and not quite on the axis
    probe = 300 * np.exp(-(y**2 + x**2) / 12.0 + 0.05j * y - 0.08j * x)[None]
    pattern = np.abs(np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(probe[0]), norm="ortho"))) ** 2
    raw = Raw(
        np.stack([pattern] * 4), np.array([[0, 0], [0, 3.0], [3, 0], [3, 3]]), "px", Geometry(), probe=probe,
        start=Start(unit="sqrt_photons"),
    )  # fmt: skip
    m = prepare(raw, (), crop, bin)
    made = np.abs(np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(m.initial.probe[0]), norm="ortho"))) ** 2
    if bin is None:
        np.testing.assert_allclose(made, m.intensities[0], atol=1e-5 * made.max())
    rows, columns = np.indices(m.shape)
    found, wanted = made, m.intensities[0].astype(float)
    assert found.sum() == pytest.approx(wanted.sum(), rel=0.01)
    for place in (rows, columns):
        centre = [np.sum(place * image) / np.sum(image) for image in (found, wanted)]
        assert centre[0] == pytest.approx(centre[1], abs=0.02)


# where files are, and what is wrong with them


def test_every_manifest_says_what_is_needed() -> None:
    names = manifest.dataset_names()
    assert {"siemens_star_aps", "siemens_star_petra_p25_nearfield", "virus_particles_cryo_4dstem"} <= set(names)
    for name in names:
        found = manifest.dataset_manifest(name)
        assert found.file is not None
        assert Path(found.file).stem == name
        assert all((found.title, found.sha256, found.licence, found.source, found.citation, found.recommended))


def test_unknown_names_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean 'siemens_star_aps'"):
        load_measurement("siemens_star_ap")
    for missing in ("nowhere.cxi", "folder/nowhere", str(tmp_path / "nowhere.h5")):
        with pytest.raises(InvalidData, match="no file"):
            load_measurement(missing)
    with pytest.raises(InvalidData, match="is a folder"):
        load_measurement(tmp_path)


def test_a_dataset_that_is_not_here_says_what_to_put_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "data_folders", lambda: [tmp_path])
    with pytest.raises(InvalidData) as problem:
        load_measurement("siemens_star_aps")
    for part in ("siemens_star_aps.h5", "8b7b027546cff9da", "tike", "BSD-3", str(tmp_path), "$PTYBENCH_DATA"):
        assert part in str(problem.value)


def test_the_named_folder_comes_first_and_its_file_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PTYBENCH_DATA", str(tmp_path))
    assert manifest.data_folders()[0] == tmp_path
    save(tmp_path / "siemens_star_aps.h5", patterns=PATTERNS, positions_px=POSITIONS)
    with pytest.raises(InvalidData, match=r"expected SHA-256 8b7b.*fetch it again"):
        load_measurement("siemens_star_aps")


def test_a_manifest_beside_its_file_is_a_source(tmp_path: Path) -> None:
    save(tmp_path / "data.npz", patterns=PATTERNS, positions_px=POSITIONS)
    (tmp_path / "mine.toml").write_text('file = "data.npz"\nlicence = "CC0"\norient = "transpose"\n')
    loaded = load_measurement(tmp_path / "mine.toml")
    assert loaded.name == "mine"
    assert loaded.measurement.shape == (20, 16)
    assert loaded.provenance["licence"] == "CC0"
    assert loaded.provenance["orient"] == ["transpose"]
    (tmp_path / "mine.toml").write_text('file = "other.npz"\n')
    with pytest.raises(InvalidData, match="not beside it"):
        load_measurement(tmp_path / "mine.toml")
    (tmp_path / "mine.toml").write_text('licence = "CC0"\n')
    with pytest.raises(InvalidData, match="names no file"):
        load_measurement(tmp_path / "mine.toml")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[geometry", "is not TOML"),
        ("[geometry]\nwavelenght_m = 1e-10\n", "unknown field 'geometry.wavelenght_m'"),
        ("[geometry]\ndistance_m = -1\n", "geometry.distance_m"),
        ("[geometry]\npitch_m = [1e-6, 0]\n", "above 0"),
        ("[geometry]\nenergy_ev = 1\nwavelength_m = 1\n", "not both"),
        ("[geometry]\ndistance_m = inf\n", "finite"),
        ('[patterns]\naxes = "kyy"\n', "each of k, y, x"),
        ('[positions]\nunit = "furlong"\n', "positions.unit"),
        ("[positions]\nraster = true\n", "two keys"),
        ('sha256 = "8b7b"\n', "sha256"),
        ('[patterns]\nkey = "data"\n', "no array 'data' for patterns, it has patterns, positions_px"),
        ('[positions]\nkey = "data"\n', "no array 'data' for positions"),
        ('[positions]\nunit = "um"\n', "object pixel is unknown"),
        ('[geometry]\npropagation = "near_field"\n', "near-field data need"),
        ('[patterns]\nkey = "positions_px"\n[positions]\nkey = "patterns"\n', "expected positions of shape|axes"),
        ('[patterns]\naxes = "ijyx"\n', "axes 'ijyx'"),
        ("[patterns]\nzero_frequency = [99, 3]\n", "outside of the pattern"),
        ('[probe]\nkey = "positions_px"\n', "a probe of the patterns' shape"),
        ("[probe]\ndefocus_m = 1e-6\n", "defocus of the first probe needs"),
    ],
)
def test_wrong_geometry_gets_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(InvalidData, match=sentence):
        load(tmp_path, text)


NEGATIVE, HOLE = PATTERNS.copy(), PATTERNS.copy()
NEGATIVE[2, 3, 4], HOLE[2, 3, 4] = -1, np.nan


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"patterns": None}, "'patterns'.*positions_px"),
        ({"positions_px": None}, "'positions_px'.*patterns"),
        ({"patterns": POSITIONS, "positions_px": PATTERNS}, "expected"),
        ({"patterns": NEGATIVE}, "negative intensities"),
        ({"patterns": HOLE}, "NaN"),
        ({"patterns": PATTERNS.astype(float) * 1e300}, "infinite"),
        ({"positions_px": POSITIONS * 1e300}, "beyond all reason"),
        ({"patterns": PATTERNS[:-1]}, "one position for each of the 24 patterns, got 25"),
        ({"patterns": np.array([b"a", b"b"])}, "numbers|axes"),
        ({"positions_px": POSITIONS * 1e-9}, "lie within .* check their unit"),
        ({"positions_px": POSITIONS * 1e9}, "span .* check their unit"),
        ({"positions_px": np.full_like(POSITIONS, 3)}, "lie within 0 px"),
        ({"positions_px": POSITIONS[:, :1]}, r"\(K, 2\)"),
        ({"positions_px": np.where(POSITIONS > 5, np.nan, POSITIONS)}, "some positions are NaN"),
    ],
)
def test_wrong_arrays_get_one_sentence(tmp_path: Path, suffix: str, arrays: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidData, match=sentence):
        load(tmp_path, suffix=suffix, arrays=arrays)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="export it again"):
        load(tmp_path, arrays={"patterns": np.array([{"a": 1}], dtype=object)})


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_truncated_files_get_one_sentence(tmp_path: Path, suffix: str, kept: float) -> None:
    path = save(tmp_path / f"m{suffix}", patterns=PATTERNS, positions_px=POSITIONS)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(InvalidData):
        load_measurement(path)


def test_more_than_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:  # chunks that nobody wrote take no room on disk
        file.create_dataset("patterns", (10**6, 4096, 4096), np.uint16, chunks=(1, 512, 512))
        file["positions_px"] = np.zeros((10**6, 2))
    for place in ("auto", "device", "file"):
        monkeypatch.setenv("PTYBENCH_PATTERNS", place)
        with pytest.raises(NotEnoughMemory, match="--crop or --bin"):
            load_measurement(tmp_path / "m.h5")
    monkeypatch.setattr(memory, "available_bytes", lambda: None)
    memory.require(10**18, "a machine that does not say")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".tif", ".h5"])
def test_bad_pixels_of_a_user(tmp_path: Path, suffix: str) -> None:
    bad = np.zeros((16, 20), np.uint8)
    bad[5, 6] = 1
    path = tmp_path / f"bad{suffix}"
    if suffix == ".npy":
        np.save(path, bad)
    elif suffix == ".tif":
        tifffile.imwrite(path, bad)
    else:
        save(path, hot=bad)
    m = load(tmp_path, bad_pixels=path)
    np.testing.assert_array_equal(m.bad_pixels, bad != 0)
    with pytest.raises(InvalidData, match="stored patterns' shape"):
        load(tmp_path, arrays={"patterns": PATTERNS[:, :-1]}, bad_pixels=path)


def test_wrong_bad_pixels_get_one_sentence(tmp_path: Path) -> None:
    save(tmp_path / "two.npz", a=np.zeros((16, 20)), b=np.zeros((16, 20)))
    np.save(tmp_path / "line.npy", np.zeros(16))
    (tmp_path / "text.tif").write_text("no image")
    (tmp_path / "text.npy").write_text("no array")
    wrong = {
        "two.npz": "one array",
        "line.npy": r"\(h, w\)",
        "text.tif": "cannot be read",
        "text.npy": "cannot be read",
    }
    for name, sentence in (wrong | {"nowhere.npy": "no file"}).items():
        with pytest.raises(InvalidData, match=sentence):
            load(tmp_path, bad_pixels=tmp_path / name)


def test_a_measurement_of_ours_loads_as_it_is(tmp_path: Path) -> None:
    m = PROBLEM.measurement
    hdf5.save_measurement(tmp_path / "m.h5", m)
    found = load_measurement(tmp_path / "m.h5").measurement
    np.testing.assert_array_equal(found.initial.probe, m.initial.probe)
    # not to thin out is no other cell
    assert load_measurement(tmp_path / "m.h5", every=1).provenance == load_measurement(tmp_path / "m.h5").provenance
    with pytest.raises(InvalidData, match="takes no geometry"):
        load_measurement(tmp_path / "m.h5", bin=2)


def test_geometry_and_more_for_a_cxi_file(tmp_path: Path) -> None:
    pixel = (3e-8, 3e-8 * 16 / 20)
    m = replace(
        PROBLEM.measurement, wavelength_m=1e-10, distance_m=1.0, pixel_size_m=pixel, pitch_m=1e-10 / (16 * 3e-8)
    )
    write_cxi(tmp_path / "m.cxi", m)
    (tmp_path / "g.toml").write_text(
        "position_error_px = 2.0\n[geometry]\ndistance_m = 2.0\n[noise]\nbackground_photons = 0.5\n"
    )
    plain = load_measurement(tmp_path / "m.cxi").measurement
    found = load_measurement(tmp_path / "m.cxi", tmp_path / "g.toml", orient="negate-y").measurement
    np.testing.assert_array_equal(plain.positions_px, m.positions_px)
    assert found.pixel_size_m == pytest.approx((2 * pixel[0], 2 * pixel[1]))
    assert found.positions_px.min() == pytest.approx(9)  # four standard deviations and one pixel
    assert found.noise.background_photons == 0.5
    ranks = [np.argsort(p[:, 0], kind="stable") for p in (plain.positions_px, -found.positions_px)]
    np.testing.assert_allclose(plain.positions_px[ranks[0], 0], plain.positions_px[ranks[1], 0])


def test_a_users_geometry_lies_over_a_datasets_own() -> None:
    below = parse_manifest(
        'orient = "transpose"\n[geometry]\ndistance_m = 1.0\npitch_m = 1e-6\n[patterns]\nkey = "a"\n', "a"
    )
    above = parse_manifest('[geometry]\ndistance_m = 2.0\n[patterns]\naxes = "yxk"\n', "b")
    merged = manifest._over(above, below)
    assert merged.orient == "transpose"
    assert (merged.geometry.distance_m, merged.geometry.pitch_m) == (2.0, 1e-6)
    assert (merged.patterns.key, merged.patterns.axes) == ("a", "yxk")
