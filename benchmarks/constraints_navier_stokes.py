"""Two-dimensional Navier-Stokes as a constraint on a grid with spectral derivatives, reduced.

    python benchmarks/constraints_navier_stokes.py            # a few minutes on one core
    python benchmarks/constraints_navier_stokes.py --quick    # a few steps; nothing is written

A Fourier neural operator maps an initial vorticity to eight fields; times powers of t they are 24
basis functions of vorticity and velocity that share their coefficients (`GridBasis` with three
fields). The coefficients come from the vorticity equation at random grid points: one expert, or
four in space. Velocities are those of the stream function, without divergence for any coefficients;
the initial value is the lift, and the mean vorticity is that of the start by construction. Training
has no solution data and takes one expert; the same network then serves four. Beside it: the network
with trained coefficients (soft penalty), the initial value, two terms of the Taylor series in time,
and a pseudo-spectral solver, also with half the points.
"""

import dataclasses
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from sciml.constraints import (
    BoxRouter,
    Experts,
    GridBasis,
    HardConstraint,
    ImplicitAdjoint,
    LevenbergMarquardt,
    NormalForm,
    OnFailure,
    Residual,
)
from sciml.core import Target, format_table, write_report
from sciml.neural_operators import FNO
from sciml.problems import NavierStokes2D, gaussian_random_field, solve

