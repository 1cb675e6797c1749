"""The damped direction: forms agree with an augmented least-squares solve; rank deficiency."""

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from sciml.natural_gradient import GramForm
from sciml.natural_gradient._damped_factor import damped_factor

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize("shape", [(7, 12), (12, 7)], ids=["tall", "wide"])
def test_forms_agree_with_augmented_rows(shape, getkey):
    columns = jax.random.normal(getkey(), shape)
    r = jax.random.normal(getkey(), shape[1:])
    rho = jnp.asarray(1e-2)
    norms = np.linalg.norm(columns, axis=1)
    rows = np.concatenate([(columns / norms[:, None]).T, 1e-2 * np.eye(shape[0])])
    expected = np.linalg.lstsq(rows, np.concatenate([r, np.zeros(shape[0])]))[0] / norms
    for form in (GramForm.parameters, GramForm.kernel, GramForm.smaller):
        found = damped_factor(columns, rho, form).direction(r)
        np.testing.assert_allclose(found, expected, atol=1e-8)
    for solver in (lx.QR(), lx.SVD(), lx.Normal(lx.Cholesky()), lx.Cholesky(), lx.CG(1e-12, 1e-12)):
        factor = damped_factor(columns, rho, GramForm.smaller, solver)
        np.testing.assert_allclose(factor.direction(r), expected, atol=1e-8)
        np.testing.assert_array_equal(factor.direction(jnp.zeros_like(r)), 0.0)
    chosen = damped_factor(columns, rho, GramForm.smaller).form
    assert chosen is (GramForm.parameters if shape[0] <= shape[1] else GramForm.kernel)


def test_a_rank_deficient_jacobian_gives_a_finite_direction(getkey):
    columns = jnp.zeros((4, 9)).at[:2].set(jax.random.normal(getkey(), (1, 9)))
    found = damped_factor(columns, jnp.asarray(1e-5), GramForm.smaller).direction(jnp.ones(9))
    assert bool(jnp.all(jnp.isfinite(found)))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4)
    np.testing.assert_array_equal(found[2:], 0.0)


def test_a_parameter_that_hardly_moves_the_values_is_not_sent_far_off(getkey):
    """A saturated neuron: scaled by its own norm it would take what the others miss."""
    columns = jax.random.normal(getkey(), (4, 9)).at[3].multiply(1e-13)
    found = damped_factor(columns, jnp.asarray(1e-5), GramForm.smaller).direction(jnp.ones(9))
    others = jnp.linalg.lstsq(columns[:3].T, jnp.ones(9))[0]
    np.testing.assert_allclose(found[:3], others, atol=1e-6)
    assert abs(found[3]) < 10.0
