"""Compiled CPU kernels, see :mod:`ptybench.native.library`."""
