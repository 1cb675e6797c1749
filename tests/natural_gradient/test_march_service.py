"""Around a march: points drawn anew, alarms, inner solvers, checkpoints, progress, devices."""

import io
import math
import os
import subprocess
import sys

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

import sciml
from sciml.core import RESULTS
from sciml.natural_gradient import (
    AdamsBashforth,
    CollocationPoints,
    DampedGaussNewton,
    Explicit,
    ForwardEuler,
    GramForm,
    PeriodicMLP,
    ProgressMeter,
    RandomPoints,
    RandomSubsets,
    laplacian,
    march,
)

pytestmark = pytest.mark.usefixtures("x64")

EXACT = {"rho": 1e-6, "rho_min": 1e-8}
BY_QR = DampedGaussNewton(**EXACT, linear_solver=lx.QR())
# Two stages are unrolled, where the four of the default cost twice as much to compile.
HEUN = Explicit(diffrax.Heun.tableau)


class Fourier(eqx.Module):
    """Two modes: linear in its parameters, closed under derivatives."""

    c: jax.Array

    def __call__(self, x):
        k = jnp.arange(1.0, 3.0)
        return self.c @ jnp.concatenate([jnp.ones(1), jnp.cos(k * x[0]), jnp.sin(k * x[0])])


def start():
    return Fourier(jnp.asarray([0.3, 1.0, -0.5, 0.7, 0.1]))


def heat(t, x, u):
    return 0.3 * laplacian(u)(x)


def heun(t, n):
    z = -0.3 * np.array([0, 1, 2, 1, 2]) ** 2 * t / n
    return np.array([0.3, 1.0, -0.5, 0.7, 0.1]) * (1 + z + z**2 / 2) ** n


@pytest.fixture(scope="module")
def points():
    with jax.enable_x64(True):
        return CollocationPoints.grid(9, 1)


@pytest.mark.parametrize(
    "inner",
    [
        BY_QR,
        DampedGaussNewton(**EXACT, linear_solver=lx.LU()),
        DampedGaussNewton(**EXACT, form=GramForm.kernel),
        RandomSubsets(5, iterations=2),
    ],
    ids=["qr", "lu", "kernel", "lstsq"],
)
def test_inner_solvers_agree(inner, points):
    run = march(heat, start(), points, t1=0.2, dt=0.1, stepper=HEUN, inner=inner)
    np.testing.assert_allclose(run.value.c, heun(0.2, 2), atol=1e-8)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_points_drawn_anew(momentum):
    inner = DampedGaussNewton(**EXACT, chords=5, momentum=momentum)
    sampler = RandomPoints(24, 1, quasi=momentum == 0)
    settings = {"t1": 0.4, "dt": 0.1, "stepper": HEUN, "inner": inner}
    run, again = (march(heat, start(), sampler, key=jax.random.key(9), **settings) for _ in "ab")
    np.testing.assert_allclose(run.value.c, heun(0.4, 4), atol=1e-6)
    np.testing.assert_array_equal(run.value.c, again.value.c)
    with pytest.raises(ValueError, match="`key`"):
        march(heat, start(), sampler, **settings)


def test_quasi_random_points_integrate_better(getkey):
    def miss(make):
        p = make(256, 2, key=getkey())
        found = p.w @ jnp.cos(p.x[:, 0] + p.x[:, 1]) ** 2
        return abs(float(found) - 2 * np.pi**2)

    ours = np.mean([miss(CollocationPoints.quasi_random) for _ in range(4)])
    assert ours < 0.3 * np.mean([miss(CollocationPoints.random) for _ in range(4)])


def test_points_between_points(getkey):
    grid = CollocationPoints.grid(6, 2)
    between = grid.between(20)
    assert len(between.x) <= 20
    assert float(jnp.sum(between.w)) == pytest.approx(float(jnp.sum(grid.w)))
    distance = jnp.min(jnp.linalg.norm(between.x[:, None] - grid.x[None], axis=-1), axis=1)
    np.testing.assert_allclose(distance, np.pi / 6, rtol=1e-12)
    line = CollocationPoints.grid(500, 1)
    some = line.between(256)
    assert len(some.x) == 256
    # None of the domain is left out: gaps are some spacings long.
    assert float(jnp.max(jnp.diff(some.x[:, 0]))) < 15 * 2 * np.pi / 500
    assert float(some.x.max()) > 2 * np.pi * 0.98
    inside = CollocationPoints.random(50, 3, key=getkey()).between().x
    assert float(inside.min()) > 0
    assert float(inside.max()) < 2 * np.pi


