"""The Navier-Stokes right-hand side: exact products, conservation laws, symmetries, arguments."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.numerics import (
    divergence,
    fourier_resample,
    laplacian,
    relative_l2,
    spectral_derivative,
    stream_function,
    vorticity_from_velocity,
)
from sciml.problems import (
    ConvectionForm,
    NavierStokes2D,
    fno_forcing,
    gaussian_random_field,
    kolmogorov_forcing,
    solve,
    taylor_green_vorticity,
)

EXTENT = (2.0, 3.0)


def band_limited(n_points, seed=3307):
    """Noise of mean zero in the modes that the two-thirds rule keeps."""
    k = [(n - 1) // 3 for n in n_points]
    low = np.random.default_rng(seed).normal(size=(1, *(2 * m + 1 for m in k)))
    return fourier_resample(low - low.mean(), n_points)


@jax.jit
def tendency(problem, u):
    return problem.to_physical(problem.rhs(problem.to_spectral(u)))


@pytest.mark.parametrize("n_points", [(12, 15), (9, 8)])
@pytest.mark.parametrize("form", list(ConvectionForm))
def test_convective_term_is_the_projected_exact_product(n_points, form, x64):
    """Both forms against u . grad(vorticity) multiplied out on a grid that holds the product."""
    u = band_limited(n_points)
    problem = NavierStokes2D(n_points, viscosity=0.0, domain_extent=EXTENT, form=form)
    fine = tuple(4 * n for n in n_points)
    vorticity = fourier_resample(u, fine)
    velocity = problem.velocity(vorticity)
    product = sum(
        velocity[axis] * spectral_derivative(vorticity, EXTENT, axis)[0] for axis in range(2)
    )
    kept = tuple(2 * ((n - 1) // 3) + 1 for n in n_points)
    expected = -fourier_resample(fourier_resample(product[None], kept), n_points)
    np.testing.assert_allclose(tendency(problem, u), expected, atol=1e-11 * jnp.abs(expected).max())


@pytest.mark.parametrize("form", list(ConvectionForm))
def test_linear_part_and_forcing(form, x64):
    """Convection taken off, viscosity, drag and forcing are what is left."""
    n_points = (9, 10)
    u = band_limited(n_points)
    forcing = fno_forcing(n_points, EXTENT, amplitude=0.7)
    full = NavierStokes2D(
        n_points, viscosity=0.3, drag=0.2, domain_extent=EXTENT, forcing=forcing, form=form
    )
    convection = NavierStokes2D(n_points, viscosity=0.0, domain_extent=EXTENT, form=form)
    left = tendency(full, u) - tendency(convection, u)
    expected = 0.3 * laplacian(u, EXTENT) - 0.2 * u + forcing
    np.testing.assert_allclose(left, expected, atol=1e-11)
    np.testing.assert_allclose(full.forcing, forcing, atol=1e-15)
    assert convection.forcing is None


@pytest.mark.parametrize("form", list(ConvectionForm))
def test_convection_conserves_energy_enstrophy_and_mean(form, x64):
    n_points = (15, 12)
    problem = NavierStokes2D(n_points, viscosity=0.0, domain_extent=EXTENT, form=form)
    u = band_limited(n_points) + 0.8
    rate = tendency(problem, u)
    scale = float(jnp.abs(rate).max())
    assert scale > 0.1
    psi = stream_function(u, EXTENT)
    for test_function in (u, psi, jnp.ones_like(u)):
        size = float(jnp.abs(test_function).max())
        assert abs(float(jnp.mean(test_function * rate))) < 1e-14 * size * scale


def test_mean_vorticity_is_conserved_to_the_last_bit(x64):
    u = band_limited((8, 9)) + 0.3
    problem = NavierStokes2D((8, 9), viscosity=0.01, forcing=fno_forcing((8, 9)))
    end = solve(problem, u, dt=0.01, n_steps=20, save_every=20).value[-1]
    # Exact sums: those of a transform round as the compiler orders them.
    start, after = (math.fsum(np.ravel(field)) / 72 for field in (u, end))
    np.testing.assert_allclose(after, start, rtol=2e-16)


def test_inviscid_march_keeps_energy_to_the_order_of_the_stepper(x64):
    problem = NavierStokes2D((12, 12), viscosity=0.0, domain_extent=2 * np.pi)
    u = band_limited((12, 12))
    u = u / jnp.abs(problem.velocity(u)).max()

    def drift(dt):
        states = solve(problem, u, dt=dt, n_steps=round(1 / dt), save_every=round(1 / dt)).value
        energy = jnp.mean(problem.velocity(states) ** 2, axis=(1, 2, 3))
        enstrophy = jnp.mean(states**2, axis=(1, 2, 3))
        return np.array([abs(q[1] / q[0] - 1) for q in (energy, enstrophy)])

    coarse, fine = drift(0.1), drift(0.05)
    assert (fine < 2e-5).all()
    # Quadratic invariants are kept to order five by a fourth-order Runge-Kutta method.
    assert (coarse / fine > 2**3.7).all()


def test_translation_and_reflection_equivariance(x64):
    problem = NavierStokes2D((12, 12), viscosity=0.01)
    u = band_limited((12, 12))
    maps = {
        "translation": lambda w: jnp.roll(w, (3, 5), axis=(-2, -1)),
        "reflection in x": lambda w: -jnp.roll(w[..., ::-1, :], 1, axis=-2),
        "swap of x and y": lambda w: -jnp.swapaxes(w, -2, -1),
        "half turn": lambda w: jnp.roll(w[..., ::-1, ::-1], (1, 1), axis=(-2, -1)),
    }
    reference = tendency(problem, u)
    for name, transform in maps.items():
        np.testing.assert_allclose(
            tendency(problem, transform(u)), transform(reference), atol=1e-11, err_msg=name
        )


def test_kolmogorov_laminar_flow_is_a_fixed_point(x64):
    n_points, amplitude, viscosity, drag = (12, 16), 0.5, 0.05, 0.1
    forcing = kolmogorov_forcing(n_points, 2 * np.pi, amplitude=amplitude, wavenumber=4)
    problem = NavierStokes2D(
        n_points, viscosity=viscosity, drag=drag, domain_extent=2 * np.pi, forcing=forcing
    )
    y = 2 * np.pi * np.arange(16) / 16
    laminar = np.broadcast_to(
        -4 * amplitude / (16 * viscosity + drag) * np.cos(4 * y), (1, *n_points)
    )
    np.testing.assert_allclose(tendency(problem, jnp.asarray(laminar)), 0, atol=1e-13)
    # The forcing is the curl of the body force (A sin 4y, 0).
    force = np.zeros((2, *n_points))
    force[0] = amplitude * np.sin(4 * y)
    curl = vorticity_from_velocity(force, (2 * np.pi, 2 * np.pi))
    np.testing.assert_allclose(forcing, curl, atol=1e-13)


def test_taylor_green_has_no_convection_and_the_stated_speed(x64):
    u = taylor_green_vorticity((16, 20), (2.0, 3.0), wavenumber=2, amplitude=1.7)
    problem = NavierStokes2D((16, 20), viscosity=0.0, domain_extent=(2.0, 3.0))
    np.testing.assert_allclose(tendency(problem, u), 0, atol=1e-12)
    velocity = problem.velocity(u)
    np.testing.assert_allclose(jnp.abs(velocity).max(), 1.7, rtol=1e-12)
    np.testing.assert_allclose(divergence(velocity, (2.0, 3.0)), 0, atol=1e-12)


def test_convergence_in_space_is_spectral(x64):
    """Errors of the right-hand side of a smooth (analytic) field fall geometrically."""

    def field(n):
        x = 2 * np.pi * np.arange(n) / n
        u = np.exp(np.cos(x)[:, None] + np.sin(x)[None] + 0.3 * np.cos(x[:, None] + x[None]))
        return jnp.asarray(u - u.mean())[None]

    def rate(n):
        problem = NavierStokes2D((n, n), viscosity=0.1, domain_extent=2 * np.pi)
        return tendency(problem, field(n))

    reference = rate(64)
    errors = [
        float(jnp.abs(rate(n) - reference[:, :: 64 // n, :: 64 // n]).max()) for n in (16, 32)
    ]
    assert errors[1] < 1e-3 * errors[0]


def test_float32_forms_round_as_documented(x64):
    """The price of the Basdevant form: noise that grows with the wavenumber, in float32 only."""
    u = gaussian_random_field((96, 96), key=jax.random.key(871))
    errors = {}
    for form in ConvectionForm:
        problem = NavierStokes2D((96, 96), viscosity=0.0, form=form)
        exact = tendency(problem, u)
        single = tendency(problem, u.astype(jnp.float32))
        assert single.dtype == jnp.float32
        errors[form] = float(relative_l2(single.astype(jnp.float64), exact))
    assert errors[ConvectionForm.CONVECTIVE] < 1e-6
    assert errors[ConvectionForm.CONVECTIVE] < errors[ConvectionForm.BASDEVANT] < 2e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"viscosity": -1e-3}, "`viscosity` must be zero or positive"),
        ({"viscosity": float("nan")}, "`viscosity` must be zero or positive"),
        ({"drag": -0.1}, "`drag` must be zero or positive"),
        ({"domain_extent": 0.0}, "`domain_extent` must be positive"),
        ({"domain_extent": (1.0, 2.0, 3.0)}, "one number or 2 of them"),
        ({"n_points": (8,)}, "two numbers, for x and y"),
        ({"n_points": (8, 3)}, "`n_points` must be at least 4, got 3"),
        ({"forcing": jnp.ones((1, 8, 9))}, "axis 2 of `forcing` must have size 8"),
        ({"forcing": jnp.full((1, 8, 8), jnp.nan)}, "`forcing` has 64 non-finite entries"),
    ],
)
def test_bad_arguments_are_refused_at_construction(change, message):
    arguments = {"n_points": (8, 8), "viscosity": 1e-3, **change}
    with pytest.raises(ValueError, match=message):
        NavierStokes2D(arguments.pop("n_points"), **arguments)
