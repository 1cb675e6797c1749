"""What must not change the regularisers, and how they change when it must."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.neural_de import (
    ErrorEstimate,
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
def single():
    """Return the regularisers of one solve forwards in time."""
    with jax.enable_x64(True):
        return jax.jit(lambda y0: solve(1.2, y0)[1])(jnp.asarray(Y0))


def test_a_lane_of_a_batch_is_a_single_solve(x64, single):
    batch = jnp.asarray([Y0, [0.1, -2.0], [3.0, 0.2]])
    batched = jax.jit(jax.vmap(lambda y0: solve(1.2, y0)[1]))(batch)
    np.testing.assert_allclose(batched.total[0], single.total, rtol=1e-10)
    assert len(set(np.asarray(batched.total).tolist())) == 3


def test_time_may_run_backwards_and_states_may_be_trees(x64, single):
    def mirrored(t, y, args):
        a, (b,) = y["a"], y["b"]
        return {"a": -args * b, "b": (args * jnp.sin(2 * a),)}

    @jax.jit
    def run():
        y0 = {"a": jnp.asarray(Y0[0]), "b": (jnp.asarray(Y0[1]),)}
        return regularized_solve(
            diffrax.ODETerm(mirrored), diffrax.Tsit5(), 1.0, -1.0, -0.1, y0, 1.2,
            regularizers=BOTH, stepsize_controller=CONTROLLER, max_steps=64,
        )[1].values  # fmt: skip

    for name, value in run().items():
        np.testing.assert_allclose(value, single.values[name], rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("is_double", [False, True])
def test_polynomials_that_the_solver_integrates_exactly_have_no_error(is_double):
    """Up to t^3. A constant field's two stages at one abscissa are one: it is not stiff either."""
    with jax.enable_x64(is_double):

        def total(rate, powers):
            def field(t, y, a):
                return {"a": a * jnp.asarray(t, y["a"].dtype) ** powers}

            _, penalty = regularized_solve(
                diffrax.ODETerm(field), diffrax.Tsit5(), 0.0, 1.0, None, {"a": jnp.ones(4)}, rate,
                regularizers=BOTH, stepsize_controller=CONTROLLER, max_steps=16,
                adjoint=diffrax.DirectAdjoint(),
            )  # fmt: skip
            return penalty.total, penalty.values

        with jax.numpy_dtype_promotion("standard"):
            run = jax.jit(jax.value_and_grad(total, has_aux=True))
            polynomials = run(jnp.asarray(2.0), jnp.arange(4))
            constant = run(jnp.asarray(2.0), jnp.zeros(4, int))
        assert polynomials[0][1]["error"] < (1e-9 if is_double else 1e-2)
        assert constant[0][0] < (1e-9 if is_double else 1e-3)
        for (_, values), slope in (polynomials, constant):
            assert values["stiffness"] == 0.0
            assert np.isfinite(slope)


def test_a_decay_has_its_rate_as_stiffness_by_weakly_typed_numbers():
    @jax.jit
    def run():
        return regularized_solve(
            diffrax.ODETerm(lambda t, y, args: -3.0 * y), diffrax.Tsit5(), 0, 2, None, 1.0,
            regularizers={"stiffness": StiffnessEstimate()},
        )[1].total  # fmt: skip

    np.testing.assert_allclose(run(), 6.0, rtol=1e-3)


def test_an_empty_state_has_nothing_to_regularise():
    @jax.jit
    def run():
        return regularized_solve(
            diffrax.ODETerm(lambda t, y, args: {}), diffrax.Tsit5(), 0.0, 1.0, 0.5, {},
            regularizers=BOTH,
        )[1].values  # fmt: skip

    assert run() == {"error": 0.0, "stiffness": 0.0}


def test_steps_stop_at_jumps(x64):
    def kicked(t, y, args):
        return jnp.where(t < 0.7, -y, y)

    clipped = diffrax.ClipStepSizeController(CONTROLLER, jump_ts=jnp.asarray([0.7]))
    options = {
        "stepsize_controller": clipped, "saveat": diffrax.SaveAt(steps=True), "max_steps": 64
    }  # fmt: skip
    problem = (diffrax.ODETerm(kicked), diffrax.Tsit5(), 0.0, 1.4, 0.1, jnp.ones(2))
    ours, penalty = jax.jit(lambda: regularized_solve(*problem, regularizers=BOTH, **options))()
    theirs = jax.jit(lambda: diffrax.diffeqsolve(*problem, **options))()
    np.testing.assert_array_equal(ours.ys, theirs.ys)
    np.testing.assert_allclose(penalty.values["stiffness"], 1.4, rtol=1e-6)
    assert int(ours.stats["num_rejected_steps"]) == 0
