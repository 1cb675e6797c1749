"""Local regularisation: drawn steps, unbiased values, gradients by any adjoint."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.neural_de import (
    ErrorEstimate,
    LocalRegularization,
    Reduction,
    Sampling,
    StiffnessEstimate,
    Weighting,
    local_regularized_solve,
    regularized_solve,
)

RTOL = 1e-6
CONTROLLER = diffrax.PIDController(rtol=RTOL, atol=RTOL)
N_KEYS = 400


def field(t, y, args):
    return -args * jnp.stack([y[1] ** 3, -jnp.sin(3 * y[0])])


def problem(rate, y0):
    return (diffrax.ODETerm(field), diffrax.Tsit5(), 0.0, 2.0, 1.0, y0, rate)


def draw(key, rate, local, adjoint=None):
    return local_regularized_solve(
        *problem(rate, jnp.asarray([1.0, 0.5])),
        key=key, local=local, adjoint=adjoint, stepsize_controller=CONTROLLER, max_steps=256,
    )  # fmt: skip


@pytest.fixture(scope="module")
def total():
    with jax.enable_x64(True):
        _, penalty = regularized_solve(
            *problem(1.5, jnp.asarray([1.0, 0.5])),
            regularizers={"e": ErrorEstimate()}, stepsize_controller=CONTROLLER,
        )  # fmt: skip
        return float(penalty.total)


@pytest.mark.parametrize("sampling", list(Sampling))
def test_the_estimate_is_unbiased_within_four_standard_errors(x64, total, sampling):
    local = LocalRegularization(sampling=sampling, n_samples=N_KEYS)
    one = LocalRegularization(sampling=sampling, n_samples=1)
    keys = jax.random.split(jax.random.key(321), N_KEYS)

    @jax.jit
    def both(key):
        return draw(key, 1.5, local)[1].total, jax.vmap(lambda k: draw(k, 1.5, one)[1].total)(keys)

    mean, values = both(jax.random.key(17))
    error = float(jnp.std(values)) / np.sqrt(N_KEYS)
    assert error > 0
    assert abs(float(jnp.mean(values)) - total) < 4 * error
    assert abs(float(mean) - total) < 4 * error


def test_any_adjoint_gives_the_gradient(x64):
    local = LocalRegularization(weighting=Weighting.PAPER)

    def value(rate, adjoint):
        solution, penalty = draw(jax.random.key(5), rate, local, adjoint)
        return penalty.total + jnp.sum(solution.ys[-1] ** 2)

    rate = jnp.asarray(1.5)
    tight = diffrax.PIDController(rtol=1e-9, atol=1e-9)
    backwards = diffrax.BacksolveAdjoint(stepsize_controller=tight)
    forwards = diffrax.RecursiveCheckpointAdjoint()
    slopes = [jax.grad(value)(rate, adjoint) for adjoint in (backwards, forwards)]
    np.testing.assert_allclose(slopes[0], slopes[1], rtol=1e-5)

    def penalty(rate):
        return draw(jax.random.key(5), rate, local, backwards)[1].total

    assert abs(float(jax.grad(penalty)(rate))) > 1e-6


def test_no_time_gives_nothing_and_no_nan():
    _, penalty = local_regularized_solve(
        diffrax.ODETerm(lambda t, y, args: -y), diffrax.Tsit5(), 1.0, 1.0, 0.1, jnp.ones(2),
        key=jax.random.key(3), local=LocalRegularization(weighting=Weighting.PAPER),
    )  # fmt: skip
    assert float(penalty.total) == 0.0


def test_misuse_says_what_to_do():
    with pytest.raises(TypeError, match="typed key"):
        draw(7, 1.0, None)
    with pytest.raises(ValueError, match="RecursiveCheckpoint"):
        draw(
            jax.random.key(3), 1.0, LocalRegularization(through_state=True),
            diffrax.BacksolveAdjoint(),
        )  # fmt: skip
    with pytest.raises(ValueError, match="maximum"):
        LocalRegularization(StiffnessEstimate(reduction=Reduction.MAX))
    with pytest.raises(TypeError, match=r"Sampling\.TIME"):
        jax.eval_shape(lambda: LocalRegularization(sampling="time"))  # pyright: ignore