def test_a_fit_that_is_good_on_its_points_only():
    """As many modes as points: what the points do not see is reported and counted."""

    class Many(eqx.Module):
        c: jax.Array

        def __call__(self, x):
            k = jnp.arange(1.0, 8.0)
            return self.c @ jnp.concatenate([jnp.cos(k * x[0]), jnp.sin(k * x[0])])

    def steepen(t, x, u):
        return u(x) ** 3

    first = Many(jnp.zeros(14).at[1].set(1.0))
    few = CollocationPoints.grid(7, 1)
    run = march(steepen, first, few, t1=0.05, dt=0.05, stepper=HEUN, throw=False)
    assert run.stats["off_grid_residual"][0] > 1e3 * run.stats["fit_residual"][0]
    assert run.stats["overfitted"] == 1
    assert run.stats["error_bound"] >= run.stats["off_grid_residual"][0]


@pytest.mark.parametrize("is_adaptive", [False, True])
def test_a_checkpoint_goes_on_as_if_nothing_had_happened(points, tmp_path, is_adaptive):
    network = PeriodicMLP(1, width=5, depth=1, key=jax.random.key(3))
    settings = {"t1": 0.1, "dt": 0.02, "saveat": (0.03, 0.1), "initial_error": 1e-3, "throw": False}
    settings |= {"stepper": HEUN}
    if is_adaptive:
        settings |= {"dt": 0.01, "atol": 1e-5}
    grid = CollocationPoints.grid(24, 1)
    whole = march(heat, network, grid, **settings)
    folder = tmp_path / "march"
    settings |= {"checkpoint": folder, "resume": True}
    first = march(heat, network, grid, max_steps=2, **settings)
    assert first.result == RESULTS.march_step_limit
    stored = sciml.load(folder, like=network)
    assert jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(a, b), stored, first.value))
    rest = march(heat, network, grid, **settings)
    assert bool(rest.result == RESULTS.successful)
    assert rest.stats["ts"] == whole.stats["ts"]
    if is_adaptive:
        assert len(set(whole.stats["dt"])) > 2
        assert rest.stats["dt"] == pytest.approx(whole.stats["dt"], rel=1e-6)
    else:
        assert rest.stats["dt"] == whole.stats["dt"]
    assert rest.stats["error_bound"] == pytest.approx(whole.stats["error_bound"], rel=1e-6)
    for ours, theirs in zip(rest.stats["networks"], whole.stats["networks"], strict=True):
        # The field: parameters that it hardly depends on may differ by more than it does.
        field, other = (jax.vmap(network)(points.x) for network in (ours, theirs))
        np.testing.assert_allclose(field, other, rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="another network"):
        march(heat, start(), points, **settings)
    with pytest.raises(ValueError, match="`checkpoint`"):
        march(heat, start(), points, t1=1.0, dt=0.1, resume=True)


def test_a_checkpoint_takes_new_steps_and_keeps_no_times_behind_it(points, tmp_path):
    settings = {"stepper": HEUN, "inner": BY_QR, "checkpoint": tmp_path / "march"}
    march(heat, start(), points, t1=0.2, dt=0.1, **settings)
    run = march(heat, start(), points, t1=0.4, dt=0.05, resume=True, **settings)
    np.testing.assert_allclose(run.stats["dt"], [0.1, 0.1, 0.05, 0.05, 0.05, 0.05])
    with pytest.raises(ValueError, match=r"has passed 0\.3 and is at t = 0\.4"):
        march(heat, start(), points, t1=0.5, dt=0.1, saveat=(0.3,), resume=True, **settings)
    with pytest.raises(ValueError, match=r"has passed 0\.3 "):
        march(heat, start(), points, t1=0.3, dt=0.1, resume=True, **settings)


def test_a_start_at_zero(points):
    """The network is nothing yet: its size is that of the first step."""
    zero = eqx.tree_at(lambda f: f.c, start(), jnp.zeros_like(start().c))
    run = march(lambda t, x, u: jnp.sin(x[0]), zero, points, t1=0.2, dt=0.1, inner=BY_QR)
    np.testing.assert_allclose(run.value(jnp.full(1, 0.7)), 0.2 * math.sin(0.7), atol=1e-8)


def test_times_that_are_equal_up_to_rounding(points):
    times = (0.3, 0.1 * 3)
    run = march(
        heat, start(), points, t1=0.6, dt=0.1, saveat=times, stepper=AdamsBashforth(2), inner=BY_QR
    )
    assert run.stats["ts"] == [0.1 * 3, 0.6]
    assert min(run.stats["dt"]) > 0.09


