"""Compiled convolutions against those of torch."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ptybench.native import chains, library
from ptybench.networks.dncnn import ResidualChain

built = pytest.mark.skipif(library.flavour() is None, reason="the compiled kernels are not built here")


def chain_of(widths: list[int], side: int, biases: bool, seed: int = 0) -> ResidualChain:
    generator = torch.Generator().manual_seed(seed)
    sizes = [1, *widths, 1]
    weights = [
        torch.randn(n, m, side, side, generator=generator) / (m * side * side) ** 0.5 for m, n in pairwise(sizes)
    ]
    found = [torch.randn(n, generator=generator) if biases else None for n in sizes[1:]]
    return ResidualChain(weights, found)


@built
@settings(deadline=None, max_examples=25)
@given(
    widths=st.lists(st.integers(1, 40), max_size=4),
    side=st.sampled_from([1, 3, 5]),
    biases=st.booleans(),
    shape=st.tuples(st.integers(1, 21), st.integers(1, 21)),
    seed=st.integers(0, 9),
)
def test_kernels_do_what_torch_does(
    widths: list[int], side: int, biases: bool, shape: tuple[int, int], seed: int
) -> None:
    chain = chain_of(widths, side, biases, seed)
    images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(seed))
    kernels = chains.Chain(chain)
    with torch.no_grad():
        expected = chain(images[:, None])[:, 0]
    assert torch.allclose(kernels(images), expected, rtol=0, atol=3e-5 * float(expected.abs().max()))
    # another size after it finds no leftovers
    other = images[:, : shape[0] // 2 + 1].contiguous()
    with torch.no_grad():
        expected = chain(other[:, None])[:, 0]
    assert torch.allclose(kernels(other), expected, rtol=0, atol=3e-5 * float(expected.abs().max()))


@built
def test_threads_do_not_matter() -> None:
    chain, images = chain_of([24, 24], 3, True), torch.rand(1, 33, 50)
    kernels, before, found = chains.Chain(chain), torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        try:
            found.append(kernels(images))
        finally:
            torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.skipif(library.flavour() != "avx2", reason="no kernels for vectors of eight numbers here")
def test_a_network_is_served() -> None:
    chain = chain_of([8], 3, False)
    assert chains.serves(chain)
    assert not chains.serves(chain.double())
