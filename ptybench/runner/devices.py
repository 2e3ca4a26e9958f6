"""Which device a cell runs on, found without importing torch.

The class of a device (``cpu``, ``cuda:NVIDIA H200``) is part of a cell's identity and must be known before anything
slow is started, so the CUDA driver is asked through its C interface.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from ptybench.errors import InvalidOption


class CudaDevice(NamedTuple):
    """A CUDA device: its model, and the number that is its own under any ``CUDA_VISIBLE_DEVICES``."""

    name: str
    uuid: str


@cache
def cuda_devices() -> tuple[CudaDevice, ...]:
    """CUDA devices that torch could use, as the driver gives them; empty where there are none."""
    driver = _driver()
    count = ctypes.c_int()
    if driver is None or driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return ()
    found: list[CudaDevice] = []
    for index in range(count.value):
        device, text = ctypes.c_int(), ctypes.create_string_buffer(256)
        if driver.cuDeviceGet(ctypes.byref(device), index) or driver.cuDeviceGetName(text, len(text), device):
            break
        number = (ctypes.c_ubyte * 16)()
        ask = getattr(driver, "cuDeviceGetUuid_v2", None) or driver.cuDeviceGetUuid  # the first also tells MIG slices
        uuid = bytes(number).hex() if ask(ctypes.byref(number), device) == 0 else str(index)
        found.append(CudaDevice(text.value.decode(errors="replace"), uuid))
    return tuple(found)


def _driver() -> ctypes.CDLL | None:
    """The library of the CUDA driver, where torch was built to use it."""
    torch = find_spec("torch")
    if torch is None or torch.origin is None or not any(Path(torch.origin).parent.glob("lib/*torch_cuda*")):
        return None
    for library in ("libcuda.so.1", "libcuda.so", ctypes.util.find_library("nvcuda") or "nvcuda.dll"):
        with suppress(OSError):
            return ctypes.CDLL(library)
    return None


def cuda_names() -> tuple[str, ...]:
    """Names of :func:`cuda_devices`."""
    return tuple(device.name for device in cuda_devices())


def resolve(device: str) -> tuple[str, str]:
    """Return what torch is told and the device class.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` (any like the first one) or ``cuda:N``.

    Raises:
        InvalidOption: where there is no such device.

    Example:
        >>> resolve("cpu")
        ('cpu', 'cpu')

    """
    if device == "auto":
        device = "cuda" if cuda_names() else "cpu"
    if device == "cpu":
        return "cpu", "cpu"
    kind, _, number = device.partition(":")
    if kind != "cuda" or not (number.isdecimal() or device == "cuda"):
        raise InvalidOption(f"unknown device {device!r}: use auto, cpu, cuda or cuda:N")
    names, index = cuda_names(), int(number or 0)
    if index >= len(names):
        raise InvalidOption(f"device {device!r} is not there: this machine has {len(names)} CUDA devices")
    return device, f"cuda:{names[index]}"


def choices(device: str) -> dict[str, str]:
    """Return the devices that a cell may take, torch's name → the name of its lease; empty for the processor.

    Args:
        device: from :func:`resolve`.

    """
    if device == "cpu":
        return {}
    found = cuda_devices()
    if device == "cuda":
        indices = [index for index, one in enumerate(found) if one.name == found[0].name]
    else:
        indices = [int(device.partition(":")[2])]
    return {f"cuda:{index}": f"cuda-{found[index].uuid}" for index in indices}
