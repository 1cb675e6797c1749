"""Natural gradients of stationary problems: exact steps, equal forms, ends with a status."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sciml.core import RESULTS
from sciml.natural_gradient import (
    EnergyNaturalGradient,
    GradientMethod,
    GramForm,
    ResidualTerm,
    box_quadrature,
    laplacian,
    minimise_residuals,
)
from sciml.natural_gradient._energy_natural_gradient import natural_direction


class _Polynomial(eqx.Module):
    """Linear in its coefficients; the last one multiplies nothing."""

    coefficients: jax.Array

    def __call__(self, x):
        powers = jnp.array([0.0, 1.0, 2.0, 3.0])
        return self.coefficients @ jnp.where(powers == 0, 1.0, x[0] ** powers)


def _u(u, x):
    return u(x)


def _twice(u, x):
    return jnp.stack([u(x), 2.0 * u(x)])


def _start():
    return _Polynomial(jnp.array([0.3, -1.0, 0.2, 2.0]))


def _term(n=9, **changes):
    x, w = box_quadrature(n, 1)
    return ResidualTerm(_u, x, w, target=jnp.exp(x[:, 0]), **changes)


def _least_squares(term):
    x, w = np.asarray(term.x[:, 0]), np.sqrt(np.asarray(term.w))
    matrix = np.stack([x**0, x, x**2, x**3], axis=1) * w[:, None]
    return np.linalg.lstsq(matrix, w * np.exp(x), rcond=None)[0]


def test_a_linear_problem_takes_one_step(x64):
    method = EnergyNaturalGradient(1e-7, initial_damping=1e-7)
    run = minimise_residuals(_start(), [_term()], method, max_steps=1, throw=False)
    np.testing.assert_allclose(run.value.coefficients, _least_squares(_term()), atol=1e-7)


def test_fewer_rows_than_parameters_are_met_in_one_step(x64):
    method = EnergyNaturalGradient(1e-7, initial_damping=1e-7)
    run = minimise_residuals(_start(), [_term(3)], method, max_steps=1, throw=False)
    assert run.stats["residual_norm"] < 1e-9


def test_it_ends_at_a_stationary_point(x64):
    run = minimise_residuals(_start(), [_term()], EnergyNaturalGradient(1e-7), gtol=1e-8)
    assert run.result == RESULTS.successful
    assert run.stats["stationarity"] <= 1e-8
    assert np.all(np.diff(run.stats["losses"]) <= 0)
    zero = ResidualTerm(_u, _term().x, _term().w, target=jax.vmap(_start())(_term().x))
    run = minimise_residuals(_start(), [zero], atol=1e-14)
    assert run.stats["n_steps"] <= 1
    np.testing.assert_array_equal(run.value.coefficients, _start().coefficients)


def test_a_network_without_influence_is_no_solution(x64):
    """The second derivative of a network of rectifiers is zero, whatever its weights."""
    network = eqx.nn.MLP(1, "scalar", 4, 1, jax.nn.relu, key=jax.random.key(0))
    x = jnp.linspace(0.1, 0.9, 5)[:, None]
    curved = ResidualTerm(lambda u, x: laplacian(u)(x) + 1.0, x, jnp.ones(5))
    run = minimise_residuals(network, [curved], max_steps=20, throw=False)
    assert run.result == RESULTS.least_squares_stalled


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_kernel_and_parameter_form_give_one_step(momentum, x64):
    keys = jax.random.split(jax.random.key(4), 3)
    columns = jax.random.normal(keys[0], (6, 11))
    rows, last = jax.random.normal(keys[1], (11,)), jax.random.normal(keys[2], (6,))
    start, damping = momentum * last, jnp.asarray(0.03)
    steps = [
        natural_direction(columns, rows, damping, start, form)[0]
        for form in (GramForm.parameters, GramForm.kernel)
    ]
    np.testing.assert_allclose(steps[1], steps[0], rtol=1e-8)
    # Against augmented least squares: |J d + r|^2 + rho^2 |D (d - start)|^2.
    scale = np.linalg.norm(columns, axis=1)
    matrix = np.concatenate([np.asarray(columns).T, 0.03 * np.diag(scale)])
    right = np.concatenate([-np.asarray(rows), 0.03 * scale * np.asarray(start)])
    expected = np.linalg.lstsq(matrix, right, rcond=None)[0]
    np.testing.assert_allclose(steps[0], expected, rtol=1e-8)


def test_spring_is_damped_towards_its_last_step_and_without_momentum_engd_w(x64):
    columns = jax.random.normal(jax.random.key(1), (5, 3))
    rows, last = jnp.array([1.0, -2.0, 0.5]), jnp.arange(5.0)
    damping = jnp.asarray(1e-2)
    step = natural_direction(columns, rows, damping, 0.0 * last, GramForm.kernel)[0]
    norms = np.linalg.norm(columns, axis=1)
    unit = np.asarray(columns) / norms[:, None]
    woodbury = unit @ np.linalg.solve(unit.T @ unit + 1e-4 * np.eye(3), -np.asarray(rows)) / norms
    np.testing.assert_allclose(step, woodbury, rtol=1e-9)
    # In the kernel of J nothing speaks against the old direction: there it is kept.
    kept = natural_direction(columns, rows, damping, last, GramForm.kernel)[0]
    q = np.linalg.svd(unit.T)[2][3:]
    np.testing.assert_allclose(q @ (norms * np.asarray(kept - last)), np.zeros(2), atol=1e-9)


def test_momentum_reaches_the_same_minimum(x64):
    method = EnergyNaturalGradient(1e-3, initial_damping=1e-3, momentum=0.5)
    run = minimise_residuals(_start(), [_term()], method, gtol=1e-7, max_steps=60)
    np.testing.assert_allclose(run.value.coefficients, _least_squares(_term()), atol=1e-5)


def test_terms_weights_and_vector_residuals_add_up(x64):
    x, w = box_quadrature(4, 1)
    network = _start()
    plain = ResidualTerm(_u, x, w)
    np.testing.assert_allclose(
        ResidualTerm(_twice, x, w, weight=3.0).loss(network), 15 * plain.loss(network), rtol=1e-12
    )
    # Two terms of one aim with weights 1 and 3 meet at the weighted mean.
    aims = [(1.0, 1.0), (3.0, 2.0)]
    terms = [ResidualTerm(_u, x, w, weight=k, target=jnp.full(4, aim)) for k, aim in aims]
    run = minimise_residuals(network, terms, gtol=1e-9)
    np.testing.assert_allclose(jax.vmap(run.value)(x), np.full(4, 1.75), rtol=1e-6)


def _hostile(u, x):
    # Not a number beyond 2: full steps from the start go there.
    return jnp.where(u(x) < 2.0, jnp.sqrt(jnp.maximum(2.0 - u(x), 0.0)) - 0.1, jnp.nan)


def test_steps_into_nan_are_cut(x64):
    x, w = box_quadrature(4, 1)
    run = minimise_residuals(
        _Polynomial(jnp.zeros(4)), [ResidualTerm(_hostile, x, w)], max_steps=60, throw=False
    )
    assert np.isfinite(run.stats["losses"]).all()
    assert run.stats["residual_norm"] < 1e-3


def test_rank_deficiency_gives_finite_steps(x64):
    x, w = box_quadrature(2, 1)
    run = minimise_residuals(_start(), [ResidualTerm(_u, x, w)], atol=1e-8)
    assert run.result == RESULTS.successful
    assert np.isfinite(run.value.coefficients).all()


def test_it_ends_with_a_status(x64):
    x, w = box_quadrature(4, 1)
    broken = ResidualTerm(lambda u, x: jnp.log(-jnp.abs(u(x)) - 1.0), x, w)
    run = minimise_residuals(_start(), [broken], throw=False)
    assert run.result == RESULTS.nonfinite_rows
    np.testing.assert_array_equal(run.value.coefficients, _start().coefficients)
    with pytest.raises(RuntimeError, match="not finite"):
        minimise_residuals(_start(), [broken])
    method = GradientMethod(optax.adam(1e-3))
    with pytest.raises(RuntimeError, match="after 3 steps the residual norm is"):
        minimise_residuals(_start(), [_term()], method, max_steps=3)


@pytest.mark.parametrize("optimizer", [optax.adam(3e-2), optax.lbfgs()], ids=["adam", "lbfgs"])
def test_baselines_lower_the_same_loss(optimizer, x64):
    run = minimise_residuals(
        _start(), [_term()], GradientMethod(optimizer), max_steps=40, throw=False
    )
    assert run.stats["loss"] < 0.1 * run.stats["losses"][0]
    assert run.stats["loss"] <= np.min(run.stats["losses"])
    np.testing.assert_allclose(_term().loss(run.value), run.stats["loss"], rtol=1e-10)


def test_the_natural_gradient_needs_float64():
    with pytest.raises(ValueError, match="jax_enable_x64"):
        minimise_residuals(_start(), [_term()])
    network = _start()
    with jax.enable_x64(True), pytest.raises(ValueError, match="float32"):
        minimise_residuals(network, [_term()])


def test_bad_input(x64):
    x, w = box_quadrature(3, 1)
    with pytest.raises(ValueError, match="must not be negative"):
        ResidualTerm(_u, x, -w)
    with pytest.raises(ValueError, match="non-finite"):
        ResidualTerm(_u, x * jnp.nan, w)
    with pytest.raises(ValueError, match="one entry a point"):
        ResidualTerm(_u, x, w, target=jnp.zeros(2))
    with pytest.raises(ValueError, match="`target` has shape"):
        ResidualTerm(_u, x, w, target=jnp.zeros((3, 2))).loss(_start())
    with pytest.raises(ValueError, match="one axis at each point"):
        ResidualTerm(lambda u, x: jnp.ones((2, 2)), x, w).loss(_start())
    with pytest.raises(ValueError, match="at least one ResidualTerm"):
        minimise_residuals(_start(), [])
    with pytest.raises(ValueError, match="max_steps"):
        minimise_residuals(_start(), [_term()], max_steps=0)
    with pytest.raises(ValueError, match="damping"):
        EnergyNaturalGradient(0.0)
    with pytest.raises(ValueError, match="momentum"):
        EnergyNaturalGradient(momentum=1.0)
    with pytest.raises(ValueError, match="no floating-point array"):
        minimise_residuals(lambda x: x[0], [_term()])
