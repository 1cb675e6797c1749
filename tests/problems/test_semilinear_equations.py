"""Burgers, Kuramoto-Sivashinsky and Allen-Cahn: exact answers, invariants, growth bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.numerics import relative_l2
from sciml.numerics._fourier import scale
from sciml.problems import (
    AllenCahn,
    Burgers1D,
    KuramotoSivashinsky1D,
    NavierStokes2D,
    gaussian_random_field,
    solve,
)


def grid(n, length):
    return length * np.arange(n) / n


def cole_hopf(x, t, viscosity):
    """Exact solution of Burgers' equation with period 2 pi: u = -2 nu phi_x / phi."""
    decay = np.exp(-viscosity * t)
    return 2 * viscosity * decay * np.sin(x) / (3.0 + decay * np.cos(x))


def test_burgers_follows_cole_and_hopf(x64):
    x = grid(48, 2 * np.pi)
    problem = Burgers1D((48,), viscosity=0.3, domain_extent=2 * np.pi)
    start = jnp.asarray(cole_hopf(x, 0.0, 0.3)[None])
    end = solve(problem, start, dt=0.02, n_steps=50, save_every=50).value[-1]
    assert relative_l2(end, jnp.asarray(cole_hopf(x, 1.0, 0.3)[None])) < 1e-9


def test_burgers_conserves_energy_without_viscosity(x64):
    problem = Burgers1D((33,), viscosity=0.0)
    u_hat = problem.to_spectral(jnp.asarray(np.random.default_rng(7).normal(size=(1, 33))))
    # The modes beyond the dealiased third take no part in convection.
    tendency = problem.to_physical(problem.nonlinear_term(u_hat))
    assert abs(float(jnp.sum(tendency * problem.to_physical(u_hat)))) < 1e-10
    assert abs(float(jnp.sum(tendency))) < 1e-10


def test_burgers_forcing(x64):
    """With u u_x = f and diffusion balanced, a forced state stands still."""
    x = grid(24, 2 * np.pi)
    forcing = np.sin(x) * np.cos(x) + 0.2 * np.sin(x)
    problem = Burgers1D((24,), viscosity=0.2, domain_extent=2 * np.pi, forcing=forcing[None])
    np.testing.assert_allclose(problem.forcing[0], forcing, atol=1e-14)
    u = jnp.asarray(np.sin(x)[None])
    np.testing.assert_allclose(problem.rhs(problem.to_spectral(u)), 0.0, atol=1e-13)


def test_kuramoto_sivashinsky_linear_growth(x64):
    """Small waves grow at k^2 - k^4; the fastest is the one nearest to k^2 = 1/2."""
    problem = KuramotoSivashinsky1D((32,), domain_extent=22.0)
    for mode in (1, 2, 5):
        k = 2 * np.pi * mode / 22.0
        wave = jnp.asarray(1e-8 * np.cos(k * grid(32, 22.0))[None])
        end = solve(problem, wave, dt=0.1, n_steps=10, save_every=10).value[-1]
        np.testing.assert_allclose(end, np.exp(k**2 - k**4) * wave, rtol=1e-5, atol=1e-14)


def test_kuramoto_sivashinsky_stays_bounded(x64):
    problem = KuramotoSivashinsky1D((64,), domain_extent=22.0)
    start = jnp.asarray(np.cos(2 * np.pi * grid(64, 22.0) / 22.0)[None])
    values = solve(problem, start, dt=0.1, n_steps=2000, save_every=500).value
    assert 0.5 < float(jnp.abs(values[-1]).max()) < 5
    np.testing.assert_allclose(jnp.mean(values[-1]), jnp.mean(start), atol=1e-10)


def test_allen_cahn_wall_stands_still(x64):
    """A pair of walls far apart: u = tanh(x / (sqrt 2 eps)) solves the equation."""
    x = grid(128, 2.0) - 1.0
    width = 0.05
    profile = np.tanh((x + 0.5) / (np.sqrt(2) * width)) * np.tanh((0.5 - x) / (np.sqrt(2) * width))
    problem = AllenCahn((128,), interface_width=width, domain_extent=2.0)
    start = jnp.asarray(profile[None])
    end = solve(problem, start, dt=0.05, n_steps=40, save_every=40).value[-1]
    np.testing.assert_allclose(end, start, atol=1e-4)


def test_allen_cahn_loses_energy(getkey, x64):
    problem = AllenCahn((16, 16), interface_width=0.08)
    start = 0.3 * gaussian_random_field((16, 16), key=getkey())
    values = solve(problem, start, dt=0.05, n_steps=40, save_every=4).value

    def energy(u):
        gradient = -problem.to_physical(
            scale(problem.linear_symbol(u.dtype), problem.to_spectral(u))
        )
        return float(jnp.mean(0.5 * u * gradient + 0.25 * u**4))

    energies = [energy(u) for u in values]
    assert all(np.diff(energies) < 0)
    assert float(jnp.abs(values[-1]).max()) <= 1.0


PROBLEMS = {
    "Burgers1D": lambda: Burgers1D((32,), viscosity=0.01),
    "KuramotoSivashinsky1D": lambda: KuramotoSivashinsky1D((32,), domain_extent=22.0),
    "AllenCahn": lambda: AllenCahn((16, 15), interface_width=0.1),
    "NavierStokes2D": lambda: NavierStokes2D((16, 15), viscosity=1e-3, domain_extent=(1.0, 2.0)),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_growth_bounds_the_nonlinear_term(name, x64):
    """<N(u + e) - N(u), e> <= g |e|^2 for states and differences of every kind."""
    problem = PROBLEMS[name]()
    rng = np.random.default_rng(31)
    shape = (1, *problem.n_points)

    @jax.jit
    def rate(u, e):
        u_hat, e_hat = problem.to_spectral(u), problem.to_spectral(e)
        change = problem.nonlinear_term(u_hat + e_hat) - problem.nonlinear_term(u_hat)
        inner = jnp.sum(problem.to_physical(change) * e) / jnp.sum(e**2)
        return inner, problem.nonlinear_growth(u_hat)

    smooth = jnp.asarray(np.cos(2 * np.pi * np.indices(shape)[-1] / shape[-1]))
    worst = -np.inf
    for size in (1e-3, 1.0, 30.0):
        for u in (smooth, smooth + 0.2 * rng.normal(size=shape)):
            e = jnp.asarray(size * rng.normal(size=shape))
            inner, growth = rate(u, e)
            assert inner <= growth + 1e-12
            worst = max(worst, float(inner / growth)) if growth > 0 else worst
    # The bound says something: some difference reaches a fraction of it.
    assert name in ("AllenCahn", "NavierStokes2D") or worst > 0.02


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Burgers1D((8, 8), viscosity=0.1), "one number"),
        (lambda: Burgers1D((3,), viscosity=0.1), "at least 4"),
        (lambda: Burgers1D((8,), viscosity=-0.1), "viscosity"),
        (lambda: Burgers1D((8,), viscosity=0.1, forcing=np.ones((1, 9))), "forcing"),
        (lambda: KuramotoSivashinsky1D((8, 8)), "one number"),
        (lambda: AllenCahn((8,), interface_width=0.0), "interface_width"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
