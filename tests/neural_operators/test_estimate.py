"""The a posteriori estimate: honest where the published residual is blind."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import spearmanr

from sciml.neural_operators import (
    FiniteDifferenceResidual,
    SolverDefectResidual,
    estimate,
    refine,
)
from sciml.numerics import sobolev_norm
from sciml.problems import (
    AllenCahn,
    Burgers1D,
    IMEXCrankNicolson,
    KuramotoSivashinsky1D,
    NavierStokes2D,
    fno_forcing,
    gaussian_random_field,
    solve,
)

DT = 0.1
N_POINTS = (16, 15)


@functools.cache
def flow():
    problem = NavierStokes2D(N_POINTS, viscosity=0.01, forcing=fno_forcing(N_POINTS))
    start = gaussian_random_field(N_POINTS, key=jax.random.key(3))
    u = solve(problem, start, dt=DT / 10, n_steps=220, save_every=10).value[10:]
    return problem, u[:5], u[5:13]


def perturbations(inputs, truth):
    """Wrong trajectories of many kinds and sizes, each zero error at the start or not."""
    rng = np.random.default_rng(17)
    ramp = (jnp.arange(1, len(truth) + 1) / len(truth)).reshape(-1, *(1,) * (truth.ndim - 1))
    frozen = jnp.broadcast_to(inputs[-1], truth.shape)
    for size in (1e-4, 1e-3, 1e-2, 0.1, 0.5):
        yield truth + size * (frozen - truth)
        yield truth * (1 + size * ramp)
        yield truth + size * ramp * jnp.roll(truth, 3, axis=-1)
        yield truth + size * jnp.asarray(rng.normal(size=truth.shape))


@functools.cache
def estimates():
    problem, inputs, truth = flow()
    call = jax.jit(lambda u: estimate(u, inputs, problem, dt=DT, truth=truth))
    return [jax.device_get(call(u)) for u in perturbations(inputs, truth)]


def test_estimate_follows_the_error(x64):
    found = estimates()
    errors = [e.true_error for e in found]
    assert spearmanr([e.eta for e in found], errors).statistic > 0.7
    assert spearmanr([e.error for e in found], errors).statistic > 0.95
    assert all(0.1 < e.effectivity < 10 for e in found)


def test_bound_is_never_violated(x64):
    problem, inputs, truth = flow()
    for u, found in zip(perturbations(inputs, truth), estimates(), strict=True):
        errors = sobolev_norm(u - truth, problem.domain_extent)[:, 0]
        assert np.all(np.asarray(errors) <= found.bound)


@pytest.mark.parametrize("name", ["Burgers1D", "KuramotoSivashinsky1D", "AllenCahn"])
def test_bound_of_other_equations(name, x64):
    problem, dt = {
        "Burgers1D": (Burgers1D((32,), viscosity=0.05), 0.02),
        "KuramotoSivashinsky1D": (KuramotoSivashinsky1D((32,), domain_extent=22.0), 0.2),
        "AllenCahn": (AllenCahn((32,), interface_width=0.08), 0.1),
    }[name]
    x = 2 * np.pi * np.arange(32) / 32
    start = jnp.asarray((0.5 * np.sin(x) + 0.3 * np.cos(2 * x))[None])
    u = solve(problem, start, dt=dt / 10, n_steps=120, save_every=10).value
    inputs, truth = u[:5], u[5:]
    call = jax.jit(lambda v: estimate(v, inputs, problem, dt=dt, truth=truth))
    for v in perturbations(inputs, truth):
        errors = np.asarray(sobolev_norm(v - truth, problem.domain_extent)[:, 0])
        bound = np.asarray(call(v).bound)
        assert np.all(errors <= bound)
        assert bound[0] < 1e3 * max(errors[0], 1e-6)


@pytest.mark.parametrize("unit", [1e-8, 1e10])
def test_estimates_of_float32_know_no_unit_of_length(unit):
    def relative(length):
        problem = Burgers1D((16,), viscosity=0.05 * length**2, domain_extent=length)
        start = (length * np.sin(2 * np.pi * np.arange(16) / 16))[None].astype(np.float32)
        u = solve(problem, start, dt=0.01, n_steps=24, save_every=3).value
        found = estimate(1.01 * u[5:], u[:5], problem, dt=0.03, truth=u[5:])
        return found.relative_eta, found.relative_error, found.effectivity, found.relative_bound

    np.testing.assert_allclose(relative(unit), relative(1.0), rtol=1e-3)


def test_a_time_without_residual_does_not_hide_the_others():
    problem = Burgers1D((16,), viscosity=5e-10, domain_extent=1e-4)
    wave = np.sin(2 * np.pi * np.arange(16) / 16)[None].astype(np.float32)
    # Zero solves the equation; what begins in the last intervals does not.
    sizes = np.array([0, 0, 0, 0, 0, 0, 0, 0, 1, 2], np.float32)
    u = np.float32(1e-22) * sizes[:, None, None] * wave
    bound = np.asarray(estimate(u[3:], u[:3], problem, dt=0.03).bound)
    assert bound[0] == 0
    assert bound[-1] > 1e-27


def test_it_is_small_for_solutions_and_large_for_noise(x64):
    problem, inputs, truth = flow()
    noise = jnp.asarray(np.random.default_rng(1).normal(size=truth.shape))
    frozen = jnp.broadcast_to(inputs[-1], truth.shape)
    fields = {"truth": truth, "noise": noise, "frozen": frozen, "off": 1.02 * truth}
    relative = {
        name: float(estimate(u, inputs, problem, dt=DT).relative_eta) for name, u in fields.items()
    }
    assert relative["truth"] < 1e-4 < 100 * relative["truth"] < relative["off"]
    assert relative["off"] < 0.5 * relative["frozen"] < relative["noise"]


def published_residual(problem, u, delta=1e-6):
    """The formula of the published code: each snapshot is differentiated against itself."""
    stepper = IMEXCrankNicolson()

    def residual(u):
        u_hat = problem.to_spectral(u)
        ahead, behind = (
            stepper.step(problem, stepper.prepare(problem, h, u.dtype), u_hat)
            for h in (delta, -delta)
        )
        middle = 0.5 * (ahead + behind)
        return problem.to_physical((ahead - behind) / (2 * delta) - problem.rhs(middle))

    residuals = jax.vmap(residual)(u)
    return float(jnp.sqrt(jnp.sum(sobolev_norm(residuals, problem.domain_extent, -1) ** 2)))


def test_the_published_residual_is_blind(x64):
    """It cannot tell the truth from white noise; ours can, by orders of magnitude."""
    problem, inputs, truth = flow()
    noise = jnp.asarray(np.random.default_rng(1).normal(size=truth.shape))
    frozen = jnp.broadcast_to(inputs[-1], truth.shape)
    scale = float(estimate(frozen, inputs, problem, dt=DT).eta)
    for wrong in (noise, frozen, 2.0 * truth):
        assert published_residual(problem, wrong) < 1e-4 * scale
        assert float(estimate(wrong, inputs, problem, dt=DT).eta) > 0.5 * scale


def test_norms_by_hand(x64):
    """A residual known in closed form: u_t = 1 for a field that should decay."""
    problem = AllenCahn((8,), interface_width=0.1)
    t = DT * jnp.arange(-2.0, 4.0)
    u = (2.0 + t)[:, None, None] * jnp.ones((1, 1, 8))
    found = estimate(u[3:], u[:3], problem, dt=DT, residual=FiniteDifferenceResidual(2))
    values = u[3:, 0, 0]
    expected = jnp.abs(1 - values + values**3) / (2 * np.pi)
    np.testing.assert_allclose(found.eta_t, expected, rtol=1e-10)
    np.testing.assert_allclose(found.eta, jnp.sqrt(DT * jnp.sum(expected**2)), rtol=1e-10)
    np.testing.assert_allclose(found.times, DT * np.arange(1, 4))
    np.testing.assert_allclose(
        found.residual, (1 - values + values**3)[:, None, None] * jnp.ones((1, 1, 8)), rtol=1e-10
    )
    assert np.isnan(found.true_error)
    assert np.isnan(found.effectivity)


def test_effectivity_of_a_refined_trajectory(x64):
    """What is left after refinement is the residual's own error, and is estimated as such."""
    problem, inputs, truth = flow()
    refined = refine(truth, inputs, problem, dt=DT).value
    found = estimate(
        refined, inputs, problem, dt=DT, residual=SolverDefectResidual(substeps=4), truth=truth
    )
    assert 0.2 < float(found.effectivity) < 5


