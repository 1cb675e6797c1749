"""Marches: exact on models linear in their parameters, orders, certificate, failures by name."""

import math

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.core import RESULTS
from sciml.natural_gradient import (
    CollocationPoints,
    DampedGaussNewton,
    Explicit,
    ForwardEuler,
    ImplicitMidpoint,
    PeriodicMLP,
    derivative,
    fit_initial,
    gradient,
    laplacian,
    march,
    march_tdvp,
)

pytestmark = pytest.mark.usefixtures("x64")


class Fourier(eqx.Module):
    """Three modes: linear in its parameters, closed under derivatives."""

    c: jax.Array

    def __call__(self, x):
        k = jnp.arange(1.0, 4.0)
        waves = jnp.concatenate([jnp.ones(1), jnp.cos(k * x[0]), jnp.sin(k * x[0])])
        return self.c @ waves


def start():
    return Fourier(jnp.asarray([0.3, 1.0, -0.5, 0.2, 0.7, 0.1, -0.4]))


def heat(t, x, u):
    return 0.3 * laplacian(u)(x)


def advection(t, x, u):
    return -derivative(u, 0)(x)


def decayed(t, factor):
    k = np.array([0, 1, 2, 3, 1, 2, 3])
    return np.asarray(start().c) * factor(-0.3 * k**2 * t)


# Damping limits a chord to a part 1 - rho^2; several make it exact.
EXACT = DampedGaussNewton(rho=1e-6, rho_min=1e-8, chords=3)


@pytest.fixture(scope="module")
def points():
    with jax.enable_x64(True):
        return CollocationPoints.grid(12, 1)


STEPPERS = {
    "euler": (ForwardEuler(), 1, lambda z: 1 + z),
    "heun": (Explicit(diffrax.Heun.tableau), 2, lambda z: 1 + z + z**2 / 2),
    "rk4": (Explicit(), 4, lambda z: 1 + z + z**2 / 2 + z**3 / 6 + z**4 / 24),
    "midpoint": (ImplicitMidpoint(), 2, lambda z: (1 + z / 2) / (1 - z / 2)),
}


@pytest.mark.parametrize("name", STEPPERS)
def test_a_linear_model_is_stepped_as_the_integrator_steps_it(name, points):
    """Against the stability function of each method, and its order."""
    stepper, order, factor = STEPPERS[name]
    errors = []
    for n in (4, 8):
        dt = 0.4 / n
        run = march(heat, start(), points, t1=0.4, dt=dt, stepper=stepper, inner=EXACT)
        assert run.stats["n_steps"] == n
        ours = np.asarray(run.value.c)
        expected = decayed(dt, lambda z, n=n: factor(z) ** n)
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-10)
        errors.append(np.linalg.norm(ours - decayed(0.4, np.exp)))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.35)


def test_tableaus_of_diffrax_with_their_error_estimate(points):
    runs = [
        march(
            heat, start(), points, t1=0.4, dt=0.1, inner=EXACT, atol=atol,
            stepper=Explicit(diffrax.Bosh3.tableau), saveat=(0.17,),
        )
        for atol in (1e-4, 1e-6)
    ]  # fmt: skip
    errors = [np.linalg.norm(run.value.c - decayed(0.4, np.exp)) for run in runs]
    assert errors[1] < errors[0] < 1e-3
    assert runs[1].stats["n_steps"] > runs[0].stats["n_steps"]
    assert runs[0].stats["ts"] == [0.17, 0.4]
    assert max(runs[1].stats["time_error"]) <= 1e-6


def test_conservation_and_tdvp(points):
    run = march(
        advection, start(), points, t1=1.0, dt=0.25, stepper=ImplicitMidpoint(), inner=EXACT
    )
    energy = [float(points.w @ jax.vmap(f)(points.x) ** 2) for f in (start(), run.value)]
    assert energy[1] == pytest.approx(energy[0], rel=1e-10)
    assert float(run.value.c[0]) == pytest.approx(0.3, abs=1e-11)
    fixed = diffrax.ConstantStepSize()
    tdvp = march_tdvp(heat, start(), points, t1=0.4, dt=0.1, controller=fixed, inner=EXACT)
    np.testing.assert_allclose(tdvp.value.c, decayed(0.4, np.exp), atol=1e-5)
    # Where the network is linear in its parameters, both are the same method.
    heun = march_tdvp(
        heat, start(), points, t1=0.4, dt=0.1, solver=diffrax.Heun(), controller=fixed, inner=EXACT
    )
    expected = decayed(0.1, lambda z: (1 + z + z**2 / 2) ** 4)
    np.testing.assert_allclose(heun.value.c, expected, rtol=0, atol=1e-9)


