"""Networks from different seeds marched between prescribed values, by each kind of stepper.

    python benchmarks/teng_boundaries.py           # eight networks, five minutes of CPU
    python benchmarks/teng_boundaries.py --quick   # one network; nothing is written

Fisher's travelling wave on a strip: both ends change with time, and diffusion is fast in the
layers that a network can make there. Values are built in or met by least squares. A run counts as
lost if it stops, or if its largest error exceeds one part in a hundred of the wave's height.
"""

import dataclasses
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.integrate
import tyro

from sciml.core import Target, format_table, write_report
from sciml.natural_gradient import (
    BackwardDifferentiation,
    BoundaryAnsatz,
    CollocationPoints,
    DiagonallyImplicit,
    Explicit,
    ImplicitExplicit,
    ImplicitMidpoint,
    SoftBoundary,
    box_quadrature,
    fit_initial,
    laplacian,
    march,
)

jax.config.update("jax_enable_x64", True)

RESULT = Path(__file__).parent / "results" / "teng_boundaries.json"
SPREAD, RATE, T1 = 0.02, 2.0, 0.4
AXIS = np.linspace(0, 1, 101)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run; the defaults are those of the published result file."""

    seeds: tuple[int, ...] = tuple(range(8))
    """Of the networks."""
    width: int = 10
    n_points: int = 80
    dt: float = 0.0125
    lost: float = 0.01
    quick: bool = False
    out: Path = RESULT


def wave(t, x):
    """Return the solution."""
    z = jnp.sqrt(RATE / (6 * SPREAD)) * (x[0] - 0.3) - 5 / 6 * RATE * t
    return 1 / (1 + jnp.exp(z)) ** 2


def line(t, x):
    """Return what is prescribed at the ends, and between them a line."""
    left, right = wave(t, jnp.zeros(1)), wave(t, jnp.ones(1))
    return left + (right - left) * x[0]


def diffusion(t, x, u):
    """Return the stiff part of the equation."""
    return SPREAD * laplacian(u)(x)


def fisher(t, x, u):
    """Return the time derivative."""
    return diffusion(t, x, u) + RATE * u(x) * (1 - u(x))


STEPPERS = {
    "RK4": Explicit(),
    "SDIRK2": DiagonallyImplicit(),
    "implicit midpoint": ImplicitMidpoint(),
    "ARS, diffusion implicit": ImplicitExplicit(diffusion),
    "BDF2": BackwardDifferentiation(2),
}
ENDS = SoftBoundary(jnp.asarray([[0.0], [1.0]]), jnp.ones(2), wave, weight=10.0)


@eqx.filter_jit
def values(f: Any) -> Any:
    """Return a function on the axis."""
    return jax.vmap(f)(jnp.asarray(AXIS)[:, None])


def truth() -> np.ndarray:
    """Return the wave at the end."""
    return np.asarray(values(lambda x: wave(T1, x)))


def finite_differences(n: int) -> float:
    """Return the largest error of central differences on ``n`` points with an implicit solver."""
    x = np.linspace(0, 1, n)
    z = np.sqrt(RATE / (6 * SPREAD)) * (x - 0.3)

    def exact(t):
        return 1 / (1 + np.exp(z - 5 / 6 * RATE * t)) ** 2

    def rhs(t, u):
        ends = exact(t)[[0, -1]]
        u = np.concatenate([ends[:1], u, ends[1:]])
        second = (u[2:] - 2 * u[1:-1] + u[:-2]) / x[1] ** 2
        return SPREAD * second + RATE * u[1:-1] * (1 - u[1:-1])

    found = scipy.integrate.solve_ivp(
        rhs, (0, T1), exact(0.0)[1:-1], method="BDF", rtol=1e-8, atol=1e-10
    )
    return float(np.abs(found.y[:, -1] - exact(T1)[1:-1]).max())


def runs(settings: Settings, seed: int) -> list[dict[str, Any]]:
    """March one network in all ways."""
    points = CollocationPoints(*box_quadrature(settings.n_points, 1))
    plain = eqx.nn.MLP(
        1, "scalar", settings.width, 2, activation=jnp.tanh, key=jax.random.key(seed)
    )
    built_in = BoundaryAnsatz(plain, lambda x: x[0] * (1 - x[0]), line)
    found, wanted = [], truth()
    for name, network, boundary in (
        ("built in", built_in, ()), ("least squares", plain, (ENDS,))
    ):  # fmt: skip
        fit = fit_initial(
            network, lambda x: wave(0.0, x), points, key=jax.random.key(3), rtol=1e-6,
            boundary=boundary,
        )  # fmt: skip
        for stepper, how in STEPPERS.items():
            began = time.process_time()
            run = march(
                fisher, fit.value, points, t1=T1, dt=settings.dt, stepper=how, boundary=boundary,
                growth_rate=RATE, throw=False,
            )  # fmt: skip
            miss = np.asarray(values(run.value)) - wanted
            arrived = run.stats["t"] > T1 - 1e-9
            found.append({
                "values": name, "stepper": stepper, "seed": seed,
                "fit": fit.stats["relative_residual"], "t": run.stats["t"],
                "error": float(np.abs(miss).max()) if arrived else np.inf,
                # L2, as the certificate.
                "over_bound": float(np.sqrt(np.mean(miss**2))) / run.stats["error_bound"]
                if arrived else 0.0,
                "cpu_seconds": time.process_time() - began,
            })  # fmt: skip
    return found


def summary(settings: Settings, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each kind of value and stepper."""
    rows = []
    for name in ("built in", "least squares"):
        for stepper in STEPPERS:
            own = [r for r in found if (r["values"], r["stepper"]) == (name, stepper)]
            errors = [r["error"] for r in own]
            rows.append({
                "values": name, "stepper": stepper, "networks": len(own),
                "lost": sum(e > settings.lost for e in errors),
                "median error": float(np.median(errors)), "largest error": max(errors),
                "largest error over certificate": max(r["over_bound"] for r in own),
            })  # fmt: skip
    return rows


def main(settings: Settings) -> None:
    """Run all, print a table and write it."""
    found = []
    for seed in settings.seeds[: 1 if settings.quick else None]:
        found += runs(settings, seed)
        print(f"network {seed} done", flush=True)
    rows = summary(settings, found)
    n = settings.n_points + 1
    rows.append({
        "values": "prescribed", "stepper": f"central differences on {n} points, BDF of SciPy",
        "largest error": finite_differences(n),
    })  # fmt: skip
    print(format_table(rows, {key: key for key in rows[0]}))
    targets = [
        Target("marches that were lost", sum(row.get("lost", 0) for row in rows), at_most=0),
        Target(
            "largest error over certificate",
            max(row.get("largest error over certificate", 0.0) for row in rows), at_most=2.0,
        ),
    ]  # fmt: skip
    for target in targets:
        print(target)
    if not settings.quick:
        kept = {**dataclasses.asdict(settings), "out": settings.out.name, "runs": found}
        write_report(settings.out, rows=rows, targets=targets, settings=kept)


if __name__ == "__main__":
    main(tyro.cli(Settings))