def test_progress_is_told_and_shown(points):
    seen, shown = [], io.StringIO()
    meter = ProgressMeter(shown)

    def both(status):
        seen.append(status)
        meter(status)

    # With the program of another test.
    march(heat, start(), points, t1=0.2, dt=0.1, stepper=HEUN, inner=BY_QR, progress=both)
    assert [round(s.t, 9) for s in seen] == [0.1, 0.2]
    assert seen[0].seconds_left > 0
    assert "t = 0.2 of 0.2" in shown.getvalue()
    assert "s left" in shown.getvalue()


def test_more_bad_input(points):
    class Complex(eqx.Module):
        c: jax.Array

        def __call__(self, x):
            return jax.lax.complex(self.c[0], x[0])

    class Square(eqx.Module):
        c: jax.Array

        def __call__(self, x):
            return self.c * jnp.ones((2, 2))

    class Counter(eqx.Module):
        c: jax.Array

        def __call__(self, x):
            return x[0] * self.c

    for network, words in (
        (Complex(jnp.ones(1)), "float64 values"),
        (Square(jnp.ones(())), "one axis"),
        (Counter(jnp.ones((), int)), "nothing to fit"),
        (PeriodicMLP(1, width=2, depth=1, period=1.0, key=jax.random.key(0)), "period"),
    ):
        with pytest.raises(ValueError, match=words):
            march(heat, network, points, t1=1.0, dt=0.1)
    with pytest.raises(ValueError, match="`momentum`"):
        DampedGaussNewton(momentum=1.0)
    with pytest.raises(TypeError, match="GramForm"):
        DampedGaussNewton(form="kernel")
    with pytest.raises(ValueError, match="there are 5 parameters"):
        march(heat, start(), points, t1=1.0, dt=0.1, inner=RandomSubsets(6))
    with pytest.raises(TypeError, match="inner"):
        march(heat, start(), points, t1=1.0, dt=0.1, inner=lx.QR())
    with pytest.raises(ValueError, match="must be a Butcher tableau"):
        Explicit("RK4")
    bad = start()
    bad = eqx.tree_at(lambda f: f.c, bad, bad.c.at[0].set(jnp.nan))
    run = march(heat, bad, points, t1=1.0, dt=0.1, throw=False)
    assert run.result == RESULTS.march_not_finite
    assert run.stats["t"] == 0.0


def test_anti_diffusion_ends_by_name():
    network = PeriodicMLP(1, width=5, depth=1, key=jax.random.key(3))
    run = march(
        lambda t, x, u: -5.0 * laplacian(u)(x), network, CollocationPoints.grid(24, 1), t1=20.0,
        dt=0.5, stepper=ForwardEuler(), throw=False,
    )  # fmt: skip
    assert any(bool(run.result == r) for r in (RESULTS.fit_failed, RESULTS.march_not_finite))
    assert run.stats["t"] < 20.0
    assert all(bool(np.all(np.isfinite(a))) for a in jax.tree.leaves(run.value))


SHARDED = """
import re, jax, jax.numpy as jnp, numpy as np
jax.config.update("jax_enable_x64", True)
from jax.sharding import AxisType
from sciml.natural_gradient import CollocationPoints, ForwardEuler, GramForm, PeriodicMLP
from sciml.natural_gradient import laplacian, march
from sciml.natural_gradient._damped_factor import damped_factor
mesh = jax.make_mesh((4,), ("points",), axis_types=(AxisType.Auto,))
network = PeriodicMLP(1, width=5, depth=1, key=jax.random.key(3))
points = CollocationPoints.grid(24, 1)
heat = lambda t, x, u: 0.3 * laplacian(u)(x)
settings = {"t1": 0.04, "dt": 0.02, "stepper": ForwardEuler()}
runs = [march(heat, network, p, **settings) for p in (points, points.sharded(mesh))]
# Functions, not parameters: these have directions that hardly change the function.
a, b = (jax.vmap(r.value)(points.x) for r in runs)
np.testing.assert_allclose(a, b, rtol=0, atol=1e-7)
columns = jax.device_put(
    jnp.ones((7, 24)), jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, "points"))
)
program = jax.jit(lambda c: damped_factor(c, 1e-3, GramForm.parameters).cholesky)
text = program.lower(columns).compile().as_text()
print("reductions", len(re.findall(r"= f64\\[[0-9,]*\\][^=]* all-reduce\\(", text)))
print("gathers", text.count("all-gather("))
try:
    CollocationPoints.grid(7, 1).sharded(mesh)
except ValueError as error:
    print(error)
"""


def test_points_over_devices():
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=4"
    env = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    found = subprocess.run(
        [sys.executable, "-c", SHARDED], env=env, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr[-2000:]
    assert "reductions 1\n" in found.stdout
    assert "gathers 0\n" in found.stdout
    assert "7 points cannot be split evenly over 4 devices" in found.stdout
