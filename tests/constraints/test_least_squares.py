"""Least squares: the right answer, the right derivative, and the truth about every failure."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

from sciml.constraints import (
    HessianForm,
    ImplicitAdjoint,
    LevenbergMarquardt,
    NormalForm,
    OnFailure,
    OptimistixLeastSquares,
    least_squares,
)
from sciml.core import RESULTS, is_successful

N_POINTS = 20
FAST = LevenbergMarquardt(newton_steps=0)
"""Without the final Newton steps: less to compile where the last digits do not matter."""


pytestmark = pytest.mark.usefixtures("x64")


def data(seed=5):
    t = jnp.linspace(0.0, 2.0, N_POINTS)
    return t, jnp.asarray(0.1 * np.random.default_rng(seed).normal(size=N_POINTS))


def residual(w, points, rate):
    t, values = points
    return w[0] * jnp.exp(-w[1] * t) + 0.1 * rate * t**2 - values


def fit(rate, *, chunk=None, form=NormalForm.qr, adjoint=None, start=(1.0, 0.5), **options):
    t, noise = data()
    return least_squares(
        residual,
        jnp.array(start),
        (t, 3 * jnp.exp(-rate * t) + noise),
        rate,
        chunk=chunk,
        solver=LevenbergMarquardt(form=form, **options),
        adjoint=adjoint,
        throw=False,
    )


@functools.cache
def derivative(chunk, form):
    """One compiled function: value, reverse derivative, its forward derivative."""

    def both(rate):
        value, pullback = jax.vjp(lambda r: fit(r, chunk=chunk, form=form).value, rate)
        return value, jnp.stack([pullback(unit)[0] for unit in jnp.eye(2)])

    def all_three(rate):
        (value, first), (forward, second) = jax.jvp(both, (rate,), (1.0,))
        return value, first, second, forward

    return jax.jit(all_three)


def with_value(solution):
    """Return what is differentiated and what comes along."""
    return solution.value, solution


def value_and_jacobian(solve):
    """Return one compiled function: the derivative, and the solution beside it."""
    return jax.jit(jax.jacrev(lambda p: with_value(solve(p)), has_aux=True))


def richardson(function, x, h=1e-3):
    def central(step):
        return (np.asarray(function(x + step)) - np.asarray(function(x - step))) / (2 * step)

    return (4 * central(h) - central(2 * h)) / 3


@pytest.mark.parametrize(
    ("chunk", "form"), [(None, NormalForm.qr), (7, NormalForm.gram)], ids=["qr", "gram-chunks"]
)
def test_first_and_second_derivatives_are_those_of_finite_differences(chunk, form):
    both = derivative(chunk, form)
    _, first, second, forward = both(1.5)
    np.testing.assert_allclose(first, forward, rtol=1e-12)
    np.testing.assert_allclose(first, richardson(lambda r: both(r)[0], 1.5), rtol=1e-6)
    np.testing.assert_allclose(second, richardson(lambda r: both(r)[1], 1.5), rtol=1e-6)


@pytest.mark.parametrize("form", [NormalForm.qr, NormalForm.gram])
def test_the_unit_of_the_rows_does_not_matter_in_float32(form):
    """Their squares would leave the range of the numbers."""
    with jax.enable_x64(False):
        t = jnp.linspace(0.0, 2.0, N_POINTS)
        y = 3 * jnp.exp(-1.5 * t) + 0.1 * jnp.sin(9 * t)

        def slope_of(y, unit):
            found = least_squares(
                lambda w, p, u: u * (w[0] * jnp.exp(-w[1] * p[0]) - p[1]),
                jnp.array([1.0, 0.5]),
                (t, y),
                unit,
                solver=LevenbergMarquardt(form=form),
                throw=False,
            )
            return found.value[1], found

        run = jax.jit(jax.grad(slope_of, has_aux=True))
        expected, plain = run(y, jnp.float32(1))
        for unit in (1e-25, 2e-20, 2e-19, 1e25):
            gradient, found = run(y, jnp.float32(unit))
            assert is_successful(found.result)
            np.testing.assert_allclose(found.value, plain.value, rtol=1e-5)
            np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4)
            norm = found.stats["residual_norm"] / jnp.float32(unit)
            np.testing.assert_allclose(norm, plain.stats["residual_norm"], rtol=1e-5)


def test_chunks_and_forms_do_not_change_the_answer():
    by_rows = derivative(None, NormalForm.qr)(1.3)
    by_chunks = derivative(7, NormalForm.gram)(1.3)
    for a, b in zip(by_rows, by_chunks, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)


def test_the_gauss_newton_derivative_is_wrong_where_rows_remain():
    half = jax.jit(
        jax.jacfwd(
            lambda r: fit(r, adjoint=ImplicitAdjoint(hessian=HessianForm.gauss_newton)).value
        )
    )(1.5)
    right = derivative(None, NormalForm.qr)(1.5)[1]
    assert 1e-4 < abs(half[1] / right[1] - 1) < 0.5


def test_what_a_closure_holds_is_differentiated():
    t, noise = data()

    def outer(rate):
        def closed(w, points, args):
            return (
                w[0] * jnp.exp(-w[1] * points)
                + 0.1 * rate * points**2
                - noise
                - 3 * jnp.exp(-rate * points)
            )

        return least_squares(closed, jnp.array([1.0, 0.5]), t, throw=False).value

    found = jax.jit(jax.jacrev(outer))(1.5)
    np.testing.assert_allclose(found, derivative(None, NormalForm.qr)(1.5)[1], rtol=1e-8)


def test_a_linear_problem_takes_one_step():
    rng = np.random.default_rng(71)
    A, b = rng.normal(size=(30, 5)), rng.normal(size=30)
    solution = least_squares(
        lambda w, points, args: points[0] @ w - points[1],
        jnp.zeros(5),
        (jnp.asarray(A), jnp.asarray(b)),
        solver=LevenbergMarquardt(damping=0.0, newton_steps=0),
    )
    assert int(solution.stats["n_steps"]) == 1
    expected = np.linalg.lstsq(A, b)[0]
    np.testing.assert_allclose(solution.value, expected, rtol=1e-12, atol=1e-13)
    assert float(solution.stats["stationarity"]) < 1e-14


def test_lanes_are_as_if_alone():
    """Under vmap values, step counts and derivatives are those of each problem by itself."""
    rates = jnp.array([0.4, 1.5, 2.5])
    together = jax.jit(jax.vmap(fit))(rates)
    alone = jax.jit(fit)
    for i, rate in enumerate(rates):
        one = alone(rate)
        assert int(one.stats["n_steps"]) == int(together.stats["n_steps"][i])
        np.testing.assert_allclose(one.value, together.value[i], rtol=1e-9)
    assert len(set(np.asarray(together.stats["n_steps"]).tolist())) > 1


@pytest.mark.parametrize("on_failure", list(OnFailure), ids=lambda member: member.name)
def test_a_failed_lane_hurts_no_other(on_failure):
    """One lane has NaN rows: its derivative is as asked, that of the others is untouched."""

    def rows(w, points, args):
        return jnp.log(args) * points * w[0] + w[1] - jnp.sin(points)

    points = jnp.linspace(0.0, 2.0, 9)

    def total(scale, values):
        def one(value):
            return least_squares(
                rows,
                jnp.ones(2),
                points,
                scale * value,
                solver=FAST,
                adjoint=ImplicitAdjoint(on_failure=on_failure),
                throw=False,
            )

        solution = jax.vmap(one)(values)
        return jnp.sum(solution.value[:, 0]), (solution.value, is_successful(solution.result))

    step = jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))
    (shared, each), (w, ok) = step(1.0, jnp.array([2.0, -1.0, 3.0]))
    assert ok.tolist() == [True, False, True]
    np.testing.assert_array_equal(w[1], [1.0, 1.0])
    (_, alone), _ = step(1.0, jnp.array([2.0, 2.0, 3.0]))
    np.testing.assert_allclose(each[jnp.array([0, 2])], alone[jnp.array([0, 2])], rtol=1e-12)
    if on_failure is OnFailure.nan:
        assert jnp.isnan(shared)
        assert jnp.isnan(each[1])
    else:
        assert float(each[1]) == 0.0
        assert jnp.isfinite(shared)


def test_statuses():
    t, _ = data()
    out_of_steps = fit(1.5, max_steps=2, newton_steps=0)
    assert out_of_steps.result == RESULTS.nonlinear_max_steps_reached
    kink = least_squares(
        lambda w, points, args: jnp.sqrt(jnp.abs(w - 0.3)) + 1 + 0 * points,
        jnp.array([0.9]),
        jnp.zeros(1),
        solver=FAST,
        throw=False,
    )
    assert kink.result == RESULTS.least_squares_stalled
    with pytest.raises(RuntimeError, match="not finite at its start"):
        least_squares(
            lambda w, points, args: jnp.log(w[0]) * points, jnp.array([-1.0]), t, solver=FAST
        )


def test_dependent_columns_are_said_and_have_the_derivative_of_least_norm():
    t, _ = data()

    def solve(scale):
        return least_squares(
            lambda w, points, args: (w[0] + w[1]) * points - scale * points + w[2] - 1,
            jnp.zeros(3),
            t,
            solver=FAST,
            throw=False,
        )

    slope, solution = value_and_jacobian(solve)(2.0)
    assert solution.result == RESULTS.rank_deficient
    assert float(solution.stats["condition_number"]) > 1e12
    w = np.asarray(solution.value)
    np.testing.assert_allclose(w[0] + w[1], 2.0, rtol=1e-10)
    np.testing.assert_allclose(slope, [0.5, 0.5, 0.0], atol=1e-10)


@functools.cache
def parallel_columns(form):
    """One compiled function for all ``nearly``: solution, backward and forward derivative."""
    t = jnp.linspace(-1, 1, 20)

    def rows(w, t, args):
        p, nearly = args
        return w[0] + w[1] * (1 + nearly * t) - (p[0] + p[1] * t)

    def solve(p, nearly):
        solver = LevenbergMarquardt(form=form, newton_steps=0)
        return least_squares(rows, jnp.zeros(2), t, (p, nearly), solver=solver, throw=False)

    @jax.jit
    def everything(p, nearly):
        backwards, solution = jax.jacrev(lambda p: with_value(solve(p, nearly)), has_aux=True)(p)
        return solution, backwards, jax.jacfwd(lambda p: solve(p, nearly).value)(p)

    return everything


@pytest.mark.parametrize("form", NormalForm)
@pytest.mark.parametrize("nearly", [1e-3, 1e-7, 1e-9, 1e-12])
def test_nearly_parallel_columns_give_right_derivatives_or_say_that_they_do_not(nearly, form):
    """Rows ``w0 + w1 (1 + nearly t) - (a + b t)``: ``w1 = b / nearly``, ``w0 = a - b / nearly``.

    Column by column the gradient seems zero long before it is, and in ``J^T J`` the second
    singular value is below round-off from 1e-8 on.
    """
    p = jnp.array([1.0, 2.0])
    solution, backwards, forwards = parallel_columns(form)(p, nearly)
    if form is NormalForm.gram and nearly < 1e-3:
        assert solution.result == RESULTS.rank_deficient
    elif nearly == 1e-12:
        assert solution.result != RESULTS.successful
        assert np.all(np.isnan(backwards))
        assert np.all(np.isnan(forwards))
    else:
        assert solution.result == RESULTS.successful
        expected = np.array([[1, -1 / nearly], [0, 1 / nearly]])
        np.testing.assert_allclose(solution.value, expected @ np.asarray(p), rtol=1e-5)
        np.testing.assert_allclose(backwards, expected, rtol=1e-6, atol=1e-6 / nearly)
        np.testing.assert_allclose(forwards, expected, rtol=1e-6, atol=1e-6 / nearly)


def test_no_derivative_where_rows_that_remain_hide_the_system():
    """``J^T J`` is 1e-18 along ``w0 - w1``; rounding of the second derivative of rows is 1e-16."""

    def solve(p, rcond=None):
        return least_squares(
            lambda w, t, p: jnp.stack(
                [w[0] + w[1] - 1 + t, 0.5 * (w[0] + w[1]) ** 2 + t, 1e-9 * (w[0] - w[1] - p) + t],
                -1,
            ),
            jnp.array([0.3, 0.1]),
            jnp.zeros(1),
            p,
            solver=LevenbergMarquardt(newton_steps=0),
            adjoint=ImplicitAdjoint(rcond=rcond),
            throw=False,
        )

    slope, solution = value_and_jacobian(solve)(1.0)
    assert solution.result == RESULTS.successful
    assert np.all(np.isnan(slope))
    # Who asks for it gets that of least norm.
    asked, _ = value_and_jacobian(lambda p: solve(p, 1e-12))(1.0)
    np.testing.assert_allclose(asked, 0, atol=1e-8)


def test_a_start_at_a_maximum_is_no_solution():
    t, _ = data()

    def solve(start):
        return least_squares(
            lambda w, points, args: jnp.cos(w[0]) * points + 1, start[None], t, throw=False
        )

    alone = jax.jit(solve)
    assert alone(jnp.array(0.0)).result == RESULTS.least_squares_not_a_minimum
    assert alone(jnp.array(np.pi)).result == RESULTS.successful
    assert alone(jnp.array(0.1)).result == RESULTS.successful
    both = jax.jit(jax.vmap(solve))(jnp.array([0.0, 0.1]))
    assert both.stats["converged"].tolist() == [False, True]


@jax.jit
def weighted(weights):
    return least_squares(
        lambda w, points, args: w[0] * points - 1,
        jnp.ones(1),
        data()[0],
        weights=weights,
        solver=FAST,
        throw=False,
    )


@pytest.mark.parametrize("bad", [-1.0, np.nan])
def test_weights_that_are_none_are_seen(bad):
    weights = np.ones(N_POINTS)
    assert weighted(weights).result == RESULTS.successful
    weights[3] = bad
    assert weighted(weights).result == RESULTS.nonfinite_rows


def test_fewer_rows_than_unknowns():
    solution = least_squares(
        lambda w, points, args: points @ w - 1,
        jnp.zeros(4),
        jnp.ones((1, 4)),
        solver=FAST,
        throw=False,
    )
    assert solution.result == RESULTS.rank_deficient
    np.testing.assert_allclose(solution.value, 0.25, rtol=1e-6)


def test_a_nan_in_a_trial_is_a_rejected_step():
    """The first step leaves the domain of the logarithm."""
    solution = least_squares(
        lambda w, points, args: jnp.log(w[0]) - points,
        jnp.array([30.0]),
        jnp.array([0.1, 0.2, 0.3]),
        solver=LevenbergMarquardt(damping=0.0, newton_steps=0),
    )
    # To the tolerance of the gradient, 1e-8.
    np.testing.assert_allclose(solution.value, np.exp(0.2), rtol=1e-8)


def test_points_of_weight_zero_do_not_exist():
    t, noise = data()
    padded = (jnp.append(t, jnp.nan), jnp.append(3 * jnp.exp(-1.5 * t) + noise, 1.0))
    weights = jnp.append(jnp.ones(N_POINTS), 0.0)
    solution = least_squares(residual, jnp.array([1.0, 0.5]), padded, 1.5, weights=weights)
    np.testing.assert_allclose(solution.value, derivative(None, NormalForm.qr)(1.5)[0], rtol=1e-9)


def test_fixed_unknowns_stay():
    t, noise = data()
    points = (t, 3 * jnp.exp(-1.5 * t) + noise)
    fixed = jnp.array([False, True])
    slope = jax.jit(
        jax.grad(
            lambda r: least_squares(
                residual, jnp.array([1.0, 1.4]), points, r, fixed=fixed, throw=False
            ).value[0]
        )
    )(1.5)
    A = np.exp(-1.4 * np.asarray(t))
    np.testing.assert_allclose(slope, -(A @ (0.1 * np.asarray(t) ** 2)) / (A @ A), rtol=1e-9)


@pytest.mark.parametrize("form", list(NormalForm))
def test_rows_that_remain_with_the_first_unknown_fixed(form):
    """The column that is dropped stands before the other in the triangle."""
    found = least_squares(
        lambda w, t, args: w[0] * t - w[1], jnp.array([1.0, 3.0]), jnp.linspace(0.0, 2.0, 20),
        fixed=jnp.array([True, False]), solver=LevenbergMarquardt(form=form),
    )  # fmt: skip
    np.testing.assert_allclose(found.value, [1.0, 1.0], rtol=1e-8)
    assert found.stats["stationarity"] < 1e-8


def test_fixed_unknowns_stay_with_another_solver():
    t, noise = data()
    points = (t, 3 * jnp.exp(-1.5 * t) + noise)
    found = least_squares(
        residual, jnp.array([1.0, 1.4]), points, 1.5, fixed=jnp.array([False, True]),
        solver=optx.LevenbergMarquardt(1e-10, 1e-10),
    )  # fmt: skip
    A = np.exp(-1.4 * np.asarray(t))
    wanted = points[1] - 0.15 * np.asarray(t) ** 2
    np.testing.assert_allclose(found.value, [(A @ wanted) / (A @ A), 1.4], rtol=1e-8)


def test_float32_reaches_its_own_floor():
    t, noise = data()
    points = (t.astype("float32"), (3 * jnp.exp(-1.5 * t) + noise).astype("float32"))
    solution = least_squares(
        residual,
        jnp.array([1.0, 0.5], jnp.float32),
        points,
        jnp.asarray(1.5, jnp.float32),
        solver=FAST,
    )
    assert solution.value.dtype == jnp.float32
    np.testing.assert_allclose(solution.value, derivative(None, NormalForm.qr)(1.5)[0], rtol=1e-4)


def test_a_solver_of_optimistix_is_judged_by_our_measure():
    t, noise = data()
    points = (t, 3 * jnp.exp(-1.5 * t) + noise)
    # The tolerances are data of one compiled program. optimistix calls both successful.
    results = []
    for tolerance in (1e-12, 1e-1):
        solver = optx.LevenbergMarquardt(*jnp.full(2, tolerance))
        wrapped = OptimistixLeastSquares(solver)
        found = least_squares(
            residual, jnp.array([1.0, 0.5]), points, 1.5, solver=wrapped, throw=False
        )
        results.append(found)
    right = derivative(None, NormalForm.qr)(1.5)[0]
    np.testing.assert_allclose(results[0].value, right, rtol=1e-6)
    assert results[0].result == RESULTS.successful
    assert results[1].result == RESULTS.nonlinear_max_steps_reached


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"w0": jnp.zeros((2, 1))}, "`w0` must have shape"),
        ({"w0": jnp.zeros(2, int)}, "real floating-point"),
        ({"points": (jnp.zeros(3), jnp.zeros(4))}, "share one leading axis"),
        ({"weights": jnp.ones(3)}, "`weights` must have shape"),
        ({"residual": lambda w, points, args: w[0]}, "must return one array whose leading axis"),
        ({"chunk": 0}, "`chunk` must be at least 1"),
        ({"fixed": jnp.zeros(3, bool)}, "`fixed` must have the shape"),
    ],
    ids=["axes", "dtype", "points", "weights", "rows", "chunk", "fixed"],
)
def test_bad_input_is_named(change, message):
    arguments = {"residual": residual, "w0": jnp.ones(2), "points": data(), "args": 1.5} | change
    with pytest.raises((ValueError, TypeError), match=message):
        least_squares(**arguments)
