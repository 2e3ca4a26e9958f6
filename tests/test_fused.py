"""The Triton kernels against torch: compiled where a CUDA device is, elsewhere in Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from problems import make_problem
from ptybench.baselines.admm import ADMM
from ptybench.baselines.dm import DM
from ptybench.baselines.lsqml import LSQML
from ptybench.baselines.rpie import RPIE

from ptybench.cuda import VARIABLE, fused
from ptybench.native import library
from ptybench.optics.forward import ForwardModel, Windowed, add_overlaps

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
if DEVICE.type == "cpu" and "triton" not in sys.modules:
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported, for good
interpreted = os.environ.get("TRITON_INTERPRET") == "1"

here = pytest.mark.skipif(
    not fused.installed() or (DEVICE.type == "cpu" and not interpreted),
    reason="Triton is not installed (pip install ptybench[cuda]), or was imported before its interpreter was asked for",
)
DTYPES = [torch.complex64, torch.complex128]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels do what they can, having been compared or not."""
    monkeypatch.setattr(fused, "able", lambda tensor: True)
    monkeypatch.setattr(library, "able", lambda model: False)
    monkeypatch.setattr(fused, "_verdicts", {})


def by_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the comparison: only the kernel acts."""
    monkeypatch.setattr(fused, "_done", lambda name, like, key, changed, torchs, ours: ours())


def by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "_done", lambda name, like, key, changed, torchs, ours: torchs())


def random(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, device=DEVICE)


def model_of(dtype: torch.dtype, **case: Any) -> ForwardModel:
    return ForwardModel(make_problem((19, 45), (2, 3), 13.0, **case).measurement, DEVICE, dtype=dtype)


def near(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool((a - b).norm() <= (1e-12 if b.dtype.itemsize > 8 or b.dtype == torch.float64 else 2e-6) * b.norm())


def probes_of(dtype: torch.dtype, same: bool) -> torch.Tensor:
    """Two modes for four patterns: the same for all, or one for each."""
    return random(2, 19, 45, dtype=dtype).expand(4, -1, -1, -1) if same else random(4, 2, 19, 45, dtype=dtype)


@here
@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("less", [True, False])
def test_exit_waves(dtype: torch.dtype, same: bool, less: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(dtype)
    seen = Windowed(random(1, *model.canvas, dtype=dtype), model.windows)
    probes = probes_of(dtype, same)
    other = random(6, 2, 19, 45, dtype=dtype)[1:5] if less else None
    for index in (slice(1, 5), torch.tensor([5, 0, 3, 3], device=DEVICE)):
        by_torch(monkeypatch)
        expected = seen.waves(probes, index, other, 0.75)
        by_kernels(monkeypatch)
        assert near(seen.waves(probes, index, other, 0.75), expected)


@here
@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("bad", [True, False])
@pytest.mark.parametrize("modes", [1, 3])
def test_modulus(dtype: torch.dtype, bad: bool, modes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(dtype, bad_pixels=bad, near_field=True)
    waves = random(4, modes, 19, 45, dtype=dtype)
    for index in (slice(1, 5), torch.tensor([5, 0, 3, 3], device=DEVICE)):
        by_torch(monkeypatch)
        expected, expected_error = model.modulus_change(waves, index)
        by_kernels(monkeypatch)
        change, error = model.modulus_change(waves, index)
        assert near(change, expected)
        assert float(error) == pytest.approx(float(expected_error), rel=1e-5 if dtype == torch.complex64 else 1e-12)
    one = model.modulus_change(waves[0], 2)[0]
    by_torch(monkeypatch)
    assert near(one, model.modulus_change(waves[0], 2)[0])


@here
@pytest.mark.usefixtures("served")
def test_modulus_of_waves_that_do_not_lie_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    waves, measured = random(4, 45, 2, 19, dtype=torch.complex64).permute(0, 2, 3, 1), torch.rand(4, 1, 19, 45)
    other = waves.clone()
    by_kernels(monkeypatch)

    def torchs() -> torch.Tensor:
        return waves.mul_(0.5).abs().square().sum()

    fused.modulus(waves, measured.to(DEVICE), None, 0.0, torchs)
    assert near(waves, 0.5 * other)  # torch's work, for the kernel cannot


@here
@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("dtype", [*DTYPES, torch.float32], ids=str)
@pytest.mark.parametrize("kind", ["all differ", "all the same", "flat"])
def test_overlap_add_is_torchs_to_the_bit(dtype: torch.dtype, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same sums in the same order."""
    model = model_of(torch.complex64)
    start = random(1, *model.canvas, dtype=dtype)
    patches = random(4, 1, 19, 45, dtype=dtype)
    if kind == "all the same":
        patches = patches[:1].expand(4, -1, -1, -1)
    elif kind == "flat":
        patches = patches[..., :1, :1]
    for index in (slice(1, 5), torch.tensor([5, 0, 3, 3], device=DEVICE)):
        found = []
        for way in (by_torch, by_kernels):
            way(monkeypatch)
            canvas = Windowed(start.clone(), model.windows)
            canvas.add(patches, index)
            found.append(canvas.array)
        assert torch.equal(*found)
        assert not torch.equal(found[0], start)


