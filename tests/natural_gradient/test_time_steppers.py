"""Implicit, split and multistep steppers on a model linear in its parameters: orders, estimates."""

import math

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.natural_gradient import (
    AdamsBashforth,
    BackwardDifferentiation,
    CollocationPoints,
    DampedGaussNewton,
    DiagonallyImplicit,
    ImplicitExplicit,
    derivative,
    laplacian,
    march,
)
from sciml.natural_gradient._tableau import RK4, from_diffrax

pytestmark = pytest.mark.usefixtures("x64")

EXACT = DampedGaussNewton(rho=1e-6, rho_min=1e-8, chords=3)
K = np.array([0, 1, 2, 1, 2])


class Fourier(eqx.Module):
    """Two modes: linear in its parameters, closed under derivatives."""

    c: jax.Array

    def __call__(self, x):
        k = jnp.arange(1.0, 3.0)
        return self.c @ jnp.concatenate([jnp.ones(1), jnp.cos(k * x[0]), jnp.sin(k * x[0])])


def start():
    return Fourier(jnp.asarray([0.3, 1.0, -0.5, 0.7, 0.1]))


def diffusion(t, x, u):
    return 0.3 * laplacian(u)(x)


def whole(t, x, u):
    """Diffusion, and growth that rises with time."""
    return diffusion(t, x, u) + t * u(x)


def exact(t):
    return np.asarray(start().c) * np.exp(-0.3 * K**2 * t + t**2 / 2)


STEPPERS = {
    "sdirk2": (DiagonallyImplicit(), 2),
    "kvaerno3": (DiagonallyImplicit(diffrax.Kvaerno3.tableau), 3),
    "ars": (ImplicitExplicit(diffusion), 2),
    "kencarp3": (ImplicitExplicit(diffusion, diffrax.KenCarp3.tableau), 3),
    "ab3": (AdamsBashforth(3), 3),
    "bdf1": (BackwardDifferentiation(1), 1),
    "bdf3": (BackwardDifferentiation(3), 3),
}


@pytest.mark.parametrize("name", STEPPERS)
def test_order_and_error_estimate(name):
    stepper, order = STEPPERS[name]
    errors, bounds = [], []
    points = CollocationPoints.grid(8, 1)
    for n in (8, 16):
        run = march(
            whole, start(), points, t1=0.8, dt=0.8 / n, stepper=stepper, inner=EXACT,
            growth_rate=0.8,
        )  # fmt: skip
        errors.append(np.linalg.norm(np.asarray(run.value.c) - exact(0.8)))
        bounds.append(run.stats["error_bound"])
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.35)
    # L2 on the circle: at most sqrt(2 pi) times the coefficients, at least sqrt(pi) times.
    assert all(math.sqrt(math.pi) * e < 2 * b for e, b in zip(errors, bounds, strict=True))
    assert run.stats["overfitted"] == 0
    # The last step is shorter.
    run = march(whole, start(), points, t1=0.77, dt=0.05, stepper=stepper, inner=EXACT)
    assert np.linalg.norm(np.asarray(run.value.c) - exact(0.77)) < 2 * errors[1]


def test_stiff_diffusion_in_large_steps():
    """Explicit steps of this size multiply the second mode by 78 each."""

    def stiff(t, x, u):
        return 5.0 * laplacian(u)(x)

    points = CollocationPoints.grid(8, 1)
    for stepper in (ImplicitExplicit(stiff), BackwardDifferentiation(2)):
        run = march(stiff, start(), points, t1=2.0, dt=0.25, stepper=stepper, inner=EXACT)
        assert np.abs(run.value.c[0] - 0.3) < 1e-8
        assert np.max(np.abs(run.value.c[1:])) < 0.02


def test_orders_read_from_tableaus():
    found = {
        t: from_diffrax(getattr(diffrax, t).tableau).error_order
        for t in ("Heun", "Bosh3", "Tsit5", "Kvaerno3")
    }
    assert found == {"Heun": 2, "Bosh3": 3, "Tsit5": 5, "Kvaerno3": 3}
    assert RK4.error_order == 5


def test_a_system_and_three_dimensions():
    class Wave(eqx.Module):
        c: jax.Array

        def __call__(self, x):
            return self.c @ jnp.stack([jnp.cos(x[0]), jnp.sin(x[0])])

    def waves(t, x, u):
        return jnp.stack([u(x)[1], derivative(lambda y: u(y)[0], 0, 2)(x)])

    first = Wave(jnp.asarray([[1.0, 0.0], [0.0, 2.0]]))
    run = march(waves, first, CollocationPoints.grid(6, 1), t1=1.0, dt=0.05, inner=EXACT)
    c, s = math.cos(1.0), math.sin(1.0)
    np.testing.assert_allclose(run.value.c, [[c, 2 * s], [-s, 2 * c]], atol=1e-6)

    class Product(eqx.Module):
        c: jax.Array

        def __call__(self, x):
            return self.c * jnp.sin(x[0]) * jnp.cos(x[1]) * jnp.sin(2 * x[2])

    run = march(
        diffusion, Product(jnp.ones(())), CollocationPoints.grid(5, 3), t1=0.2, dt=0.05,
        inner=EXACT,
    )  # fmt: skip
    assert float(run.value.c) == pytest.approx(math.exp(-0.3 * 6 * 0.2), abs=1e-6)


def test_what_a_stepper_refuses():
    with pytest.raises(ValueError, match="`Explicit`"):
        DiagonallyImplicit(diffrax.Heun.tableau)
    with pytest.raises(ValueError, match="a pair"):
        ImplicitExplicit(diffusion, (RK4, RK4))
    with pytest.raises(ValueError, match="at most 3"):
        BackwardDifferentiation(4)
    with pytest.raises(ValueError, match="Butcher tableau"):
        DiagonallyImplicit("SDIRK2")
    with pytest.raises(TypeError, match="stepper"):
        march(whole, start(), CollocationPoints.grid(8, 1), t1=1.0, dt=0.1, stepper=RK4)
