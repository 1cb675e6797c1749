"""The length of adaptive steps: time errors, fits that miss, steps that have to end somewhere."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from sciml.core import RESULTS
from sciml.natural_gradient import CollocationPoints, march
from sciml.natural_gradient._step_control import StepControl


def test_a_fixed_step_is_never_refused_nor_cut():
    control = StepControl(None, 0.1, 4)
    assert control.accepts(1.0, 1.0, 0.1, False)
    assert not control.cuts(0.1)
    assert not control.is_spent(1e9)
    assert (control.dt, control.fit_limit) == (0.1, math.inf)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_steps_settle_where_the_error_is_just_below_the_tolerance(order):
    control, dt = StepControl(1e-6, 1.0, order), 1.0
    for _ in range(60):
        control.accepts(3e-3 * dt**order, 0.0, dt, False)
        dt = control.dt
    assert 0.2e-6 < 3e-3 * dt**order <= 1e-6


def test_a_fit_limits_the_growth_of_a_step():
    control = StepControl(1e-6, 0.1, 4)
    assert control.accepts(1e-12, 4e-7, 0.1, False)
    assert 0.1 < control.dt < 0.12
    assert control.accepts(1e-12, 9e-7, 0.1, False)
    assert control.dt == 0.1
    assert control.accepts(1e-12, 1e-12, 0.1, False)
    assert control.dt == pytest.approx(0.3)


def test_fits_that_halves_do_not_help_raise_the_limit_for_fits_alone():
    control = StepControl(1e-6, 0.1, 4)
    assert not control.accepts(1e-7, 4e-6, 0.1, False)
    # In proportion to the step: nothing is gained.
    assert control.accepts(1e-7, 2e-6, 0.05, False)
    assert (control.dt, control.fit_limit) == (0.1, 6e-6)
    assert not control.accepts(1.1e-6, 1e-7, 0.1, False)
    control.dt = 0.1
    for limit in (3e-6, 1.5e-6, 1e-6, 1e-6):
        assert control.accepts(1e-7, 1e-7, 0.1, False)
        assert control.fit_limit == pytest.approx(limit)


def test_a_fit_that_gets_worse_with_shorter_steps_is_not_taken():
    control = StepControl(1e-6, 0.1, 4)
    assert not control.accepts(1e-7, 1.1e-6, 0.1, False)
    assert not control.accepts(1e-7, 1e-3, 0.05, False)
    assert control.fit_limit == 1e-6
    # One that gains much is no floor either: the search goes on.
    control = StepControl(1e-6, 0.1, 4)
    assert not control.accepts(1e-7, 1e-5, 0.1, False)
    assert not control.accepts(1e-7, 3e-6, 0.05, False)
    assert control.accepts(1e-7, 9e-7, 0.025, False)
    assert control.fit_limit == 1e-6


def test_a_failed_step_leaves_no_trace_but_a_shorter_one():
    control = StepControl(1e-6, 0.1, 4)
    assert not control.accepts(1e-7, 4e-6, 0.1, False)
    assert control.cuts(0.05)
    assert (control.dt, control.fit_limit) == (0.025, 1e-6)
    assert not control.accepts(1e-7, 4e-6, 0.025, False)


@pytest.mark.parametrize("fits", [(4e-6, 4e-6), (4e-6, 1e-7), (1e-7,)])
def test_a_shortened_step_gives_the_step_back_when_its_end_is_reached(fits):
    control, left, size, shortened = StepControl(1e-6, 0.1, 4), 1e-8, 1e-8, True
    for fit in fits:
        if control.accepts(1e-9, fit, size, shortened):
            left -= size
        assert not control.is_spent(0.3)
        size, shortened = min(control.dt, left), control.dt >= left
    if left > 0:
        assert control.accepts(1e-9, 1e-7, left, True)
    assert control.dt == 0.1
    assert control.pack()["whole"] == 0.0


def test_the_state_between_a_miss_and_its_half_is_kept():
    control, other = StepControl(1e-6, 0.1, 4), StepControl(1e-6, 0.1, 4)
    control.accepts(1e-7, 4e-6, 0.1, False)
    other.unpack(control.pack())
    assert other.accepts(1e-7, 3e-6, 0.05, False)
    assert other.dt == 0.1


@pytest.mark.usefixtures("x64")
def test_a_blow_up_ends_with_its_time(tmp_path):
    """The solution of u' = u^3 from 1 is infinite at t = 1/2."""

    class Constant(eqx.Module):
        c: jax.Array

        def __call__(self, x):
            return self.c + 0.0 * x[0]

    def cube(t, x, u):
        return u(x) ** 3

    network = Constant(jnp.ones(()))
    points = CollocationPoints.grid(4, 1)
    settings = {"t1": 1.0, "dt": 0.01, "atol": 1e-3}
    run = march(cube, network, points, **settings, throw=False)
    assert run.result == RESULTS.march_step_too_short
    assert 0.49 < run.stats["t"] < 0.51
    assert run.stats["n_steps"] < 300
    with pytest.raises(RuntimeError, match="too short to go on"):
        march(cube, network, points, **settings, checkpoint=tmp_path / "march")
    # It goes on with another tolerance, or here another equation.
    settings |= {"atol": 1e3, "checkpoint": tmp_path / "march", "resume": True}
    still = march(lambda t, x, u: 0.0 * u(x), network, points, **settings)
    assert still.stats["t"] == 1.0


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"t1": math.inf}, "`t1`"),
        ({"growth_rate": math.nan}, "`growth_rate`"),
        ({"max_steps": -1}, "`max_steps`"),
    ],
)
def test_numbers_out_of_range_are_refused(change, message):
    settings = {"t1": 1.0, "dt": 0.1} | change
    with pytest.raises(ValueError, match=message):
        march(lambda t, x, u: u(x), lambda x: x[0], CollocationPoints.grid(4, 1), **settings)
