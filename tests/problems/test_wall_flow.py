"""Flows between walls against what is known of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.core import is_successful
from sciml.problems import ChannelFlow, Disc, LidDrivenCavity, march_flow
from sciml.problems._dense_poisson import DensePoisson, dirichlet_modes, open_modes


def divergence(frame, spacing):
    hy, hx = spacing
    u, v = np.asarray(frame, np.float64)
    across = (u[1:-1, 2:] - u[1:-1, :-2]) / (2 * hx)
    return across + (v[2:, 1:-1] - v[:-2, 1:-1]) / (2 * hy)


@pytest.fixture(scope="module")
def cavity():
    flow = LidDrivenCavity((33, 33), viscosity=0.01)
    return flow, march_flow(flow, dt=4.0, n_frames=4)


def test_poisson_inverts_the_five_point_laplacian(x64):
    solve = DensePoisson(dirichlet_modes(7, 0.1), open_modes(9, 0.2))
    f = jax.random.normal(jax.random.key(3), (7, 9))
    full = jnp.pad(solve(f), ((1, 1), (1, 0)))
    full = jnp.concatenate([full, full[:, -2:-1]], axis=1)  # no slope at the outlet
    inner = full[1:-1, 1:-1]
    laplacian = (full[2:, 1:-1] - 2 * inner + full[:-2, 1:-1]) / 0.1**2
    laplacian = laplacian + (full[1:-1, 2:] - 2 * inner + full[1:-1, :-2]) / 0.2**2
    assert jnp.allclose(laplacian, f, atol=1e-10)


def test_cavity_at_reynolds_100_has_the_published_extremes(cavity):
    _, solution = cavity
    u, v = np.asarray(solution.value[-1])
    assert abs(u[:, 16].min() / -0.21090 - 1) < 0.03  # Ghia et al. 1982
    assert abs(v[16].max() / 0.17527 - 1) < 0.03
    assert is_successful(solution.result)
    assert float(solution.stats["rate_of_change"]) < 1e-3


def test_cavity_keeps_its_boundary_and_has_no_divergence(cavity):
    flow, solution = cavity
    frames = np.asarray(solution.value)
    assert np.all(frames[:, 0, -1, 1:-1] == 1)
    for wall in (frames[:, :, 0], frames[:, :, :, 0], frames[:, :, :, -1], frames[:, 1, -1]):
        assert np.all(wall == 0)
    assert np.abs(divergence(frames[-1], flow.spacing)).max() < 1e-3
    assert np.all(frames[0, :, 1:-1] == 0)


def test_cavity_scales_with_its_units():
    small = march_flow(LidDrivenCavity((17, 17), viscosity=0.01), dt=0.5, n_frames=2)
    flow = LidDrivenCavity((17, 17), viscosity=0.01 * 3, lid=3.0)
    large = march_flow(flow, dt=0.5 / 3.0, n_frames=2)
    assert flow.reynolds == pytest.approx(100)
    assert np.allclose(large.value, 3 * small.value, atol=1e-4)


def test_channel_ends_in_a_parabola():
    flow = ChannelFlow((17, 41), viscosity=0.02, domain_extent=(1.0, 4.0))
    frame = np.asarray(march_flow(flow, dt=4.0, n_frames=3).value[-1])
    y, _ = flow.positions()
    assert np.abs(frame[0, :, -1] - 6 * y * (1 - y)).max() < 0.02 * 1.5
    flux = np.trapezoid(frame[0], y, axis=0)
    assert np.allclose(flux[1:], 1, atol=0.05)
    assert np.abs(divergence(frame, flow.spacing)[:, 1:]).max() < 1e-3


def test_the_fluid_stands_still_in_the_obstacle():
    disc = Disc((0.5, 0.6), 0.15)
    flow = ChannelFlow((33, 65), viscosity=0.01, domain_extent=(1.0, 2.0), obstacle=disc)
    frame = np.asarray(march_flow(flow, dt=0.5, n_frames=2).value[-1])
    covered = disc.covers(*flow.positions()) > 0
    core = Disc(disc.centre, 0.1).covers(*flow.positions()) > 0
    assert np.abs(frame[:, core]).max() < 0.2
    assert np.hypot(*frame)[~covered].max() > 1.2
    area = covered.mean() * 2
    assert abs(area - np.pi * 0.15**2) < 0.01
    assert flow.reynolds == pytest.approx(30)


def test_a_blow_up_is_reported():
    flow = LidDrivenCavity((17, 17), viscosity=0.5)
    failed = march_flow(flow, dt=1.0, n_frames=2, substeps=1, throw=False)
    assert not is_successful(failed.result)
    with pytest.raises(RuntimeError, match="blew up"):
        march_flow(flow, dt=1.0, n_frames=2, substeps=1)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LidDrivenCavity((3, 9), viscosity=0.1), "at least 5"),
        (lambda: LidDrivenCavity((9,), viscosity=0.1), "two numbers"),
        (lambda: LidDrivenCavity((9, 9), viscosity=0.0), "must be positive"),
        (lambda: ChannelFlow((9, 9), viscosity=0.1, inlet=-1.0), "must be positive"),
        (lambda: Disc((0.5, 0.5), 0.0), "must be positive"),
        (
            lambda: ChannelFlow((9, 9), viscosity=0.1, obstacle=Disc((0.1, 1.0), 0.3)),
            "inside the channel",
        ),
    ],
)
def test_bad_arguments(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_other_problems_are_refused():
    with pytest.raises(TypeError):
        march_flow(jnp.sin, dt=0.1, n_frames=1)


def test_substeps_that_depend_on_a_traced_viscosity_are_asked_for():
    def run(viscosity):
        flow = LidDrivenCavity((5, 5), viscosity=viscosity)
        return march_flow(flow, dt=0.01, n_frames=1).value

    with pytest.raises(ValueError, match="give `substeps`"):
        jax.eval_shape(run, jnp.ones(()))
