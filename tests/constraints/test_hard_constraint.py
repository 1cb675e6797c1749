"""The constraint layer: manufactured solutions, exact conditions, derivatives, bad input."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.constraints import (
    Condition,
    CoordinateBasis,
    HardConstraint,
    IntegralResidual,
    LevenbergMarquardt,
    Points,
    Residual,
)
from sciml.core import RESULTS

pytestmark = pytest.mark.usefixtures("x64")


class Net(eqx.Module):
    """A small tanh network of (t, x, p) times t, so that the lift holds at the start."""

    weights: tuple

    def __init__(self, n, seed):
        rng = np.random.default_rng(seed)
        sizes = ((8, 3), (8,), (n, 8))
        self.weights = tuple(jax.device_put(rng.normal(size=s)) for s in sizes)

    def __call__(self, x, p):
        first, bias, last = self.weights
        return x[0] * (last @ jnp.tanh(first @ jnp.append(x, p) + bias))


N = 6
FAST = LevenbergMarquardt(newton_steps=0)
"""Without the final Newton steps: less to compile where the last digits do not matter."""
RNG = np.random.default_rng(31)
WHERE = RNG.uniform(size=(60, 2))
SIDES = np.stack([np.linspace(0.1, 1, 12), np.tile([0.0, 1.0], 6)], 1)


def points():
    cells = np.stack(np.broadcast_arrays([[0.5], [1.0]], np.linspace(0.05, 0.95, 10)), -1)
    return {
        "pde": jnp.asarray(WHERE),
        "side": jnp.asarray(SIDES),
        "mass": Points(jnp.asarray(cells), quadrature=jnp.full((2, 10), 0.1)),
    }


def blocks():
    return [
        Residual(
            lambda j, x, p: j["u_t"] - p * j["u_xx"] + j["u"] ** 2, ("u", "u_t", "u_xx"), weight=0.1
        ),
        Residual(lambda j, x, p: j["u"], ("u",), name="side", everywhere=True),
        IntegralResidual(
            lambda j, x, p: j["u"], ("u",), name="mass", target=lambda x, p: 0.6 * jnp.exp(-x[0, 0])
        ),
    ]


def layer(net, **options):
    basis = CoordinateBasis(net, lift=lambda x, p: jnp.sin(jnp.pi * x[1]))
    return HardConstraint(basis, blocks(), **options)


@functools.cache
def compiled():
    """Value and derivative of a functional of the field, in one compiled program."""

    def functional(net, p):
        field = layer(net)(p, points())
        values = field.jet(jnp.asarray(WHERE[:20]), ("u",))["u"]
        return jnp.mean(values**2), field

    return eqx.filter_jit(eqx.filter_value_and_grad(functional, has_aux=True))


def test_derivatives_by_the_network_are_those_of_finite_differences():
    """Also through exact conditions, whitening and the lift."""
    net, p = Net(N, 3), jnp.asarray(0.3)
    direction = Net(N, 4)
    (_, field), slope = compiled()(net, p)
    assert bool(field.check().ok.all())

    def value(step):
        move = lambda a, b: jax.device_put(np.asarray(a) + step * np.asarray(b))  # noqa: E731
        return float(compiled()(jax.tree.map(move, net, direction), p)[0][0])

    h = 1e-3
    central = lambda s: (value(s) - value(-s)) / (2 * s)  # noqa: E731
    expected = (4 * central(h) - central(2 * h)) / 3
    found = sum(np.vdot(a, b) for a, b in zip(slope.weights, direction.weights, strict=True))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert all(bool(np.any(np.asarray(leaf) != 0)) for leaf in jax.tree.leaves(slope))


def test_exact_conditions_hold_for_any_network_and_before_the_first_step():
    for seed in (3, 5):
        (_, field), _ = compiled()(Net(N, seed), jnp.asarray(0.2))
        rows = field.residual(blocks()[2], points()["mass"])
        np.testing.assert_allclose(rows, 0, atol=1e-12)
        assert float(field.stats["exact_defect"][0]) < 1e-12


def test_the_field_belongs_to_the_span_and_not_to_its_basis():
    """Other functions with the same span give the same field; fewer of them a larger residual."""
    net, p = Net(N, 3), jnp.asarray(0.3)
    (value, field), _ = compiled()(net, p)
    mixer = jnp.asarray(np.random.default_rng(6).normal(size=(N, N)))
    change = lambda f: eqx.tree_at(lambda n: n.weights[2], net, f(net.weights[2]))  # noqa: E731
    (other, _), _ = compiled()(change(lambda last: mixer @ last), p)
    np.testing.assert_allclose(other, value, rtol=1e-9)
    few = change(lambda last: jnp.where(jnp.arange(N)[:, None] < 4, last, 0))
    (_, smaller), _ = compiled()(few, p)
    assert int(smaller.stats["basis_rank"][0]) == 4 - 2
    assert float(smaller.stats["residual_norm"][0]) >= float(field.stats["residual_norm"][0])


def test_chunks_without_tables_give_the_same_field():
    (_, field), _ = compiled()(Net(N, 3), jnp.asarray(0.3))
    other = eqx.filter_jit(
        lambda net: layer(net, chunk=25, tabulate=False, whiten=False, solver=FAST)(
            jnp.asarray(0.3), points()
        )
    )(Net(N, 3))
    np.testing.assert_allclose(other.w, field.w, rtol=1e-7)
    assert float(field.stats["condition_number"][0]) < float(other.stats["condition_number"][0])


def polynomials(x, p):
    t, s = x[0], x[1]
    return jnp.stack([t, t * s, t * s**2, t**2, t**2 * s, jnp.ones_like(t), s, s**2])


def manufactured(**options):
    """``u_t - u_xx + u^2 = f`` with a solution in the span."""

    def truth(x):
        return 1 + x[1] - 0.5 * x[0] * x[1] ** 2 + 0.3 * x[0] ** 2

    def equation(jet, x, p):
        source = -0.5 * x[1] ** 2 + 0.6 * x[0] + x[0] + truth(x) ** 2
        return jet["u_t"] - jet["u_xx"] + jet["u"] ** 2 - source

    start = Residual(lambda j, x, p: j["u"] - truth(x), ("u",), name="start")
    layer = HardConstraint(
        CoordinateBasis(polynomials), [Residual(equation, ("u", "u_t", "u_xx")), start], **options
    )
    where = jnp.asarray(np.stack([np.zeros(3), [0.0, 0.5, 1.0]], 1))
    return truth, layer, {"pde": jnp.asarray(WHERE[:40]), "start": where}


def test_a_solution_in_the_span_is_found_to_round_off():
    truth, layer, where = manufactured(solver=FAST)
    field = eqx.filter_jit(layer)(None, where).check()
    assert float(field.stats["residual_norm"][0]) < 1e-12
    x = jnp.array([0.7, 0.3])
    np.testing.assert_allclose(field(x), truth(x), rtol=1e-11)


def test_two_fields_share_their_coefficients():
    """``u_x = v``, ``v_x = -u``: the sine and the cosine are among the pairs."""
    basis = CoordinateBasis(
        lambda x, p: jnp.stack(
            [
                jnp.stack([jnp.sin(x[0]), jnp.cos(x[0])]),
                jnp.stack([x[0], x[0] ** 2]),
                jnp.stack([jnp.cos(x[0]), -jnp.sin(x[0])]),
            ]
        ),
        coordinates=("x",),
        fields=("u", "v"),
    )
    system = Residual(
        lambda j, x, p: jnp.stack([j["u_x"] - j["v"], j["v_x"] + j["u"]]), ("u", "u_x", "v", "v_x")
    )
    start = Residual(lambda j, x, p: j["u"] - 2, ("u",), name="start", condition=Condition.exact)
    field = HardConstraint(basis, [system, start], solver=FAST)(
        None, {"pde": jnp.linspace(0, 1, 9)[:, None], "start": jnp.zeros((1, 1))}
    )
    np.testing.assert_allclose(field.w[0], [0, 0, 2], atol=1e-12)
    np.testing.assert_allclose(field(jnp.array([0.3])), [2 * np.cos(0.3), -2 * np.sin(0.3)])


def test_the_ridge_is_in_units_of_the_field():
    """With a ridge r on data d the mean-square optimum is d / (1 + r), whatever the basis."""
    fit = Residual(lambda j, x, p: j["u"] - 3, ("u",), name="fit")
    where = {"fit": jnp.linspace(0, 1, 5)[:, None]}
    basis = CoordinateBasis(lambda x, scale: scale * jnp.ones((1,)), coordinates=("x",))
    layer = HardConstraint(basis, [fit], ridge=0.5, solver=FAST)
    for scale in (1.0, 1e4):
        field = layer(jnp.asarray(scale), where)
        np.testing.assert_allclose(field(jnp.array([0.2])), 2.0, rtol=1e-12)


@functools.cache
def monomials():
    """Return value and derivative at the end of a sine of ``10 p x`` in the first ``n`` powers."""

    def net(x, p):
        # One program for every number of functions: those that are not there are zero.
        return jnp.where(jnp.arange(24) < p["n"], jnp.stack([x[0] ** k for k in range(24)]), 0)

    def wave(j, x, p):
        rate = 10 * p["rate"]
        return j["u_x"] - rate * jnp.cos(rate * x[0])

    start = Residual(lambda j, x, p: j["u"], ("u",), name="start", condition=Condition.exact)
    basis = CoordinateBasis(net, coordinates=("x",))
    layer = HardConstraint(basis, [Residual(wave, ("u_x",)), start], solver=FAST)
    points = {"pde": jnp.linspace(0, 1, 200)[:, None], "start": jnp.zeros((1, 1))}

    def value(rate, n):
        field = layer({"rate": rate, "n": n}, points)
        return field(jnp.ones(1)), field

    return eqx.filter_jit(eqx.filter_value_and_grad(value, has_aux=True))


@pytest.mark.parametrize(("n", "bound"), [(16, 1e-7), (24, 1e-9)])
def test_whitening_keeps_functions_that_a_gram_matrix_would_lose(n, bound):
    """Monomials: the Gram matrix tells eleven of them apart, and the error stays at 1e-5."""
    (found, field), derivative = monomials()(jnp.asarray(1.0), jnp.asarray(n))
    assert int(field.stats["basis_rank"][0]) > 11
    assert bool(field.check().ok.all())
    assert abs(found - np.sin(10)) < bound
    assert abs(derivative - 10 * np.cos(10)) < 100 * bound


def test_exact_rows_may_be_more_than_functions_if_they_agree():
    basis = CoordinateBasis(
        lambda x, p: jnp.sin(jnp.pi * jnp.arange(1.0, 4.0) * x[0]), coordinates=("x",)
    )
    fit = Residual(lambda j, x, p: j["u"] - x[0] * (1 - x[0]), ("u",), name="fit")
    ends = Residual(lambda j, x, p: j["u"] - p, ("u",), name="ends", condition=Condition.exact)
    layer = HardConstraint(basis, [fit, ends], solver=FAST)
    points = {"fit": jnp.linspace(0, 1, 20)[:, None], "ends": jnp.zeros((8, 1))}
    end, other = jnp.asarray(0.0), jnp.asarray(1.0)
    assert bool(layer(end, points).check().ok.all())
    assert bool((layer(other, points).result == RESULTS.inconsistent_constraints).all())


def test_bad_blocks_and_points_are_named():
    basis = CoordinateBasis(polynomials)
    good = Residual(lambda j, x, p: j["u"], ("u",), name="good")
    with pytest.raises(ValueError, match="'odd' needs 'u_y'"):
        HardConstraint(basis, [Residual(lambda j, x, p: j["u_y"], ("u_y",), name="odd")])
    with pytest.raises(ValueError, match="distinct names"):
        HardConstraint(basis, [good, good])
    forgot = HardConstraint(basis, [Residual(lambda j, x, p: j["u_x"], ("u",), name="forgot")])
    with pytest.raises(ValueError, match="'forgot' uses 'u_x'"):
        forgot(None, {"forgot": jnp.asarray(WHERE)})
    layer = HardConstraint(basis, [good])
    with pytest.raises(ValueError, match="must be a dictionary with the blocks"):
        layer(None, {"bad": jnp.asarray(WHERE)})
    with pytest.raises(ValueError, match="floating-point coordinates"):
        layer(None, {"good": jnp.zeros((4, 3))})
    with pytest.raises(ValueError, match="axes before their coordinates"):
        layer(None, {"good": jnp.zeros((4, 3, 2))})
    mass = IntegralResidual(lambda j, x, p: j["u"], ("u",), name="mass")
    whole = HardConstraint(CoordinateBasis(lambda x, p: jax.lax.complex(x, x)), [good])
    with pytest.raises(TypeError, match="real floating-point numbers, got complex128"):
        whole(None, {"good": jnp.asarray(WHERE)})
    with pytest.raises(ValueError, match="got int64"):
        layer(None, {"good": jnp.zeros((4, 2), int)})
    with pytest.raises(ValueError, match="need `quadrature`"):
        HardConstraint(basis, [mass])(None, {"mass": jnp.zeros((4, 3, 2))})
    many = Residual(lambda j, x, p: j["u"], ("u",), name="many", condition=Condition.exact)
    both = HardConstraint(basis, [good, many])
    points = {"good": jnp.asarray(WHERE), "many": jnp.asarray(WHERE)}
    with pytest.raises(ValueError, match=r"`w0` must have the shape"):
        both(None, points, w0=jnp.zeros(2))
