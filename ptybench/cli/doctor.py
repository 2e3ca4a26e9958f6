"""``ptybench doctor``: what this machine has, and whether its transforms can be trusted."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ptybench.cli.options import Json
from ptybench.cli.output import Output, columns

PACKAGES = ("ptybench", "torch", "numpy", "scipy", "scikit-image", "h5py", "pydantic", "pandas", "matplotlib", "xraydb")
TOLERANCE = {"float64": 1e-12, "float32": 1e-5}
LOW_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    topic: str
    name: str
    value: str
    verdict: Literal["ok", "warning", "failed"] = "ok"


def doctor(*, json: Json = False) -> int:
    """Show versions, devices, threads, memory and data, and test the transforms."""
    out = Output(json)
    with out.reserved():
        findings = [*_versions(), *_machine(), *_storage(), *_transforms(), *_data()]
        healthy = all(finding.verdict != "failed" for finding in findings)
        out.text(columns([(f.verdict, f.topic, f.name, f.value) for f in findings]))
        out.text("all is well" if healthy else "something failed: see above")
        if json:
            out.document("doctor", {"healthy": healthy, "findings": [asdict(finding) for finding in findings]})
    return 0 if healthy else 1


def _versions() -> list[Finding]:
    from ptybench.runner.provenance import code_hash, git_commit, package_version

    found = [Finding("version", "python", platform.python_version())]
    for name in PACKAGES:
        version = package_version(name)
        found.append(Finding("version", name, version or "not installed", "ok" if version else "failed"))
    found.append(Finding("version", "code", f"{code_hash()[:16]} (commit {git_commit() or 'unknown'})"))
    return found


def _machine() -> list[Finding]:
    import torch

    from ptybench.memory import available_bytes
    from ptybench.native import library
    from ptybench.runner.devices import cuda_names
    from ptybench.runner.provenance import cpu_name, threads

    found = [
        Finding("machine", "system", f"{platform.system()} {platform.release()} {platform.machine()}"),
        Finding("machine", "processor", cpu_name()),
        Finding("machine", "threads", f"{threads()} usable, torch takes {torch.get_num_threads()}"),
    ]
    kernels = library.flavour()
    found.append(
        Finding("machine", "kernels", kernels or "not built: torch does it all", "ok" if kernels else "warning")
    )
    names = cuda_names()
    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    agrees: Literal["ok", "warning"] = "ok" if seen == len(names) else "warning"
    found.append(Finding("machine", "cuda", ", ".join(names) or "none", agrees))
    for key in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
        if key in os.environ:
            found.append(Finding("machine", key, os.environ[key]))
    room = available_bytes()
    enough = room is None or room > LOW_BYTES
    value = "unknown" if room is None else f"{room / 2**30:.1f} GiB free"
    found.append(Finding("machine", "memory", value, "ok" if enough else "warning"))
    return found


def _storage() -> list[Finding]:
    here = Path.cwd()
    free = shutil.disk_usage(here).free
    found = [Finding("disk", str(here), f"{free / 2**30:.1f} GiB free", "ok" if free > LOW_BYTES else "warning")]
    if not os.access(here, os.W_OK):
        found.append(Finding("disk", str(here), "cannot be written: give run --results DIR", "warning"))
    return found


def _transforms() -> list[Finding]:
    """Torch's FFT against scipy's, and its adjointness, in both precisions and on every kind of device."""
    import torch

    devices = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
    return [finding for device in devices for name in TOLERANCE for finding in _transform(device, name)]


def _transform(device: str, precision: str) -> list[Finding]:
    """``‖F_torch x − F_scipy x‖ / ‖x‖`` and ``|⟨F x, y⟩ − ⟨x, F⁻¹ y⟩| / (‖x‖ ‖y‖)`` of the unitary transform."""
    import numpy as np
    import scipy.fft
    import torch

    rng = np.random.default_rng(0)
    # an odd and an even axis, neither a power of two
    x, y = (rng.standard_normal((61, 96)) + 1j * rng.standard_normal((61, 96)) for _ in range(2))
    kind = {"float64": torch.complex128, "float32": torch.complex64}[precision]

    def on_device(array: Any) -> torch.Tensor:
        return torch.as_tensor(array, device=device, dtype=kind)

    fx = torch.fft.fft2(on_device(x), norm="ortho").cpu().numpy()
    back = torch.fft.ifft2(on_device(y), norm="ortho").cpu().numpy()
    scale = float(np.linalg.norm(x) * np.linalg.norm(y))
    errors = {
        "FFT against scipy": float(np.linalg.norm(fx - scipy.fft.fft2(x, norm="ortho")) / np.linalg.norm(x)),
        "FFT adjointness": float(abs(np.vdot(fx, y) - np.vdot(x, back)) / scale),
    }
    where = f"{device} {precision}"
    return [
        Finding("transform", f"{what}, {where}", f"{error:.1e}", "ok" if error < TOLERANCE[precision] else "failed")
        for what, error in errors.items()
    ]


def _data() -> list[Finding]:
    """Where the files of the real measurements are; to have none is no fault."""
    from ptybench.errors import InvalidData
    from ptybench.io.manifest import data_folders, dataset_file, dataset_names

    found = [Finding("data", "looked for in", ", ".join(map(str, data_folders())))]
    for name in dataset_names():
        try:
            found.append(Finding("data", name, str(dataset_file(name))))
        except InvalidData:
            found.append(Finding("data", name, f"not here: `ptybench info {name}` says where to get it"))
    return found
