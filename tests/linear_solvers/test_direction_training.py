import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.linear_solvers._direction_network import DirectionNetwork
from sciml.linear_solvers._direction_training import (
    DirectionBatch,
    DirectionBatches,
    direction_loss,
    fit_direction,
    solve_residuals,
)
from sciml.linear_solvers._ritz import ritz_rhs
from sciml.numerics import StencilOperator

KEY = jax.random.key(991)
SHAPE = (6, 6)


def laplacian():
    one = -jnp.ones(SHAPE)
    couplings = jnp.stack([one.at[-1].set(0.0), one.at[:, -1].set(0.0)])
    return StencilOperator(jnp.full(SHAPE, 4.0), couplings, ((1, 0), (0, 1)))


def test_the_loss_is_that_of_the_best_factor():
    b = jax.random.normal(KEY, (1, *SHAPE))
    y = jax.random.normal(jax.random.key(4), SHAPE)
    operator = laplacian()
    image = np.asarray(operator.mv(y)).ravel()
    flat = np.asarray(b).ravel()
    a = (np.asarray(y).ravel() @ flat) / (np.asarray(y).ravel() @ image)
    wanted = np.sum((flat - a * image) ** 2) / np.sum(flat**2)

    @jax.jit
    def loss(factor, b):
        return direction_loss(lambda r: factor * y, DirectionBatch(operator, b), KEY)

    for factor in (1.0, -300.0, 1e-25):
        np.testing.assert_allclose(loss(factor, 7 * np.asarray(b)), wanted, rtol=1e-4)
    np.testing.assert_allclose(loss(0.0, np.asarray(b)), 1.0, rtol=1e-6)
    for unit in np.float32([1e-25, 1e-20, 1e20, 1e25]):
        np.testing.assert_allclose(loss(1.0, unit * np.asarray(b)), wanted, rtol=1e-4)


def test_the_loss_has_finite_gradients_at_zero():
    network = DirectionNetwork(2, n_fine_layers=0, n_coarse_layers=0, hidden_channels=2, key=KEY)
    batch = DirectionBatch(laplacian(), jnp.zeros((2, *SHAPE)))
    gradient = eqx.filter_jit(eqx.filter_grad(direction_loss))(network, batch, KEY)
    assert all(jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


def test_residuals_met_during_solves():
    operator = laplacian()
    rhs = ritz_rhs(operator, 20, 3, key=KEY)
    met = solve_residuals(operator, rhs, lambda r: r + r**2, n_steps=4)
    assert met.shape == (12, *SHAPE)
    np.testing.assert_allclose(np.linalg.norm(met.reshape(12, -1), axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(met[::4], rhs, atol=1e-6)
    # An exact direction leaves one residual, or rounding.
    none = solve_residuals(operator, rhs, jnp.zeros_like, n_steps=4)
    assert len(none) == 3


def test_batches_depend_on_the_step_alone():
    operator = laplacian()
    rhs = ritz_rhs(operator, 20, 9, key=KEY)
    batches = DirectionBatches([operator, operator], [rhs, -rhs], 4, seed=5)
    np.testing.assert_array_equal(batches[7].rhs, batches[7].rhs)
    assert not np.array_equal(batches[7].rhs, batches[8].rhs)
    assert batches[0].rhs.shape == (4, *SHAPE)
    with pytest.raises(ValueError, match="as many"):
        DirectionBatches([operator], [], 4, seed=5)


def test_training_beats_the_residual_as_direction():
    network = DirectionNetwork(
        2, n_fine_layers=0, n_coarse_layers=2, hidden_channels=4, identity_skip=True, key=KEY
    )
    operator = laplacian()
    held_out = DirectionBatch(operator, ritz_rhs(operator, 20, 40, key=jax.random.key(88)))
    loss = eqx.filter_jit(direction_loss)
    start = float(loss(network, held_out, KEY))
    settings = {"n_vectors": 20, "n_rhs": 60, "n_steps": 60, "n_rounds": 2, "residual_steps": 4}
    solution = fit_direction(
        network, [operator], key=KEY, learning_rate=1e-2, progress=False, **settings
    )
    assert float(loss(solution.value, held_out, KEY)) < 0.8 * start
    assert solution.stats["loss"].shape == (2,)
    with pytest.raises(ValueError, match="n_rounds"):
        fit_direction(network, [operator], key=KEY, n_steps=1, n_rounds=2)
