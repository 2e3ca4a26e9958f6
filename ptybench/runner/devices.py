"""Which device a cell runs on, found without importing torch.

The class of a device (``cpu``, ``cuda:NVIDIA H200``) is part of a cell's identity and must be known before anything
slow is started, so the CUDA driver is asked through its C interface.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from ptybench.errors import InvalidOption


@cache
def cuda_names() -> tuple[str, ...]:
    """Names of the CUDA devices that torch could use, as the driver gives them; empty where there are none."""
    torch = find_spec("torch")
    if torch is None or torch.origin is None or not any(Path(torch.origin).parent.glob("lib/*torch_cuda*")):
        return ()
    for library in ("libcuda.so.1", "libcuda.so", ctypes.util.find_library("nvcuda") or "nvcuda.dll"):
        try:
            driver = ctypes.CDLL(library)
            break
        except OSError:
            continue
    else:
        return ()
    count = ctypes.c_int()
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return ()
    names: list[str] = []
    for index in range(count.value):
        device, text = ctypes.c_int(), ctypes.create_string_buffer(256)
        if driver.cuDeviceGet(ctypes.byref(device), index) or driver.cuDeviceGetName(text, len(text), device):
            return tuple(names)
        names.append(text.value.decode(errors="replace"))
    return tuple(names)


def resolve(device: str) -> tuple[str, str]:
    """Return what torch is told and the device class.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

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
    return f"cuda:{index}", f"cuda:{names[index]}"