def test_gradient_and_vmap(x64):
    problem, inputs, truth = flow()

    def eta(u):
        return estimate(u, inputs, problem, dt=DT).eta

    u = 1.1 * truth
    direction = jnp.asarray(np.random.default_rng(4).normal(size=truth.shape))
    slope = jnp.sum(jax.grad(eta)(u) * direction)
    step = 1e-6
    difference = (eta(u + step * direction) - eta(u - step * direction)) / (2 * step)
    np.testing.assert_allclose(slope, difference, rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(eta)(jnp.stack([u, truth])), [eta(u), eta(truth)])


def test_a_flow_at_rest(x64):
    """Nothing moves: no residual, no error, and no NaN."""
    rest = jnp.zeros((4, 1, 32))
    found = estimate(rest, rest, Burgers1D((32,), viscosity=0.05), dt=DT, truth=rest)
    assert found.relative_eta == found.relative_error == found.effectivity == 0
    moving = estimate(rest + 1e-3, rest, Burgers1D((32,), viscosity=0.05), dt=DT)
    assert jnp.isinf(moving.relative_eta)
    assert refine(rest, rest, Burgers1D((32,), viscosity=0.05), dt=DT).stats["relative_eta"] == 0


def test_float32(x64):
    problem, inputs, truth = flow()
    double = float(estimate(1.05 * truth, inputs, problem, dt=DT).relative_eta)
    prediction, known = (np.asarray(u, np.float32) for u in (1.05 * truth, inputs))
    with jax.enable_x64(False):
        problem = NavierStokes2D(N_POINTS, viscosity=0.01, forcing=fno_forcing(N_POINTS))
        single = estimate(prediction, known, problem, dt=DT)
        assert single.eta.dtype == jnp.float32
        assert float(single.relative_eta) == pytest.approx(double, rel=1e-3)


def test_bad_input(x64):
    problem, inputs, truth = flow()
    with pytest.raises(ValueError, match="shape of `prediction`"):
        estimate(truth, inputs, problem, dt=DT, truth=truth[:3])
    with pytest.raises(ValueError, match="axis 1 of `prediction`"):
        estimate(jnp.concatenate([truth, truth], axis=1), inputs, problem, dt=DT)
    with pytest.raises(ValueError, match="need 5 snapshots"):
        estimate(truth[:2], inputs[:1], problem, dt=DT)
    with pytest.raises(TypeError, match="problem"):
        estimate(truth, inputs, NavierStokes2D, dt=DT)
