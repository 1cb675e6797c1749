"""A random system that all tests share, so that there are few shapes to compile."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

N_NODES, N_EDGES, HEADS = 12, 40, 3


@pytest.fixture(scope="module")
def x64_module():
    """Run the file in float64."""
    with jax.enable_x64(True):
        yield


def random_system(seed=3, dtype=np.float64):
    """Return signed rows that sum to 1 in absolute value, with parallel edges and self loops."""
    rng = np.random.default_rng(seed)
    rows = np.r_[np.arange(N_NODES - 1), rng.integers(0, N_NODES - 1, N_EDGES - N_NODES + 1)]
    columns = rng.integers(0, N_NODES, N_EDGES)
    columns[5], rows[6] = rows[5], rows[5]
    rows[7], columns[7] = rows[8], columns[8]
    a = rng.normal(size=(N_EDGES, HEADS))
    sums = np.zeros((N_NODES, HEADS))
    np.add.at(sums, rows, np.abs(a))
    a = a / sums[rows]
    b = rng.normal(size=(N_NODES, HEADS))
    gamma = rng.uniform(0.3, 0.9, (N_NODES, HEADS))
    cast = lambda x: jnp.asarray(x, dtype)  # noqa: E731
    return types.SimpleNamespace(
        a=cast(a), b=cast(b), gamma=cast(gamma), rows=jnp.asarray(rows),
        columns=jnp.asarray(columns),
    )  # fmt: skip


def dense(system, gamma):
    """Return the matrices ``gamma A``, one for each head, as NumPy."""
    out = np.zeros((HEADS, N_NODES, N_NODES))
    g = np.broadcast_to(np.asarray(gamma, float), (N_NODES, HEADS))
    for e in range(N_EDGES):
        i, j = int(system.rows[e]), int(system.columns[e])
        out[:, i, j] += g[i] * np.asarray(system.a[e])
    return out
