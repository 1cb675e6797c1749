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
        run = jax.jit(
            lambda: regularized_solve(
                *problem(1.5, jnp.asarray([1.0, 0.5])),
                regularizers={"e": ErrorEstimate()}, stepsize_controller=CONTROLLER,
            )[1].total
        )  # fmt: skip
        return float(run())


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

    def gradients(adjoint):
        def values(rate):
            solution, penalty = draw(jax.random.key(5), rate, local, adjoint, tight)
            end = solution.ys[-1]
            return (penalty.total, jnp.sum(end**2)), (penalty.nfe, end)

        return jax.jit(jax.jacrev(values, has_aux=True))(jnp.asarray(1.5))

    (a, b), (evaluations, end) = gradients(diffrax.RecursiveCheckpointAdjoint())
    assert abs(float(a)) > 1e-6
    (c, d), backwards = gradients(diffrax.BacksolveAdjoint(stepsize_controller=tight))
    np.testing.assert_allclose(c, a, rtol=1e-9)
    np.testing.assert_allclose(d, b, rtol=1e-5)
    # It saves nothing but the end, so that the step comes from a solve of its own.
    with jax.numpy_dtype_promotion("standard"):  # diffrax mixes its counters in there
        (e, f), implicit = gradients(diffrax.ImplicitAdjoint())
    np.testing.assert_allclose(e, a, rtol=1e-9)
    # To that adjoint the end is a root of the field, by its own definition.
    jacobian = -1.5 * jnp.asarray([[0.0, 3 * end[1] ** 2], [-3 * jnp.cos(3 * end[0]), 0.0]])
    moved = -jnp.linalg.solve(jacobian, field(0.0, end, 1.5) / 1.5)
    np.testing.assert_allclose(f, 2 * jnp.vdot(end, moved), rtol=1e-6)
    assert int(evaluations) == int(backwards[0]) == int(implicit[0]) > 0


def test_a_lone_step_knows_the_stiffness_of_a_solver_without_stage_pairs(x64):
    rates = jnp.concatenate([jnp.array([100.0]), jnp.ones(20)])
    local = LocalRegularization(
        regularizer=StiffnessEstimate(StepWeight.ONE), weighting=Weighting.PAPER
    )

    @jax.jit
    def run():
        return local_regularized_solve(
            diffrax.ODETerm(lambda t, y, args: -rates * y), diffrax.Heun(), 0.0, 0.2, None,
            jnp.ones(21), key=jax.random.key(3), local=local,
        )[1].total  # fmt: skip

    np.testing.assert_allclose(run(), 100.0, rtol=0.01)


N_DRAWS = 4000


@pytest.fixture(scope="module")
def drawn():
    """Return one solve and the draws of each kind, by wrappers within each other."""
    solver, seeds = diffrax.Tsit5(), {Sampling.STEP: 29, Sampling.TIME: 31}
    with jax.enable_x64(True):
        for sampling, seed in seeds.items():
            data = jax.random.key_data(jax.random.key(seed))
            solver = ReservoirSolver(solver, data, N_DRAWS, sampling, False, "threefry2x32")
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(field), solver, 0.0, 2.0, 1.0, jnp.asarray([1.0, 0.5]), 1.5,
            stepsize_controller=CONTROLLER, saveat=diffrax.SaveAt(steps=True, solver_state=True),
            max_steps=256,
        )  # fmt: skip
    outer = solution.solver_state
    return solution, {Sampling.TIME: outer.own, Sampling.STEP: outer.inner.own}


@pytest.mark.parametrize("sampling", list(Sampling))
def test_steps_are_drawn_with_their_probabilities(x64, drawn, sampling):
    solution, draws = drawn
    assert int(solution.stats["num_rejected_steps"]) > 0
    times, sizes, states, total, count = draws[sampling]
    ends = np.asarray(solution.ts)[: int(count)]
    begins = np.concatenate([[0.0], ends[:-1]])
    steps = ends - begins
    np.testing.assert_allclose(total, 2.0 if sampling is Sampling.TIME else len(ends))
    which = np.argmin(np.abs(np.asarray(times)[:, None] - begins), axis=1)
    np.testing.assert_allclose(sizes, steps[which])
    starts = np.concatenate([[[1.0, 0.5]], np.asarray(solution.ys)[: int(count) - 1]])
    np.testing.assert_allclose(states, starts[which])
    even = np.full(len(steps), 1 / len(steps))
    expected = N_DRAWS * (steps / 2.0 if sampling is Sampling.TIME else even)
    found = np.bincount(which, minlength=len(steps))
    chi_square = np.sum((found - expected) ** 2 / expected)
    # Four standard deviations above its mean.
    freedom = len(steps) - 1
    assert chi_square < freedom + 4 * np.sqrt(2 * freedom)


def test_no_time_gives_nothing_and_no_nan():
    @jax.jit
    def run():
        return local_regularized_solve(
            diffrax.ODETerm(lambda t, y, args: -y), diffrax.Tsit5(), 1.0, 1.0, 0.1, jnp.ones(2),
            key=jax.random.key(3), local=LocalRegularization(weighting=Weighting.PAPER),
        )[1].total  # fmt: skip

    assert float(run()) == 0.0


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
