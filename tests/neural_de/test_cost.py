"""What a solve tells of its cost, counted in the field itself; the options of a model's call."""

import functools

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

from sciml.neural_de import (
    ErrorEstimate,
    LocalRegularization,
    NeuralODE,
    Reduction,
    StepWeight,
    StiffnessEstimate,
    local_regularized_solve,
    nfe,
    regularized_solve,
)

PENALTIES = {"error": ErrorEstimate(rtol=1e-5, atol=1e-5)}
CONTROLLER = diffrax.PIDController(rtol=1e-5, atol=1e-5)
# The field changes so much at these times that the steps after them are rejected.
JUMPS = (0.7, 1.5)


class Counted:
    """A field that counts its evaluations where they happen."""

    def __init__(self):
        self.calls = 0

    def field(self, t, y, args):
        jax.debug.callback(self.count)
        rate = jnp.where(t < JUMPS[0], 0.01, jnp.where(t < JUMPS[1], 8.0, 40.0))
        return -rate.astype(y.dtype) * y

    def count(self):
        self.calls += 1

    def so_far(self, result):
        jax.block_until_ready(result)
        jax.effects_barrier()
        return self.calls


def solve(counted, solver, dt0, controller, **options):
    return regularized_solve(
        diffrax.ODETerm(counted.field), solver, 0.0, 2.0, dt0, jnp.ones(2),
        regularizers=PENALTIES, stepsize_controller=controller, max_steps=256, **options,
    )  # fmt: skip


# One that shares a stage between steps, and one that does not.
@pytest.mark.parametrize("solver", [diffrax.Bosh3(), diffrax.Heun()])
def test_evaluations_are_exact_after_jumps_and_rejections(x64, solver):
    counted = Counted()
    loose = diffrax.PIDController(rtol=1e-3, atol=1e-3)
    jumping = diffrax.ClipStepSizeController(loose, jump_ts=jnp.asarray(JUMPS))
    solution, penalty = jax.jit(lambda: solve(counted, solver, 0.7, jumping))()
    assert penalty.max_stiffness is None
    assert int(penalty.nfe) == counted.so_far(solution.ys)
    assert int(penalty.num_steps) == int(solution.stats["num_steps"])
    assert int(solution.stats["num_rejected_steps"]) >= 2
    base = int(nfe(solver, solution.stats, n_jumps=len(JUMPS)))
    # What the statistics do not tell: rejections right after a jump.
    more = int(penalty.nfe) - base
    assert (more == 0) if isinstance(solver, diffrax.Heun) else (more >= 2)
    assert int(nfe(solver, solution.stats, n_jumps=2, n_first_rejections=more)) == base + more


def test_rejections_at_the_start_are_counted_by_every_way_to_solve(x64):
    smooth = diffrax.ODETerm(lambda t, y, args: -20.0 * y)
    where = (smooth, diffrax.Tsit5(), 0.0, 1.0, 1.0, jnp.ones(2))
    counted = Counted()

    def field(t, y, args):
        jax.debug.callback(counted.count)
        return -20.0 * y

    plain = diffrax.diffeqsolve(diffrax.ODETerm(field), *where[1:], stepsize_controller=CONTROLLER)
    expected = counted.so_far(plain.ys)
    assert expected > int(nfe(diffrax.Tsit5(), plain.stats))
    options = {"stepsize_controller": CONTROLLER, "max_steps": 256}

    @jax.jit
    def every_way():
        found = [
            regularized_solve(*where, regularizers=PENALTIES, **options)[1],
            regularized_solve(*where, regularizers=PENALTIES, replay=True, **options)[1],
            local_regularized_solve(*where, key=jax.random.key(3), **options)[1],
            NeuralODE(lambda t, y, args: -20.0 * y)(jnp.ones(2), dt0=1.0)[1],
        ]
        return [(penalty.nfe, penalty.num_steps) for penalty in found]

    for evaluations, steps in every_way():
        assert int(evaluations) == expected
        assert int(steps) == int(plain.stats["num_steps"])


def test_controls_share_stages_as_fields_do(x64):
    counted = Counted()
    ts = jnp.linspace(0.0, 2.0, 5)

    def against(t, y, args):
        jax.debug.callback(counted.count)
        return -y[:, None]

    path = diffrax.LinearInterpolation(ts, ts[:, None] ** 2)
    solution, penalty = jax.jit(
        lambda: regularized_solve(
            diffrax.ControlTerm(against, path), diffrax.Tsit5(), 0.0, 2.0, 0.3, jnp.ones(2),
            regularizers=PENALTIES, stepsize_controller=CONTROLLER,
        )
    )()  # fmt: skip
    found = counted.so_far(solution.ys)
    assert int(penalty.nfe) == found
    assert int(nfe(diffrax.Tsit5(), solution.stats)) == found


