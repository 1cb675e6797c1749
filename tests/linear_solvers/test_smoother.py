"""Chebyshev smoothing is the polynomial it claims to be, and contracts for every weight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.linear_solvers._multigrid_weights import MultigridWeights
from sciml.linear_solvers._smoother import chebyshev_smooth, inverse_scale, sum_of_magnitudes
from sciml.problems import Neumann, diffusion_operator


def _error_polynomial(x, lower, upper, n_sweeps):
    """What is left of the error in the eigenvector of eigenvalue ``x``."""
    one = jnp.ones_like(x)
    return one - x * chebyshev_smooth(lambda u: x * u, one, one, lower, upper, n_sweeps)


@pytest.mark.parametrize("n_sweeps", [1, 2, 3, 5])
@pytest.mark.parametrize(("lower", "upper"), [(0.5, 2.0), (0.1, 1.95), (1.4, 1.9)])
def test_error_is_the_chebyshev_polynomial(lower, upper, n_sweeps, x64):
    x = np.linspace(1e-3, 2, 101)
    basis = np.polynomial.chebyshev.Chebyshev.basis(n_sweeps)

    def mapped(x):
        return (2 * x - lower - upper) / (upper - lower)

    expected = basis(mapped(x)) / basis(mapped(0.0))
    ours = _error_polynomial(jnp.asarray(x), jnp.asarray(lower), jnp.asarray(upper), n_sweeps)
    np.testing.assert_allclose(ours, expected, atol=1e-13)


@pytest.mark.parametrize("n_sweeps", [1, 2, 3, 4])
def test_every_weight_contracts(n_sweeps, x64):
    raw = jnp.asarray(np.random.default_rng(9).normal(0, 4, (2, 500)))
    lower = 2 * jax.nn.sigmoid(raw[0])
    upper = 2 - lower * jax.nn.sigmoid(raw[1])
    # Of every order: the interval is often turned around, which does no harm either.
    assert bool(jnp.any(lower > upper))
    x = jnp.linspace(1e-3, 2, 201)
    p = jax.vmap(lambda low, up: _error_polynomial(x, low, up, n_sweeps))(lower, upper)
    assert float(jnp.max(jnp.abs(p))) < 1


def test_interval_of_one_point_is_a_power(x64):
    """There the Chebyshev polynomial has a removable singularity: ``p = (1 - x / centre)^k``."""
    x = jnp.linspace(0.01, 2, 50)
    one = jnp.asarray(1.25)
    expected = (1 - x / one) ** 3
    np.testing.assert_allclose(_error_polynomial(x, one, one, 3), expected, atol=1e-14)
    # These raw weights, which training may meet, give lower = upper = 4 / 3.
    lower, upper = 4 / 3, 2 - 4 / 3 * 0.5
    near = _error_polynomial(x, jnp.asarray(lower), jnp.asarray(upper), 3)
    np.testing.assert_allclose(near, (1 - 0.75 * x) ** 3, atol=1e-14)
    slope = jax.grad(lambda up: jnp.sum(_error_polynomial(x, one, up, 3)))(one)
    assert np.isfinite(slope)


@pytest.mark.parametrize("dtype", [np.dtype("float32"), np.dtype("float64")])
def test_weights_are_in_range(dtype, x64):
    weights = MultigridWeights(n_levels=2)
    for level in (0, 1, 5):
        lower, upper, scale = weights.at(level, dtype)
        assert lower.dtype == upper.dtype == scale.dtype == dtype
        np.testing.assert_allclose([lower, upper, scale], [0.5, 1.991, 1.0], rtol=1e-4)


def test_scale_bounds_the_spectrum(x64):
    """By Gershgorin the eigenvalues of ``W^-1 A`` lie in (0, 2]; two is met without Dirichlet."""
    mask = np.random.default_rng(12).uniform(size=(7, 8)) > 0.2
    k = np.exp(3 * np.random.default_rng(13).normal(size=(7, 8)))
    for arguments in ({"coefficient": jnp.asarray(k)}, {"boundary": Neumann()}):
        operator = diffusion_operator((7, 8), mask=mask, dtype=jnp.float64, **arguments)
        active = np.asarray(operator.active)
        inverse = np.asarray(inverse_scale(operator))
        assert np.all(inverse[active] > 0)
        assert not np.any(inverse[~active])
        matrix = operator.to_scipy(active_only=True).toarray()
        np.testing.assert_allclose(
            sum_of_magnitudes(operator)[active], np.abs(matrix).sum(axis=1), rtol=1e-14
        )
        root = np.sqrt(inverse[active])
        spectrum = np.linalg.eigvalsh(root[:, None] * matrix * root)
        assert spectrum.max() <= 2 + 1e-12
        assert spectrum.min() > -1e-12
