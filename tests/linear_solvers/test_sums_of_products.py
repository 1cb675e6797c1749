"""Sums of shifted products: against the loop that they stand for, and with an empty list."""

import jax
import jax.numpy as jnp
import numpy as np

from sciml.linear_solvers._sums_of_products import with_sums_of_products


def test_equals_the_loop_and_passes_gradients(x64):
    rng = np.random.default_rng(88)
    total, left, right = (rng.normal(size=shape) for shape in ((3, 9), (2, 8), (4, 7)))
    # Row 0 gets two terms, one of them twice; row 2 one; row 1 none.
    terms = [(0, 1, 2, 3, 0), (2, 0, 0, 1, 2), (0, 0, 3, 0, 1), (0, 0, 3, 0, 1)]
    size, start = 5, 3

    def ours(left, right):
        return with_sums_of_products(jnp.asarray(total), terms, left, right, size, start)

    expected = total.copy()
    for row, i, a, j, b in terms:
        expected[row, start : start + size] += left[i, a : a + size] * right[j, b : b + size]
    result = jax.jit(ours)(jnp.asarray(left), jnp.asarray(right))
    np.testing.assert_allclose(result, expected, rtol=1e-14)

    # Bilinear: the gradient of a sum times the factor is that sum of the products alone.
    gradient = jax.grad(lambda u: jnp.sum(ours(u, jnp.asarray(right))))(jnp.asarray(left))
    np.testing.assert_allclose(jnp.sum(gradient * left), np.sum(expected - total), rtol=1e-12)


def test_an_empty_list_changes_nothing():
    total = jnp.ones((2, 4))
    result = with_sums_of_products(total, [], jnp.ones((1, 4)), jnp.ones((1, 4)), 4)
    np.testing.assert_array_equal(result, total)