RESULT = Path(__file__).parent / "results" / "constraints_navier_stokes.json"
N, N_TIMES, HORIZON, VISCOSITY = 32, 9, 1.0, 1e-3
N_FIELDS, POWERS = 8, (1, 2, 3)
K = 2 * np.pi * np.fft.fftfreq(N, 1 / N)
KX, KY = K[:, None], K[None, :]
SQUARE = KX**2 + KY**2


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run; the defaults are those of the published result file."""

    seed: int = 29
    steps: int = 150
    n_points: int = 1500
    n_test: int = 8
    quick: bool = False
    out: Path = RESULT


def velocities(w):
    """Return the velocity of a vorticity without mean, ``(2, N, N)``."""
    stream = jnp.fft.fft2(w) / jnp.where(SQUARE > 0, SQUARE, 1)
    # Derivatives of odd order have no Nyquist mode.
    odd_x, odd_y = (np.where(np.abs(k) < np.pi * N, k, 0) for k in (KX, KY))
    return jnp.stack(
        [jnp.fft.ifft2(1j * odd_y * stream).real, -jnp.fft.ifft2(1j * odd_x * stream).real]
    )


def tendency(w):
    """Return the right side of the vorticity equation."""
    u, v = velocities(w)
    spectrum = jnp.fft.fft2(w)
    w_x, w_y, lap = (
        jnp.fft.ifft2(factor * spectrum).real for factor in (1j * KX, 1j * KY, -SQUARE)
    )
    return VISCOSITY * lap - u * w_x - v * w_y


class Net(eqx.Module):
    """Fields from a neural operator, times powers of t; the first is the tendency at the start."""

    operator: FNO

    def __init__(self, *, key):
        self.operator = FNO(
            2, N_FIELDS - 1, (8, 8), hidden_channels=16, n_layers=2, coordinates=False, key=key
        )

    def __call__(self, w0):
        """Return the basis functions on the grid, ``(functions, 3, times, N, N)``."""
        start = tendency(w0)
        fields = self.operator(jnp.stack([w0, start]).astype(jnp.float32)).astype(w0.dtype)
        fields = jnp.concatenate([start[None], fields])
        fields = fields - jnp.mean(fields, axis=(1, 2), keepdims=True)
        three = jnp.concatenate([fields[:, None], jax.vmap(velocities)(fields)], axis=1)
        t = np.linspace(0, HORIZON, N_TIMES)
        powers = jnp.asarray(np.stack([t**k for k in POWERS]))
        each = three[None, :, :, None] * powers[:, None, None, :, None, None]
        return each.reshape(-1, 3, N_TIMES, N, N)


def lift(w0):
    """Return the initial vorticity and its velocity at all times."""
    three = jnp.concatenate([w0[None], velocities(w0)])
    return jnp.broadcast_to(three[:, None], (3, N_TIMES, N, N))


def basis_of(net):
    """Return the basis on the grid: differences in time, spectral in space."""
    return GridBasis(
        net,
        (N_TIMES, N, N),
        (HORIZON, 1.0, 1.0),
        (False, True, True),
        coordinates=("t", "x", "y"),
        fields=("w", "u", "v"),
        lift=lift,
    )


EQUATION = Residual(
    lambda j, x, p: (
        j["w_t"] + j["u"] * j["w_x"] + j["v"] * j["w_y"] - VISCOSITY * (j["w_xx"] + j["w_yy"])
    ),
    ("w_t", "u", "v", "w_x", "w_y", "w_xx", "w_yy"),
)


def layer(net):
    """Return the constraint layer."""
    return HardConstraint(
        basis_of(net),
        [EQUATION],
        solver=LevenbergMarquardt(form=NormalForm.gram, newton_steps=1, max_steps=30),
        adjoint=ImplicitAdjoint(on_failure=OnFailure.zero),
        ridge=1e-8,
    )


def start(seed):
    """Draw an initial vorticity."""
    field = gaussian_random_field((N, N), key=jax.random.key(seed), dtype=jnp.float64)[0]
    return field - jnp.mean(field)


def some_points(n, seed):
    """Draw grid points."""
    count = N_TIMES * N * N
    return jnp.asarray(np.random.default_rng(seed).choice(count, min(n, count), replace=False))


def train(settings, *, is_soft):
    """Train without data; return the network, coefficients of the soft penalty, and figures."""
    net = Net(key=jax.random.key(settings.seed))
    model = (net, jnp.zeros(N_FIELDS * len(POWERS)).at[0].set(1.0))
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, settings.steps))
    state = optimizer.init(eqx.filter(model, eqx.is_inexact_array))

    def loss(model, w0, points, fresh):
        net, head = model
        if is_soft:
            jets = basis_of(net).combination(head[None], None, fresh, w0, EQUATION.needs)
            return jnp.mean(jax.vmap(lambda j: EQUATION.item(j, None, None, w0))(jets) ** 2)
        field = layer(net)(w0, {"pde": points})
        return jnp.mean(field.residual(EQUATION, fresh) ** 2)

    @eqx.filter_jit
    def step(model, state, w0, points, fresh):
        value, slope = eqx.filter_value_and_grad(loss)(model, w0, points, fresh)
        change, state = optimizer.update(slope, state)
        return eqx.apply_updates(model, change), state, value

    history, begin = [], 0.0
    for k in range(settings.steps):
        seed = 1000 + 3 * k
        model, state, value = step(
            model,
            state,
            start(seed),
            some_points(settings.n_points, seed),
            some_points(settings.n_points, seed + 1),
        )
        history.append(float(value))
        begin = time.process_time() if k == 0 else begin
    cpu = 1e3 * (time.process_time() - begin) / max(1, settings.steps - 1)
    return *model, {"loss": float(np.mean(history[-20:])), "cpu_ms_per_step": cpu}


def errors(found, truth):
    """Return median and quantiles of relative errors over all times after the start."""
    size = np.linalg.norm(truth[:, 1:].reshape(len(truth), -1), axis=1)
    wrong = np.linalg.norm((found - truth)[:, 1:].reshape(len(truth), -1), axis=1) / size
    low, mid, high = np.quantile(wrong, [0.1, 0.5, 0.9])
    return {"median": float(mid), "q10": float(low), "q90": float(high)}


def solved(net, starts, settings, n_experts):
    """Return fields of the layer, or of four experts, and how the solves ended."""
    each = layer(net)
    points = {"pde": some_points(4 * settings.n_points, 7)}
    router = BoxRouter((0.0, 0.0, 0.0), (HORIZON, 1.0, 1.0), (1, 2, 2))
    where = each.basis.indices()

    @eqx.filter_jit
    def run(w0):
        field = each(w0, points) if n_experts == 1 else Experts(each, router)(w0, points)
        values = field.jet(where, ("w",))["w"].reshape(N_TIMES, N, N)
        return values, field.stats

    pairs = [jax.device_get(run(w0)) for w0 in starts]
    begin = time.process_time()
    jax.device_get(run(starts[0]))
    stats = [s for _, s in pairs]
    return np.array([v for v, _ in pairs]), {
        "cpu_seconds_per_solve": time.process_time() - begin,
        "converged": float(np.mean([s["converged"] for s in stats])),
        "lm_steps": float(np.median([s["n_steps"] for s in stats])),
        "condition_number": float(np.median([s["condition_number"] for s in stats])),
        "residual_norm": float(np.median([s["residual_norm"] for s in stats])),
        "mean_vorticity": float(max(abs(v.mean(axis=(1, 2))).max() for v, _ in pairs)),
    }


def spectral(starts, n, steps_between):
    """March by the pseudo-spectral solver on ``n`` points; return snapshots and seconds."""
    problem = NavierStokes2D((n, n), viscosity=VISCOSITY)
    every = N // n
    dt = HORIZON / (N_TIMES - 1) / steps_between

    @jax.jit
    def march(w0):
        found = solve(
            problem,
            w0[None, ::every, ::every],
            dt=dt,
            n_steps=steps_between * (N_TIMES - 1),
            save_every=steps_between,
            throw=False,
        )
        return found.value

    values = [np.asarray(march(w0))[-(N_TIMES - 1) :, 0] for w0 in starts]
    begin = time.process_time()
    np.asarray(march(starts[0]))
    return np.array(values), time.process_time() - begin


def main(settings: Settings) -> None:
    """Run everything, print a table, write the result file."""
    jax.config.update("jax_enable_x64", True)
    if settings.quick:
        settings = dataclasses.replace(settings, steps=3, n_test=2)
    starts = [start(k) for k in range(settings.n_test)]
    first = np.array(starts)[:, None]
    fine, seconds = spectral(starts, N, 50)
    truth = np.concatenate([first, fine], axis=1)
    coarse_in_time, fast = spectral(starts, N, 5)
    rows = [
        {
            "method": "pseudo-spectral, 40 steps",
            "cpu_seconds_per_solve": fast,
            **errors(np.concatenate([first, coarse_in_time], axis=1), truth),
        }
    ]
    half, fast = spectral(starts, N // 2, 5)
    fourier = np.fft.fftshift(np.fft.fft2(half), axes=(2, 3))
    padded = np.fft.ifftshift(np.pad(fourier, ((0, 0), (0, 0), (8, 8), (8, 8))), axes=(2, 3))
    doubled = 4 * np.fft.ifft2(padded).real
    rows.append(
        {
            "method": "pseudo-spectral, half the points",
            "cpu_seconds_per_solve": fast,
            **errors(np.concatenate([first, doubled], axis=1), truth),
        }
    )
    rows.append(
        {"method": "initial value (trivial)"} | errors(np.broadcast_to(first, truth.shape), truth)
    )
    times = np.linspace(0, HORIZON, N_TIMES)[None, :, None, None]
    taylor = first + times * np.array([tendency(w0) for w0 in starts])[:, None]
    rows.append({"method": "first order in time (trivial)"} | errors(taylor, truth))
    net = Net(key=jax.random.key(settings.seed))
    for n_experts in (1, 4):
        found, record = solved(net, starts, settings, n_experts)
        rows.append({"method": f"{n_experts} expert(s), untrained"} | errors(found, truth) | record)
        print(rows[-1], flush=True)
    trained, _, took = train(settings, is_soft=False)
    for n_experts in (1, 4):
        found, record = solved(trained, starts, settings, n_experts)
        rows.append({"method": f"{n_experts} expert(s)"} | errors(found, truth) | record | took)
        print(rows[-1], flush=True)
    net, head, took = train(settings, is_soft=True)
    predict = eqx.filter_jit(
        lambda w0: basis_of(net).combination(head[None], None, basis_of(net).indices(), w0, ("w",))[
            "w"
        ]
    )
    found = np.array([np.asarray(predict(w0)).reshape(N_TIMES, N, N) for w0 in starts])
    rows.append({"method": "soft penalty"} | errors(found, truth) | took)
    print(format_table(rows, {k: k for k in ("method", "median", "q10", "q90", "lm_steps")}))
    by_name = {row["method"]: row for row in rows}
    targets = [
        Target(
            "error of the first order in time over that of 1 expert",
            by_name["first order in time (trivial)"]["median"] / by_name["1 expert(s)"]["median"],
            at_least=1.0,
        ),
        Target(
            "error of the soft penalty over that of 1 expert",
            by_name["soft penalty"]["median"] / by_name["1 expert(s)"]["median"],
            at_least=1.0,
        ),
        Target(
            "error of 1 expert over that of 4, same network",
            by_name["1 expert(s)"]["median"] / by_name["4 expert(s)"]["median"],
            at_least=1.0,
        ),
        Target(
            "largest mean vorticity of a solution of 1 expert",
            by_name["1 expert(s)"]["mean_vorticity"],
            at_most=1e-12,
        ),
        Target("share of solves that converged", by_name["1 expert(s)"]["converged"], at_least=1.0),
    ]
    for target in targets:
        print(f"{'holds' if target.holds else 'MISSED':7} {target.as_record()}")
    if not settings.quick:
        write_report(
            settings.out,
            command="python benchmarks/constraints_navier_stokes.py",
            rows=rows,
            targets=targets,
            settings={
                "seed": settings.seed,
                "steps": settings.steps,
                "n_points": settings.n_points,
                "n_test": settings.n_test,
                "grid": f"{N} x {N}, {N_TIMES} times, viscosity {VISCOSITY}, horizon {HORIZON}",
                "seconds_of_reference": seconds,
            },
        )


if __name__ == "__main__":
    main(tyro.cli(Settings))
