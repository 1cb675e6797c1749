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
    StepWeight,
    StiffnessEstimate,
    Weighting,
    local_regularized_solve,
    regularized_solve,
)
from sciml.neural_de._reservoir import ReservoirSolver

RTOL = 1e-6
CONTROLLER = diffrax.PIDController(rtol=RTOL, atol=RTOL)
N_KEYS = 400


def field(t, y, args):
    return -args * jnp.stack([y[1] ** 3, -jnp.sin(3 * y[0])])


def problem(rate, y0):
    return (diffrax.ODETerm(field), diffrax.Tsit5(), 0.0, 2.0, 1.0, y0, rate)


def draw(key, rate, local, adjoint=None, controller=CONTROLLER):
    return local_regularized_solve(
        *problem(rate, jnp.asarray([1.0, 0.5])),
        key=key, local=local, adjoint=adjoint, stepsize_controller=controller, max_steps=256,
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
    # Steps that are tight enough for both ways of differentiating the solution to agree.
    tight = diffrax.PIDController(rtol=1e-9, atol=1e-9)
    local = LocalRegularization(weighting=Weighting.PAPER)

    def values(rate, adjoint):
        solution, penalty = draw(jax.random.key(5), rate, local, adjoint, tight)
        return penalty.total, jnp.sum(solution.ys[-1] ** 2)

    backwards = diffrax.BacksolveAdjoint(stepsize_controller=tight)
    forwards = diffrax.RecursiveCheckpointAdjoint()
    (a, b), (c, d) = (
        jax.jit(jax.jacrev(lambda rate, adjoint=adjoint: values(rate, adjoint)))(jnp.asarray(1.5))
        for adjoint in (backwards, forwards)
    )
    assert abs(float(a)) > 1e-6
    np.testing.assert_allclose(a, c, rtol=1e-9)
    np.testing.assert_allclose(b, d, rtol=1e-5)


def test_an_implicit_adjoint_gives_the_gradient_of_the_drawn_step(x64):
    """It saves nothing but the end, so that the step comes from a solve of its own."""
    local = LocalRegularization(weighting=Weighting.PAPER)

    def value(rate, adjoint):
        return draw(jax.random.key(5), rate, local, adjoint)[1].total

    with jax.numpy_dtype_promotion("standard"):  # diffrax mixes its counters in there
        implicit, direct = (
            jax.jit(jax.value_and_grad(lambda rate, adjoint=adjoint: value(rate, adjoint)))(1.5)
            for adjoint in (diffrax.ImplicitAdjoint(), diffrax.RecursiveCheckpointAdjoint())
        )
    np.testing.assert_allclose(implicit, direct, rtol=1e-9)


def test_a_lone_step_knows_the_stiffness_of_a_solver_without_stage_pairs(x64):
    rates = jnp.concatenate([jnp.array([100.0]), jnp.ones(20)])
    local = LocalRegularization(
        regularizer=StiffnessEstimate(StepWeight.ONE), weighting=Weighting.PAPER
    )
    _, penalty = local_regularized_solve(
        diffrax.ODETerm(lambda t, y, args: -rates * y), diffrax.Heun(), 0.0, 0.2, None,
        jnp.ones(21), key=jax.random.key(3), local=local,
    )  # fmt: skip
    np.testing.assert_allclose(penalty.total, 100.0, rtol=0.01)


@pytest.mark.parametrize("sampling", list(Sampling))
def test_steps_are_drawn_with_their_probabilities(x64, sampling):
    n = 4000
    solver = ReservoirSolver(
        diffrax.Tsit5(), jax.random.key_data(jax.random.key(29)), n, sampling, False, "threefry2x32"
    )
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(field), solver, 0.0, 2.0, 1.0, jnp.asarray([1.0, 0.5]), 1.5,
        stepsize_controller=CONTROLLER, saveat=diffrax.SaveAt(steps=True, solver_state=True),
        max_steps=256,
    )  # fmt: skip
    assert int(solution.stats["num_rejected_steps"]) > 0
    times, sizes, states, total, count = solution.solver_state[1]
    ends = np.asarray(solution.ts)[: int(count)]
    begins = np.concatenate([[0.0], ends[:-1]])
    steps = ends - begins
    np.testing.assert_allclose(total, 2.0 if sampling is Sampling.TIME else len(ends))
    which = np.argmin(np.abs(np.asarray(times)[:, None] - begins), axis=1)
    np.testing.assert_allclose(sizes, steps[which])
    starts = np.concatenate([[[1.0, 0.5]], np.asarray(solution.ys)[: int(count) - 1]])
    np.testing.assert_allclose(states, starts[which])
    even = np.full(len(steps), 1 / len(steps))
    expected = n * (steps / 2.0 if sampling is Sampling.TIME else even)
    found = np.bincount(which, minlength=len(steps))
    chi_square = np.sum((found - expected) ** 2 / expected)
    # Four standard deviations above its mean.
    freedom = len(steps) - 1
    assert chi_square < freedom + 4 * np.sqrt(2 * freedom)


def test_no_time_gives_nothing_and_no_nan():
    _, penalty = local_regularized_solve(
        diffrax.ODETerm(lambda t, y, args: -y), diffrax.Tsit5(), 1.0, 1.0, 0.1, jnp.ones(2),
        key=jax.random.key(3), local=LocalRegularization(weighting=Weighting.PAPER),
    )  # fmt: skip
    assert float(penalty.total) == 0.0


def test_misuse_says_what_to_do():
    with pytest.raises(TypeError, match="key"):
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
