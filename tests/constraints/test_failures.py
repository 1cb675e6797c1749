"""Bad input to a mixture: each case has its status, forwards and backwards, and hurts no other."""

import functools

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.constraints import (
    BoxRouter,
    Condition,
    CoordinateBasis,
    Experts,
    HardConstraint,
    ImplicitAdjoint,
    LevenbergMarquardt,
    OnFailure,
    Points,
    Residual,
)
from sciml.core import RESULTS

pytestmark = pytest.mark.usefixtures("x64")
WHERE = np.linspace(0, 1, 30)[:, None]


@functools.cache
def program():
    """Value and derivative of two experts, one for each half; everything is an argument."""

    def choose(x, pair):
        return jnp.where(x[0] < 0.5, pair[0], pair[1])

    def net(x, parameters):
        twin = parameters["twin"]
        one = jnp.ones_like(x[0])
        return jnp.stack([one, x[0], twin * x[0] + (1 - twin) * x[0] ** 2])

    def rows(jet, x, parameters):
        wanted = jnp.exp(0.5 * choose(x, parameters["p"]) * jnp.abs(x[0] - 0.4))
        return jnp.exp(0.5 * jet["u"]) - wanted + jnp.log(choose(x, parameters["inside"]))

    def loss(p, inside, twin, weights):
        layer = HardConstraint(
            CoordinateBasis(net, coordinates=("x",)),
            [Residual(rows, ("u",), name="fit")],
            solver=LevenbergMarquardt(newton_steps=0),
            adjoint=ImplicitAdjoint(on_failure=OnFailure.zero),
        )
        experts = Experts(layer, BoxRouter((0.0,), (1.0,), (2,)))
        routed = experts.route({"fit": Points(jnp.asarray(WHERE), weights)}, capacity=15)
        field = experts({"p": p, "inside": inside, "twin": twin}, routed)
        return jnp.sum(field.w**2), field

    compiled = eqx.filter_jit(eqx.filter_value_and_grad(loss, has_aux=True))

    def run(inside=(1.0, 1.0), twin=0.0, weights=None):
        weights = jnp.ones(30) if weights is None else jnp.asarray(weights)
        (_, field), slope = compiled(jnp.ones(2), jnp.array(inside), jnp.asarray(twin), weights)
        return field, slope

    return run


def kept(*indices):
    return np.isin(np.arange(30), indices) | (np.arange(30) < 15)


@pytest.mark.parametrize(
    ("case", "result", "has_slope"),
    [
        ({"inside": (1.0, -1.0)}, RESULTS.nonfinite_rows, False),
        ({"weights": 1.0 * kept()}, RESULTS.rank_deficient, False),
        ({"weights": 1.0 * kept(16, 28)}, RESULTS.rank_deficient, True),
    ],
    ids=["rows are nan", "no points", "fewer rows than functions"],
)
def test_one_expert_fails_and_the_other_does_not_notice(case, result, has_slope):
    good, right = program()()
    assert bool(good.check().ok.all())
    assert np.all(np.isfinite(right))
    field, found = program()(**case)
    assert field.ok.tolist() == [True, False]
    assert bool((field.result == result)[1])
    found, right = np.asarray(found), np.asarray(right)
    w = np.asarray(field.w)
    np.testing.assert_array_equal(w[0], np.asarray(good.w)[0])
    np.testing.assert_allclose(found[0], right[0], rtol=1e-12)
    assert np.all(np.isfinite(w))
    assert np.isfinite(found[1])
    assert (found[1] != 0) == has_slope
    with pytest.raises(RuntimeError, match="1 of 2 failed, the first at index 1"):
        field.check()


def test_as_many_experts_as_points():
    """One row each: interpolation, and said to be undetermined."""
    field, slope = program()(weights=np.isin(np.arange(30), (3, 20)) * 1.0)
    assert not bool(field.ok.any())
    np.testing.assert_allclose(
        field.jet(jnp.asarray(WHERE[[3, 20]]), ("u",))["u"],
        np.abs(WHERE[[3, 20], 0] - 0.4),
        rtol=1e-7,
    )
    assert np.all(np.isfinite(slope))