def test_tdvp_says_why_it_ended(points):
    def short(**settings):
        return march_tdvp(heat, start(), points, t1=0.4, dt=0.01, throw=False, **settings)

    ended = short(max_steps=3)
    assert ended.result == RESULTS.march_step_limit
    steps = short(saveat=diffrax.SaveAt(steps=True), inner=EXACT)
    assert steps.result == RESULTS.successful
    assert len(steps.stats["networks"]) == len(steps.stats["ts"]) == steps.stats["n_steps"]
    with pytest.raises(ValueError, match="dense"):
        short(saveat=diffrax.SaveAt(dense=True))


def test_no_right_hand_side_changes_nothing(points):
    run = march(lambda t, x, u: 0.0 * u(x), start(), points, t1=0.4, dt=0.1)
    np.testing.assert_array_equal(run.value.c, start().c)


def test_resume_and_points_in_another_order(points):
    settings = {"dt": 0.1, "inner": EXACT}
    whole = march(heat, start(), points, t1=0.4, **settings).value
    half = march(heat, start(), points, t1=0.2, **settings)
    resumed = march(heat, half.value, points, t0=half.stats["t"], t1=0.4, **settings).value
    np.testing.assert_allclose(resumed.c, whole.c, atol=1e-12)
    doubled = CollocationPoints(
        jnp.concatenate([points.x[::-1]] * 2), jnp.concatenate([points.w / 2] * 2)
    )
    np.testing.assert_allclose(
        march(heat, start(), doubled, t1=0.4, **settings).value.c, whole.c, atol=1e-11
    )


@pytest.fixture(scope="module")
def small():
    """A fitted one-dimensional network."""
    with jax.enable_x64(True):
        points = CollocationPoints.grid(96, 1)
        network = PeriodicMLP(1, width=6, depth=2, key=jax.random.key(7))
        fit = fit_initial(
            network, lambda x: jnp.exp(jnp.sin(x[0])), points, key=jax.random.key(4), rtol=1e-5,
            max_steps=300,
        )  # fmt: skip
        return points, fit


def test_a_fit_by_subsets_within_its_time(small):
    points, whole = small
    network = PeriodicMLP(1, width=6, depth=2, key=jax.random.key(3))
    seen = []
    settings = {"key": jax.random.key(4), "subset": 0.5, "max_steps": 40}
    fit = fit_initial(
        network, lambda x: jnp.exp(jnp.sin(x[0])), points, rtol=1e-3, **settings,
        progress=lambda i, residual: seen.append((i, residual)),
    )  # fmt: skip
    assert fit.result == RESULTS.successful
    assert [i for i, _ in seen] == list(range(1, len(seen) + 1))
    assert [r for _, r in seen] == fit.stats["history"][1:]
    assert seen[-1][1] <= 1e-3 < seen[-2][1]
    late = fit_initial(
        network, lambda x: jnp.exp(jnp.sin(x[0])), points, max_seconds=0.0, **settings
    )
    assert late.result == RESULTS.fit_failed
    assert len(late.stats["history"]) == 1
    assert whole.stats["relative_residual"] < fit.stats["relative_residual"]


def test_a_fit_goes_on_from_a_plateau():
    """The residual of a network without periodicity stays near 0.03 for a hundred steps."""
    network = eqx.nn.MLP(1, "scalar", 10, 2, jnp.tanh, key=jax.random.key(3), dtype=jnp.float64)
    fit = fit_initial(
        network,
        lambda x: jnp.sin(x[0]) * jnp.cos(3 * x[0]),
        CollocationPoints.grid(100, 1),
        key=jax.random.key(0),
        max_steps=450,
    )
    assert len(fit.stats["history"]) == 451
    assert fit.stats["relative_residual"] < 0.01


@pytest.mark.parametrize("unit", [1e-160, 1e160])
def test_a_fit_in_any_unit(unit):
    """Squares of such values are no numbers, and were called a fit."""
    fit = fit_initial(
        Fourier(unit * jnp.ones(7)), lambda x: unit * start()(x), CollocationPoints.grid(16, 1),
        key=jax.random.key(4), rtol=1e-9,
    )  # fmt: skip
    assert fit.result == RESULTS.successful
    np.testing.assert_allclose(fit.value.c / unit, start().c, atol=1e-8)


