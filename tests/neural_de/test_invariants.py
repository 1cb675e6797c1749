"""What must not change the regularisers, and how they change when it must."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

from sciml.neural_de import (
    ErrorEstimate,
    StepWeight,
    StiffnessEstimate,
    regularized_solve,
)

RTOL = 1e-5
CONTROLLER = diffrax.PIDController(rtol=RTOL, atol=RTOL)
BOTH = {"error": ErrorEstimate(), "stiffness": StiffnessEstimate()}


def pendulum(t, y, args):
    return args * jnp.stack([y[1], -jnp.sin(2 * y[0])])


def solve(rate, y0, **options):
    options = {"stepsize_controller": CONTROLLER, "max_steps": 64, **options}
    return regularized_solve(
        diffrax.ODETerm(pendulum), diffrax.Tsit5(), 0.0, 2.0, 0.1, y0, rate, regularizers=BOTH,
        **options,
    )  # fmt: skip


Y0 = (1.0, 0.5)


@pytest.fixture(scope="module")
def slopes():
    """Return values and derivatives with respect to the rate, by three adjoints."""
    with jax.enable_x64(True):
        y0, rate = jnp.asarray(Y0), jnp.asarray(1.2)

        def values(rate, adjoint):
            penalty = solve(rate, y0, adjoint=adjoint)[1]
            return penalty.total, penalty.values

        def forward(rate):
            ones = jnp.ones_like(rate)
            adjoint = diffrax.ForwardMode()
            return jax.jvp(lambda r: values(r, adjoint), (rate,), (ones,))

        def reverse(rate, adjoint):
            return jax.value_and_grad(lambda r: values(r, adjoint), has_aux=True)(rate)

        return (
            jax.jit(reverse, static_argnums=1)(rate, diffrax.RecursiveCheckpointAdjoint()),
            jax.jit(reverse, static_argnums=1)(rate, diffrax.DirectAdjoint()),
            jax.jit(forward)(rate),
        )


def test_adjoints_that_differentiate_the_steps_agree(slopes):
    (checkpointed, direct, (value, slope)) = slopes
    np.testing.assert_allclose(checkpointed[1], direct[1], rtol=1e-9)
    np.testing.assert_allclose(checkpointed[1], slope[0], rtol=1e-9)
    np.testing.assert_allclose(checkpointed[0][0], value[0], rtol=1e-12)


def test_a_lane_of_a_batch_is_a_single_solve(x64, slopes):
    batch = jnp.asarray([Y0, [0.1, -2.0], [3.0, 0.2]])
    batched = jax.jit(jax.vmap(lambda y0: solve(1.2, y0)[1]))(batch)
    np.testing.assert_allclose(batched.total[0], slopes[0][0][0], rtol=1e-10)
    assert len(set(np.asarray(batched.total).tolist())) == 3


def test_time_may_run_backwards_and_states_may_be_trees(x64, slopes):
    def mirrored(t, y, args):
        a, (b,) = y["a"], y["b"]
        return {"a": -args * b, "b": (args * jnp.sin(2 * a),)}

    y0 = {"a": jnp.asarray(Y0[0]), "b": (jnp.asarray(Y0[1]),)}
    _, penalty = regularized_solve(
        diffrax.ODETerm(mirrored), diffrax.Tsit5(), 1.0, -1.0, -0.1, y0, 1.2, regularizers=BOTH,
        stepsize_controller=CONTROLLER, max_steps=64,
    )  # fmt: skip
    for name, value in penalty.values.items():
        np.testing.assert_allclose(value, slopes[0][0][1][name], rtol=1e-9, err_msg=name)


def test_sums_add_over_intervals_and_errors_scale_with_the_tolerance(x64):
    ts = jnp.linspace(0.0, 2.0, 9)

    @jax.jit
    def run(ts, y0, tolerance):
        scaled = {
            "error": ErrorEstimate(rtol=tolerance, atol=tolerance),
            "plain": ErrorEstimate(StepWeight.ONE, rtol=tolerance, atol=tolerance),
            "stiffness": StiffnessEstimate(),
        }
        solution, penalty = regularized_solve(
            diffrax.ODETerm(pendulum), diffrax.Tsit5(), ts[0], ts[-1], None, y0, 1.2,
            regularizers=scaled, stepsize_controller=diffrax.StepTo(ts),
        )  # fmt: skip
        return solution.ys[-1], penalty.values

    y0 = jnp.asarray(Y0)
    end, whole = run(ts, y0, 1e-5)
    middle, first = run(ts[:5], y0, 1e-5)
    last, second = run(ts[4:], middle, 1e-5)
    np.testing.assert_allclose(last, end, rtol=1e-12)
    for name in whole:
        np.testing.assert_allclose(first[name] + second[name], whole[name], rtol=1e-12)
    np.testing.assert_allclose(whole["error"], 0.25 * whole["plain"], rtol=1e-12)
    _, loose = run(ts, y0, 1e-3)
    np.testing.assert_allclose(loose["error"], whole["error"] / 100, rtol=1e-10)
    np.testing.assert_allclose(loose["stiffness"], whole["stiffness"], rtol=1e-12)


@pytest.mark.parametrize("is_double", [False, True])
def test_polynomials_that_the_solver_integrates_exactly_have_no_error(is_double):
    # Up to t^3; the constant field is the first of them.
    with jax.enable_x64(is_double):

        def total(rate):
            _, penalty = regularized_solve(
                diffrax.ODETerm(lambda t, y, a: a * jnp.asarray(t, y.dtype) ** jnp.arange(4)),
                diffrax.Tsit5(), 0.0, 1.0, 0.2, jnp.zeros(4), rate, regularizers=BOTH,
                stepsize_controller=CONTROLLER,
            )  # fmt: skip
            return penalty.total, penalty.values

        with jax.numpy_dtype_promotion("standard"):
            (_, values), slope = jax.jit(jax.value_and_grad(total, has_aux=True))(jnp.ones(()))
        assert values["error"] < (1e-9 if is_double else 1e-2)
        assert values["stiffness"] == 0.0
        assert np.isfinite(slope)


def test_a_decay_has_its_rate_as_stiffness_by_weakly_typed_numbers():
    _, penalty = regularized_solve(
        diffrax.ODETerm(lambda t, y, args: -3.0 * y), diffrax.Tsit5(), 0, 2, None, 1.0,
        regularizers={"stiffness": StiffnessEstimate()},
    )  # fmt: skip
    np.testing.assert_allclose(penalty.total, 6.0, rtol=1e-3)


def test_fixed_steps_work_with_tolerances_of_their_own(x64):
    _, penalty = regularized_solve(
        diffrax.ODETerm(pendulum), diffrax.Tsit5(), 0.0, 2.0, 0.25, jnp.asarray(Y0), 1.2,
        regularizers={"error": ErrorEstimate(rtol=RTOL, atol=RTOL)},
        stepsize_controller=diffrax.ConstantStepSize(),
    )  # fmt: skip
    assert penalty.total > 0


def test_an_empty_state_has_nothing_to_regularise():
    _, penalty = regularized_solve(
        diffrax.ODETerm(lambda t, y, args: {}), diffrax.Tsit5(), 0.0, 1.0, 0.5, {},
        regularizers={"error": ErrorEstimate()},
    )  # fmt: skip
    assert penalty.total == 0.0


def test_after_an_event_the_whole_step_counts(x64):
    def falls(t, y, args, **kwargs):
        return y[0] - 0.2

    def run(root_finder):
        event = diffrax.Event(falls, root_finder)
        return solve(1.2, jnp.asarray(Y0), event=event)

    solution, penalty = run(None)
    located, same = run(optx.Newton(1e-8, 1e-8))
    assert solution.result == diffrax.RESULTS.event_occurred
    assert located.ts[-1] < solution.ts[-1]
    np.testing.assert_allclose(located.ys[-1][0], 0.2, rtol=1e-6)
    np.testing.assert_allclose(penalty.total, same.total, rtol=1e-12)
    assert penalty.total > 0


def test_steps_stop_at_jumps(x64):
    def kicked(t, y, args):
        return jnp.where(t < 0.7, -y, y)

    clipped = diffrax.ClipStepSizeController(CONTROLLER, jump_ts=jnp.asarray([0.7]))
    options = {"stepsize_controller": clipped, "saveat": diffrax.SaveAt(steps=True)}
    problem = (diffrax.ODETerm(kicked), diffrax.Tsit5(), 0.0, 1.4, 0.1, jnp.ones(2))
    ours, penalty = regularized_solve(*problem, regularizers=BOTH, max_steps=64, **options)
    theirs = diffrax.diffeqsolve(*problem, max_steps=64, **options)
    np.testing.assert_array_equal(ours.ys, theirs.ys)
    np.testing.assert_allclose(penalty.values["stiffness"], 1.4, rtol=1e-6)
    assert int(ours.stats["num_rejected_steps"]) == 0