def test_each_of_several_terms_is_evaluated_as_often(x64):
    counted = Counted()
    path = diffrax.LinearInterpolation(jnp.asarray([0.0, 2.0]), jnp.asarray([[0.0], [1.0]]))

    def against(t, y, args):
        jax.debug.callback(counted.count)
        return y[:, None]

    decay = diffrax.ODETerm(lambda t, y, args: -y)
    terms = diffrax.MultiTerm(decay, diffrax.ControlTerm(against, path))
    solution, penalty = jax.jit(
        lambda: regularized_solve(
            terms, diffrax.Dopri5(), 0.0, 2.0, 0.25, jnp.ones(2), regularizers=PENALTIES,
            stepsize_controller=diffrax.ConstantStepSize(),
        )
    )()  # fmt: skip
    assert int(penalty.nfe) == counted.so_far(solution.ys) == 8 * 6 + 1


def test_no_steps_cost_nothing_in_a_batch_with_others(x64):
    @jax.jit
    @jax.vmap
    def run(t1):
        return regularized_solve(
            diffrax.ODETerm(lambda t, y, args: -y), diffrax.Tsit5(), 0.0, t1, None, jnp.ones(2),
            regularizers={"mean": ErrorEstimate(reduction=Reduction.MEAN)},
            stepsize_controller=CONTROLLER,
        )[1]  # fmt: skip

    penalty = run(jnp.asarray([0.0, 0.5, 2.0]))
    steps = penalty.num_steps
    np.testing.assert_array_equal(penalty.nfe, [0, *(6 * steps[1:] + 1)])
    assert 0 == steps[0] < steps[1] < steps[2]
    # Nor is there anything to regularise, and no mean of nothing.
    assert 0.0 == penalty.total[0] < penalty.total[1]


def test_the_highest_stiffness_is_told_without_weight_and_divisor(x64):
    rates = jnp.asarray([1.0, 30.0])
    penalties = {
        "mean": StiffnessEstimate(reduction=Reduction.MEAN, normalize=3.5068),
        "highest": StiffnessEstimate(StepWeight.ONE, Reduction.MAX),
    }

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def run(rates):
        _, penalty = regularized_solve(
            diffrax.ODETerm(lambda t, y, args: -rates * y), diffrax.Tsit5(), 0.0, 1.0, 0.01,
            jnp.ones(2), regularizers=penalties, stepsize_controller=CONTROLLER,
        )  # fmt: skip
        return penalty.max_stiffness, penalty.values["highest"]

    (highest, same), slope = run(rates)
    np.testing.assert_allclose(highest, same, rtol=1e-12)
    np.testing.assert_allclose(highest, 30.0, rtol=0.01)
    assert np.all(slope == 0)


@pytest.fixture(scope="module")
def model():
    return NeuralODE(lambda t, y, args: -y, regularization=PENALTIES, max_steps=64)


def test_a_model_takes_another_controller(x64, model):
    y0 = jnp.asarray([1.0, 2.0])
    tight = diffrax.PIDController(rtol=1e-9, atol=1e-9, norm=optx.max_norm)
    theirs = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: -y), diffrax.Tsit5(), 0.0, 1.0, 0.05, y0,
        stepsize_controller=tight,
    )  # fmt: skip
    y, penalty, stats = jax.jit(lambda: model(y0, stepsize_controller=tight, dt0=0.05))()
    np.testing.assert_allclose(y, np.exp(-1.0) * y0, rtol=1e-8)
    np.testing.assert_array_equal(y, theirs.ys[-1])
    assert int(stats["num_steps"]) == int(theirs.stats["num_steps"]) == int(penalty.num_steps)


@pytest.mark.parametrize("inference", [False, True])
def test_a_model_takes_fixed_steps(x64, model, inference):
    y0 = jnp.asarray([1.0, 2.0])
    fixed = {"stepsize_controller": diffrax.ConstantStepSize(), "inference": inference}
    # More steps than the model's own 64.
    run = jax.jit(lambda dt0: model(y0, dt0=dt0, max_steps=100, **fixed))
    y, penalty, stats = run(0.125)
    assert int(stats["num_steps"]) == 8
    assert int(penalty.nfe) == 8 * 6 + 1
    np.testing.assert_allclose(y, np.exp(-1.0) * y0, rtol=1e-6)
    assert int(run(0.01)[2]["num_steps"]) == 100
    with pytest.raises(Exception, match=r"max_steps|maximum number"):
        jax.block_until_ready(run(0.0099))
    with pytest.raises(ValueError, match="max_steps"):
        model(y0, dt0=0.125, max_steps=0, **fixed)