def test_the_certificate_of_a_network(small):
    points, fit = small
    assert fit.result == RESULTS.successful
    x = np.arange(128) * 2 * np.pi / 128
    u = np.fft.fft(np.exp(np.sin(x)))
    truth = np.fft.ifft(u * np.exp(-0.3 * 0.4 * np.fft.fftfreq(128, 1 / 128) ** 2)).real
    ours = jax.vmap(fit.value)(jnp.asarray(x)[:, None])
    error0 = float(np.linalg.norm(ours - np.exp(np.sin(x))) * math.sqrt(2 * np.pi / 128))
    run = march(heat, fit.value, points, t1=0.4, dt=0.05, initial_error=error0)
    found = jax.vmap(run.value)(jnp.asarray(x)[:, None])
    error = float(np.linalg.norm(found - truth) * math.sqrt(2 * np.pi / 128))
    assert error < 1e-4
    assert error <= 2 * run.stats["error_bound"] < 1e-3
    assert run.stats["tangent_residual"] < 1e-2


def test_zero_biases_on_burgers_are_refused():
    """An odd network cannot follow the even right-hand side of an odd state."""
    points = CollocationPoints.grid(16, 2)

    def burgers(t, x, u):
        return 0.01 * laplacian(u)(x) - u(x) * jnp.sum(gradient(u)(x))

    def start(bias_scale):
        return PeriodicMLP(2, width=8, depth=2, bias_scale=bias_scale, key=jax.random.key(3))

    run = march(burgers, start(0.0), points, t1=0.1, dt=0.05, max_steps=1, throw=False)
    assert run.result == RESULTS.tangent_deficient
    assert run.stats["tangent_residual"] > 0.1
    with pytest.raises(RuntimeError, match="zero biases"):
        march(burgers, start(0.0), points, t1=0.1, dt=0.05)
    run = march(burgers, start(0.3), points, t1=0.1, dt=0.05, max_steps=1, throw=False)
    assert run.stats["tangent_residual"] < 0.01


def test_an_ill_posed_equation_ends_with_time_and_step(points):
    run = march(lambda t, x, u: u(x) ** 3, start(), points, t1=9.0, dt=1.0, throw=False)
    assert run.result == RESULTS.tangent_deficient  # cubes of three modes have nine
    assert run.stats["t"] < 9.0
    assert bool(jnp.all(jnp.isfinite(run.value.c)))
    with pytest.raises(RuntimeError, match=r"stopped at t = .* in step"):
        march(lambda t, x, u: u(x) ** 3, start(), points, t1=9.0, dt=1.0)


def test_budgets_are_named(points):
    run = march(heat, start(), points, t1=0.4, dt=0.1, max_steps=2, throw=False)
    assert run.result == RESULTS.march_step_limit
    assert run.stats["t"] == pytest.approx(0.2)
    run = march(heat, start(), points, t1=0.4, dt=0.1, max_seconds=0.0, throw=False)
    assert run.result == RESULTS.march_budget_spent


def test_what_cannot_be_marched(points):
    with pytest.raises(ValueError, match="`t1` must be after"):
        march(heat, start(), points, t1=0.0, dt=0.1)
    with pytest.raises(ValueError, match="`dt`"):
        march(heat, start(), points, t1=1.0, dt=0.0)
    with pytest.raises(ValueError, match="`saveat`"):
        march(heat, start(), points, t1=1.0, dt=0.1, saveat=(2.0,))
    with pytest.raises(ValueError, match="implicit"):
        Explicit(diffrax.Kvaerno3.tableau)
    with pytest.raises(ValueError, match="shape of the network"):
        march(lambda t, x, u: gradient(u)(jnp.zeros(2)), start(), points, t1=1.0, dt=0.1)
    with pytest.raises(ValueError, match="float32"):
        march(heat, Fourier(start().c.astype(jnp.float32)), points, t1=1.0, dt=0.1)
    with pytest.raises(ValueError, match="u0"):
        fit_initial(start(), lambda x: x[0] * jnp.nan, points, key=jax.random.key(0))
    with pytest.raises(ValueError, match="what `u0` gives"):
        fit_initial(start(), lambda x: x, points, key=jax.random.key(0))
    with pytest.raises(ValueError, match="positive everywhere"):
        CollocationPoints(points.x, -points.w)
    for bad in (jnp.nan, jnp.inf):
        with pytest.raises(ValueError, match=r"`x` has 1 non-finite .* at index \(3, 0\)"):
            CollocationPoints(points.x.at[3, 0].set(bad), points.w)
    with pytest.raises(ValueError, match="`w` has 1 non-finite"):
        CollocationPoints(points.x, points.w.at[2].set(jnp.inf))
    with jax.enable_x64(False), pytest.raises(ValueError, match="jax_enable_x64"):
        march(heat, start(), points, t1=1.0, dt=0.1)