@here
@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("lit", [True, False])
def test_overlap_products(dtype: torch.dtype, same: bool, lit: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(dtype)
    start, light = random(1, *model.canvas, dtype=dtype), random(1, *model.canvas, dtype=dtype.to_real())
    probes = probes_of(dtype, same)
    fields = random(6, 2, 19, 45, dtype=dtype)[1:5]
    found = []
    for way in (by_torch, by_kernels):
        way(monkeypatch)
        pull, other = (Windowed(array.clone(), model.windows) for array in (start, light))
        add_overlaps(pull, None if lit else other, probes, fields, slice(1, 5))
        found.append((pull.array, other.array))
    assert near(found[1][0], found[0][0])
    assert near(found[1][1], found[0][1])
    assert torch.equal(found[1][1], light) == lit


@here
@pytest.mark.usefixtures("served")
@pytest.mark.parametrize(
    ("kind", "options"),
    [(RPIE, {"batch": 4}), (DM, {"alpha": 0.75}), (ADMM, {}), (LSQML, {"batch": 4})],
    ids=["rpie", "dm", "admm", "lsqml"],
)
def test_methods_by_kernels_are_those_of_torch(
    kind: Any, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    measurement = make_problem((16, 16), (3, 3), modes=2, near_field=True).measurement
    dtype = torch.complex64 if DEVICE.type == "cuda" else torch.complex128
    found = []
    for way in (by_torch, by_kernels):
        way(monkeypatch)
        solver = type("Double", (kind,), {"dtype": dtype})(measurement, kind.Options(**options), DEVICE, 5)
        errors = [solver.step() for _ in range(2)]
        found.append((solver.object, solver.probe, errors))
    close = 1e-4 if DEVICE.type == "cuda" else 1e-9
    for ours, torchs in zip(found[1][:2], found[0][:2], strict=True):
        assert float((ours - torchs).norm() / torchs.norm()) < close
    assert found[1][2] == pytest.approx(found[0][2], rel=close)


@here
@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("kernel", ["exit_waves", "overlap_add", "overlap_products"])
def test_one_field_for_all_patterns_does_not_vouch_for_one_for_each(
    kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, index, dtype, rows = model_of(torch.complex128), slice(1, 5), torch.complex128, fused._rows
    modes = 1 if kernel == "overlap_add" else 2

    def first_only(fields: torch.Tensor) -> tuple[torch.Tensor, int]:
        flat, step = rows(fields)
        return flat, 0 if fields.shape[1] == modes else step

    monkeypatch.setattr(fused, "_rows", first_only)  # so that this kernel is right where one is for all
    start, other = random(1, *model.canvas, dtype=dtype), random(4, 2, 19, 45, dtype=dtype)

    def call(same: bool) -> torch.Tensor:
        canvas, fields = Windowed(start.clone(), model.windows), probes_of(dtype, same)
        if kernel == "exit_waves":
            return canvas.waves(fields, index) - fields * canvas.at(index)
        right = Windowed(start.clone(), model.windows)
        if kernel == "overlap_add":
            canvas.add(fields[:, :1], index)
            right._add(fields[:, :1], index)
        else:
            add_overlaps(canvas, None, fields, other, index)
            right._add((fields.conj() * other).sum(dim=1, keepdim=True), index)
        return canvas.array - right.array

    for _ in range(2):  # compared, and then trusted
        assert float(call(same=True).abs().max()) < 1e-12
    with pytest.warns(RuntimeWarning, match=f"the kernel {kernel} is left to torch on this device: its result differs"):
        assert float(call(same=False).abs().max()) < 1e-12


COMPILE = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from ptybench.cuda import kernels

POINTERS = "waves probes array corners less amplitudes good errors patches pull light fields".split()
for name, constants in {
    "exit_waves": {"LESS": True, "BLOCK": kernels.PIXELS},
    "modulus": {"GOOD": True, "BLOCK": kernels.PIXELS},
    "overlap_add": {"PARTS": 2, "FLAT": False, "SIDE": kernels.TILE},
    "overlap_products": {"LIGHT": True, "SIDE": kernels.TILE},
}.items():
    kernel = getattr(kernels, name)
    kinds, hints = {}, {}
    for place, argument in enumerate(kernel.arg_names):
        if argument in POINTERS:
            kinds[argument] = "*i64" if argument == "corners" else "*fp32"
        else:
            kinds[argument] = "fp32" if argument in ("factor", "tiny") else "i32"
        if argument not in constants and argument not in ("factor", "tiny", "modes", "count"):
            hints[place,] = [["tt.divisibility", 16]]
    kinds |= dict.fromkeys(constants, "constexpr")
    source = ASTSource(kernel, kinds, constants, hints)
    done = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"enable_fp_fusion": True})
    ptx = done.asm["ptx"]
    print(name, done.metadata.shared, ".local" in ptx, "v4.b32" in ptx, len(done.asm["cubin"]) > 0)
"""


@here
def test_kernels_compile_for_a_hopper_gpu() -> None:
    """Without one: Triton brings its own assembler. No local memory, and 16 bytes at a time where rows are whole."""
    clean = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    words = [sys.executable, "-c", COMPILE]
    done = subprocess.run(words, capture_output=True, text=True, env=clean, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    for name, wide in (("exit_waves", True), ("modulus", True), ("overlap_add", False), ("overlap_products", False)):
        shared, local, vectors, assembled = found[name]
        assert int(shared) < 48 * 1024
        assert (local, assembled) == ("False", "True")
        assert vectors == "True" or not wide


@pytest.mark.usefixtures("served")
def test_a_kernel_is_compared_before_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    array, calls = torch.ones(3), []

    def call(name: str, value: float, changed: torch.Tensor = array) -> torch.Tensor:
        def torchs() -> torch.Tensor:
            calls.append("torch")
            return changed.mul_(2).sum()

        def ours() -> torch.Tensor:
            calls.append("kernel")
            if value < 0:
                raise RuntimeError("no such instruction\non this device")
            return changed.mul_(value).sum()

        result: torch.Tensor = fused._done(name, changed, changed.shape, [changed], torchs, ours)
        return result

    assert call("right", 2.0) == 6
    assert torch.equal(array, torch.full((3,), 2.0))  # done once, by torch
    assert call("right", 2.0) == 12
    assert calls == ["kernel", "torch", "kernel"]
    with pytest.warns(RuntimeWarning, match="wrong is left to torch on this device: its result differs"):
        assert call("wrong", 2.001) == 24
    assert call("wrong", 2.001) == 48  # and no second warning
    with pytest.warns(RuntimeWarning, match="failing is left to torch on this device: RuntimeError: no such instr"):
        assert call("failing", -1.0) == 96
    calls.clear()
    other = torch.full((2,), torch.inf)
    assert call("right", 2.0, other) == torch.inf  # says nothing about the kernel, which is compared again
    assert call("right", 2.0, torch.ones(2)) == 4
    assert calls == ["kernel", "torch"] * 2


def test_kernels_are_for_cuda_and_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    class There:
        is_cuda = True

    array: Any = There()
    monkeypatch.setattr(fused, "installed", lambda: True)
    assert fused.able(array)
    assert not fused.able(torch.ones(1))
    for told in ("off", "graphs"):
        monkeypatch.setenv(VARIABLE, told)
        assert not fused.able(array)