def test_a_function_that_comes_twice_is_left_out_and_counted():
    good, _ = program()()
    field, slope = program()(twin=1.0)
    assert good.stats["basis_rank"].tolist() == [3, 3]
    assert field.stats["basis_rank"].tolist() == [2, 2]
    assert bool(field.check().ok.all())
    assert np.all(np.isfinite(slope))
    np.testing.assert_allclose(field.w[:, 1], field.w[:, 2], rtol=1e-6)


def test_exact_rows_may_repeat_each_other_and_contradictions_are_said():
    """Forwards the status, backwards the derivative of the nearest to a solution."""
    basis = CoordinateBasis(lambda x, p: x[0] ** jnp.arange(3.0), coordinates=("x",))
    fit = Residual(lambda j, x, p: j["u"] - x[0], ("u",), name="fit")
    ends = [
        Residual(
            lambda j, x, p, k=k: j["u"] - p[k],
            ("u",),
            name=name,
            condition=Condition.exact,
            everywhere=True,
        )
        for k, name in enumerate(("one", "two"))
    ]
    layer = HardConstraint(basis, [fit, *ends], solver=LevenbergMarquardt(newton_steps=0))
    end = jnp.zeros((1, 1))
    points = {"fit": jnp.asarray(WHERE), "one": end, "two": end}

    def value(p):
        field = layer(p, points)
        return field(end[0]), field

    both = eqx.filter_jit(eqx.filter_value_and_grad(value, has_aux=True))
    (at_end, field), slope = both(jnp.array([0.5, 0.5]))
    assert bool(field.check().ok.all())
    np.testing.assert_allclose(at_end, 0.5, rtol=1e-13)
    assert float(field.stats["exact_defect"][0]) < 1e-12
    np.testing.assert_allclose(slope, 0.5, rtol=1e-10)
    (at_end, field), slope = both(jnp.array([0.5, 0.9]))
    assert bool((field.result == RESULTS.inconsistent_constraints).all())
    np.testing.assert_allclose(at_end, 0.7, rtol=1e-12)
    np.testing.assert_allclose(field.stats["exact_defect"], 0.2, rtol=1e-12)
    np.testing.assert_allclose(slope, 0.5, rtol=1e-10)
    with pytest.raises(RuntimeError, match="contradict each other"):
        field.check()


def test_a_bound_that_is_just_met_is_said():
    """Broken, slack and in between: only there the derivative is one-sided."""
    basis = CoordinateBasis(lambda x, p: jnp.stack([jnp.ones_like(x[0]), x[0]]), coordinates=("x",))
    fit = Residual(lambda j, x, p: j["u"] - x[0] ** 2, ("u",), name="fit")
    below = Residual(
        lambda j, x, p: j["u"] - p,
        ("u",),
        name="below",
        condition=Condition.inequality,
        weight=1e6,
    )
    where = np.linspace(0, 1, 21)
    layer = HardConstraint(basis, [fit, below], solver=LevenbergMarquardt(newton_steps=0))
    points = {"fit": jnp.asarray(where)[:, None], "below": jnp.array([[0.0], [1.0]])}

    @eqx.filter_jit
    def solve(bound):
        field = layer(bound, points)
        return field(jnp.array([1.0])), field

    best = np.polynomial.Polynomial.fit(where, where**2, 1)(1.0)
    for bound, expected, degenerate in ((0.5, 0.5, False), (2.0, best, False), (best, best, True)):
        # Of one type: a number of Python would be another program.
        end, field = solve(jnp.asarray(bound, jnp.float64))
        assert bool(field.check().ok.all())
        np.testing.assert_allclose(end, expected, atol=1e-3)
        assert field.stats["degenerate"].tolist() == [degenerate]