def test_fixed_steps_need_tolerances_of_the_regulariser(model):
    model = NeuralODE(model.field, regularization={"e": ErrorEstimate()})
    fixed = {"stepsize_controller": diffrax.ConstantStepSize()}
    with pytest.raises(ValueError, match="rtol"):
        jax.eval_shape(lambda: model(jnp.ones(2), dt0=0.125, **fixed))


def test_a_model_stops_at_an_event(x64, model):
    event = diffrax.Event(lambda t, y, args, **_: y[0] - 0.5, optx.Newton(1e-10, 1e-10))
    y0 = jnp.asarray([1.0, 2.0])
    ts = jnp.asarray([0.0, 0.25, 0.5, 0.75, 1.0])
    ys, _, stats = jax.jit(lambda: model(y0, ts=ts, event=event, inference=True))()
    np.testing.assert_array_equal(np.isfinite(stats["ts"]), [True, True, True, False, False])
    np.testing.assert_array_equal(np.isfinite(ys[:, 0]), np.isfinite(stats["ts"]))
    # A time of its own at the event is told where the end is asked for, by the test below.
    assert "ts" not in jax.eval_shape(lambda: model(y0, inference=True))[2]


def test_a_batch_stops_at_an_event_as_a_whole(x64, model):
    batch = jnp.asarray([[1.0, 2.0], [3.0, 0.6]])
    event = diffrax.Event(lambda t, y, args, **_: jnp.min(y) - 0.5, optx.Newton(1e-10, 1e-10))
    y, _, stats = jax.jit(lambda: model.as_one_state(batch, event=event))()
    np.testing.assert_allclose(stats["ts"], np.log(1.2), rtol=1e-4)
    np.testing.assert_allclose(y, batch / 1.2, rtol=1e-4)


def test_a_local_model_takes_options_too(x64):
    local = NeuralODE(lambda t, y, args: -y, regularization=LocalRegularization())
    loose = diffrax.PIDController(rtol=1e-2, atol=1e-2)
    _, penalty, stats = jax.jit(
        lambda: local(
            jnp.asarray([1.0, 2.0]), key=jax.random.key(3), dt0=0.5, stepsize_controller=loose
        )
    )()
    assert int(stats["num_steps"]) == int(penalty.num_steps) <= 3
    assert penalty.total > 0


@pytest.mark.parametrize("adjoint", [diffrax.BacksolveAdjoint(), diffrax.ImplicitAdjoint()])
def test_counting_leaves_gradients_alone(x64, adjoint):
    """The continuous adjoint's own solve is not counted, the implicit one's counter not let out.

    test_local.py has the same of local regularisation.
    """

    class Decay(eqx.Module):
        rate: jax.Array

        def __call__(self, t, y, args):
            return 1.0 - self.rate * y

    # Until it hardly moves, so that the implicit adjoint is right.
    model = NeuralODE(Decay(jnp.asarray(2.0)), t1=20.0, rtol=1e-8, atol=1e-8, adjoint=adjoint)

    @eqx.filter_jit
    @functools.partial(eqx.filter_value_and_grad, has_aux=True)
    def end(model):
        y, penalty, _ = model(jnp.zeros(1))
        return y[0], penalty

    with jax.numpy_dtype_promotion("standard"):  # diffrax mixes its counters in the implicit one
        (y, penalty), slope = end(model)
    np.testing.assert_allclose(y, 0.5, rtol=1e-7)
    np.testing.assert_allclose(slope.field.rate, -0.25, rtol=1e-5)
    assert (penalty.nfe is not None) == isinstance(adjoint, diffrax.BacksolveAdjoint)


def test_an_event_may_ask_the_controller_for_its_tolerances(x64):
    event = diffrax.Event(diffrax.steady_state_event())
    problem = (
        diffrax.ODETerm(lambda t, y, args: 1.0 - y), diffrax.Tsit5(), 0.0, 100.0, 0.1, jnp.zeros(1)
    )  # fmt: skip
    options = {"stepsize_controller": CONTROLLER, "event": event}
    ours, penalty = jax.jit(
        lambda: regularized_solve(*problem, regularizers=PENALTIES, **options)
    )()
    theirs = diffrax.diffeqsolve(*problem, **options)
    np.testing.assert_array_equal(ours.ts, theirs.ts)
    np.testing.assert_array_equal(ours.ys, theirs.ys)
    assert ours.ts[-1] < 50.0
    assert int(penalty.nfe) > 0
