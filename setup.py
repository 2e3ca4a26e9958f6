"""Builds the compiled kernels; everything else stands in pyproject.toml.

Without a C++ compiler the package installs all the same and torch does their work.
"""

import platform

from setuptools import Extension, setup

SOURCES = ["ptybench/native/engine.cpp"]
HEADERS = [
    f"ptybench/native/{name}.hpp"
    for name in ("fft", "bench", "visits", "projections", "leastsquares", "gradients", "chains")
]
FLAGS = ["-std=c++17", "-O3", "-ffast-math", "-pthread", "-fno-semantic-interposition", "-Wno-psabi"]
FLAVOURS = {"plain": []}
if platform.machine().lower() in ("x86_64", "amd64"):
    FLAVOURS["avx2"] = ["-mavx2", "-mfma"]

setup(
    ext_modules=[
        Extension(
            f"ptybench.native._{flavour}",
            SOURCES,
            depends=HEADERS,
            # not given to the linker, which would make it change the arithmetic of the whole process
            extra_compile_args=[*FLAGS, *flags],
            extra_link_args=["-pthread"],
            optional=True,
        )
        for flavour, flags in FLAVOURS.items()
    ]
)
