"""Probe, positions, distance: invariances and known errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from ptybench.scoring.parameters import distance_error, position_errors, probe_cpcc

seeds = st.integers(0, 10**6)


def modes(seed=0, count=3):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:24j, -1:1:20j]
    blobs = np.exp(-4 * (y**2 + x**2)) * rng.standard_normal((count, 24, 20))
    return blobs + 1j * np.exp(-3 * (y**2 + x**2)) * np.arange(1, count + 1)[:, None, None]


def unitary(rng, n):
    q, _ = np.linalg.qr(rng.standard_normal((n, n)) + 1j * rng.standard_normal((n, n)))
    return q


class TestProbe:
    @settings(max_examples=20, deadline=None)
    @given(seed=seeds, scale=st.floats(1e-6, 1e6))
    def test_blind_to_unitary_mixing_and_scale(self, seed, scale):
        a, b = modes(0), modes(1, 2)
        mixing = unitary(np.random.default_rng(seed), 3)
        mixed = np.einsum("mn,nyx->myx", mixing, a)
        assert probe_cpcc(scale * mixed, a) == pytest.approx(1, abs=1e-9)
        assert probe_cpcc(mixed, b) == pytest.approx(probe_cpcc(a, b), abs=1e-9)

    def test_one_mode_is_the_correlation(self):
        a, b = modes(0, 1), modes(1, 1)
        x, y = a.ravel() - a.mean(), b.ravel() - b.mean()
        expected = abs(np.vdot(x, y)) / np.linalg.norm(x) / np.linalg.norm(y)
        assert probe_cpcc(a, b) == pytest.approx(expected, abs=1e-12)

    def test_a_mixing_that_is_not_unitary_is_seen(self):
        a = modes(0)
        assert probe_cpcc(a * np.array([1, 3, 0.3])[:, None, None], a) < 0.97
        assert probe_cpcc(a.conj(), a) < 0.95

    def test_two_orthogonal_modes(self):
        y, x = np.mgrid[0:32, 0:32] * 2 * np.pi / 32
        one, other = np.exp(1j * x), np.exp(1j * y)
        # one of two equal modes found: ⟨J₁, J₂⟩ = 1, ‖J₁‖ = 1, ‖J₂‖ = √2
        assert probe_cpcc(one[None], np.stack([one, other])) == pytest.approx(2**-0.25)
        assert probe_cpcc(one[None], other[None]) == pytest.approx(0, abs=1e-12)

    def test_zero_modes_count_for_nothing(self):
        a = modes(0, 2)
        assert probe_cpcc(np.concatenate([a, 0 * a]), a) == pytest.approx(1)

    def test_flat_is_zero(self):
        assert probe_cpcc(np.ones((1, 24, 20), complex), modes()) == 0
        assert probe_cpcc(np.zeros((2, 24, 20), complex), modes()) == 0


class TestPositions:
    @staticmethod
    def scan(seed=0, count=200):
        return np.random.default_rng(seed).uniform(0, 100, (count, 2))

    @settings(max_examples=20, deadline=None)
    @given(move=st.tuples(st.floats(-50, 50), st.floats(-50, 50)))
    def test_translation_is_removed(self, move):
        true = self.scan()
        error = np.random.default_rng(1).normal(0, 2, true.shape)
        assert_allclose(position_errors(true + move, true), 0, atol=1e-9)
        assert_allclose(position_errors(true + error + move, true), position_errors(true + error, true), atol=1e-9)

    @settings(max_examples=20, deadline=None)
    @given(seed=seeds)
    def test_affine_map_is_removed_from_one_number_only(self, seed):
        true = self.scan()
        rng = np.random.default_rng(seed)
        found = true @ (np.eye(2) + rng.uniform(-0.1, 0.1, (2, 2))) + rng.uniform(-5, 5, 2)
        median, affine, rms = position_errors(found, true)
        assert affine < 1e-5
        assert min(median, rms) > 0.01

    def test_gaussian_errors(self):
        true = self.scan(count=4000)
        found = true + np.random.default_rng(2).normal(0, 2, true.shape)
        median, affine, rms = position_errors(found, true)
        # of a Rayleigh distribution: median σ√(2 ln 2), RMS σ√2
        assert median == pytest.approx(2 * np.sqrt(2 * np.log(2)), rel=0.03)
        assert affine == pytest.approx(median, rel=0.01)
        assert rms == pytest.approx(2 * np.sqrt(2), rel=0.03)

    def test_lost_positions_do_not_spoil_the_medians(self):
        true = self.scan()
        found = true @ np.array([[1.02, 0.01], [-0.01, 0.99]]) + 3
        found[::5] += 40
        median, affine, rms = position_errors(found, true)
        assert affine < 1e-3
        assert median < 2
        assert rms > 10

    def test_few_patterns(self):
        true = self.scan(count=4)
        assert position_errors(true, true) == (0, None, 0)


def test_distance():
    assert distance_error(0.8, 1.0) == pytest.approx(0.2)
    assert distance_error(1.2, 1.0) == pytest.approx(0.2)
    assert distance_error(None, 1.0) is None
