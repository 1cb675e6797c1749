"""The small diffusion system on which the doors for SciPy users are tried."""

import numpy as np
import pytest
import scipy.sparse


def _line(n):
    return scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n))


@pytest.fixture(scope="module")
def matrix():
    """On a grid of (7, 9) points. Its diagonal varies: Jacobi's preconditioner does something."""
    laplacian = scipy.sparse.kronsum(_line(9), _line(7))
    return (laplacian + scipy.sparse.diags_array(np.linspace(0, 2, 63))).tocsr()


@pytest.fixture(scope="module")
def b():
    """Return a right-hand side for `matrix`."""
    return np.random.default_rng(6021).normal(size=63)
