"""Networks marched by natural gradients, beside the integrator's floor and the spectral solver.

    python benchmarks/teng.py            # heat, Allen-Cahn, Burgers: some minutes on one core
    python benchmarks/teng.py --quick    # small networks, short times; nothing is written

Heat (1/10) to T = 4, Allen-Cahn (1/200) to T = 1, Burgers (1/100) to T = 0.6 on the torus, initial
fit included; then the steppers from the same initial network to a short time, at about equal wall
time. Errors are relative L2 on a fine grid against ETDRK4 in Fourier space. The certificate is
printed beside each error.
"""

import dataclasses
import time
from pathlib import Path

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from sciml.core import Target, format_table, write_report
from sciml.natural_gradient import (
    CollocationPoints,
    Explicit,
    ForwardEuler,
    GradientMethod,
    PeriodicMLP,
    fit_initial,
    gradient,
    laplacian,
    march,
    march_by_optimisation,
    march_tdvp,
)
from sciml.numerics import irfftn, rfftn
from sciml.problems import AbstractSemilinearPDE, solve

RESULT = Path(__file__).parent / "results" / "teng.json"
T_TABLE = 0.2


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run; the defaults are those of the published result file."""

    seed: int = 0
    width: int = 24
    n: int = 44
    fit_seconds: float = 45.0
    table: bool = True
    """Compare the steppers, too."""
    quick: bool = False
    out: Path = RESULT


class TorusProblem(AbstractSemilinearPDE):
    """``u_t = nu Laplacian u + f(u)`` with the nonlinear term of one of the three equations."""

    nu: float = eqx.field(static=True)
    name: str = eqx.field(static=True)
    n_points: tuple[int, ...] = eqx.field(static=True)
    n_channels: int = eqx.field(static=True, default=1)
    domain_extent: tuple[float, ...] = eqx.field(static=True, default=(2 * np.pi, 2 * np.pi))

    def _wavenumbers(self):
        n = self.n_points[0]
        return np.fft.fftfreq(n, 1 / n)[:, None], np.fft.rfftfreq(n, 1 / n)[None]

    def linear_symbol(self, dtype):
        """Return ``-nu |k|^2``."""
        kx, ky = self._wavenumbers()
        return jnp.asarray(-self.nu * (kx**2 + ky**2)[None], dtype)

    def nonlinear_term(self, u_hat):
        """Return the transform of the nonlinear term."""
        u = irfftn(u_hat, self.n_points)
        if self.name == "heat":
            return 0 * u_hat
        if self.name == "Allen-Cahn":
            return rfftn(u - u**3, 2)
        kx, ky = self._wavenumbers()
        return rfftn(-u * irfftn(1j * jnp.asarray(kx + ky)[None] * u_hat, self.n_points), 2)


@dataclasses.dataclass(frozen=True)
class Case:
    """An equation, how far it goes and what is promised."""

    name: str
    nu: float
    t1: float
    goal: float
    modes: int

    def rhs(self, t, x, u):
        """Return the time derivative, as `march` takes it."""
        if self.name == "heat":
            return self.nu * laplacian(u)(x)
        if self.name == "Allen-Cahn":
            return self.nu * laplacian(u)(x) + u(x) - u(x) ** 3
        return self.nu * laplacian(u)(x) - u(x) * jnp.sum(gradient(u)(x))


CASES = (
    Case("heat", 0.1, 4.0, 3e-6, 96),
    Case("Allen-Cahn", 1 / 200, 1.0, 8e-6, 128),
    Case("Burgers", 1 / 100, 0.6, 3e-5, 256),
)


def initial(x):
    """Return the initial value of all three."""
    return 0.04 * jnp.cosh(3 * jnp.sin(x[0])) * jnp.sinh(jnp.sin(x[1]))


@eqx.filter_jit
def on_grid(f, x):
    """Return a function's values."""
    return jax.lax.map(f, x, batch_size=1024)


def spectral(case, t1):
    """Return grid, solution and seconds of the classical solver."""
    grid = CollocationPoints.grid(case.modes, 2)
    u0 = on_grid(initial, grid.x).reshape(1, case.modes, case.modes)
    problem = TorusProblem(case.nu, case.name, (case.modes, case.modes))
    began = time.perf_counter()
    n_steps = round(t1 / 0.005)
    u = solve(problem, u0, dt=t1 / n_steps, n_steps=n_steps, save_every=n_steps).value[-1]
    return grid.x, np.asarray(u).reshape(-1), time.perf_counter() - began


def relative(network, x, truth):
    """Return the relative L2 error."""
    return float(np.linalg.norm(np.asarray(on_grid(network, x)) - truth) / np.linalg.norm(truth))


def growth(case, x, truth):
    """Return a bound on the growth of errors, of the equation linearised about the solution."""
    if case.name == "heat":
        return 0.0
    if case.name == "Allen-Cahn":
        return 1.0
    found = 0.0
    for u in (np.asarray(on_grid(initial, x)), truth):
        field = u.reshape(case.modes, case.modes)
        h = 4 * np.pi / case.modes
        slope = sum(np.roll(field, -1, a) - np.roll(field, 1, a) for a in (0, 1)) / h
        found = max(found, -0.5 * slope.min())
    return found


def main(settings: Settings) -> None:
    """Run all, print the tables, write the result file."""
    jax.config.update("jax_enable_x64", True)
    width, n = (12, 28) if settings.quick else (settings.width, settings.n)
    network = PeriodicMLP(2, width=width, key=jax.random.key(settings.seed))
    points = CollocationPoints.grid(n, 2)
    fit = fit_initial(
        network, initial, points, key=jax.random.key(settings.seed + 1), rtol=1e-7,
        max_steps=1000, max_seconds=5.0 if settings.quick else settings.fit_seconds,
    )  # fmt: skip
    fine = CollocationPoints.grid(128, 2)
    u0 = np.asarray(on_grid(initial, fine.x))
    start_error = relative(fit.value, fine.x, u0)
    size = float(np.linalg.norm(u0) * 2 * np.pi / 128)
    print(f"initial fit {fit.stats['relative_residual']:.2e} on the points, {start_error:.2e} off, "
          f"{fit.stats['seconds']:.0f} s", flush=True)  # fmt: skip
    rows, targets = [], []
    for case in CASES:
        t1 = T_TABLE if settings.quick else case.t1
        x, truth, seconds = spectral(case, t1)
        run = march(
            case.rhs, fit.value, points, t1=t1, dt=0.02, initial_error=start_error * size,
            growth_rate=growth(case, x, truth), throw=False,
        )  # fmt: skip
        rows.append(row(case, t1, "TENG-RK4", run, relative(run.value, x, truth),
                        fit.stats["seconds"] + run.stats["seconds"], truth))  # fmt: skip
        rows.append(row(case, t1, "spectral ETDRK4", None, None, seconds, truth))
        error, bound = rows[-2]["error"], rows[-2]["certificate"]
        targets += [
            Target(f"{case.name}: relative L2 error at T = {t1}", error, at_most=case.goal),
            Target(f"{case.name}: seconds, fit included", rows[-2]["seconds"], at_most=300),
            Target(f"{case.name}: error over certificate", error / bound, at_most=2),
        ]
        print(format_table(rows[-2:], {k: k for k in rows[-2]}), flush=True)
        publish(settings, rows, targets)
    if settings.table:
        for case in CASES:
            found = compare(case, fit, points, start_error * size)
            rows += found
            print(format_table(found, {k: k for k in found[0]}), flush=True)
            publish(settings, rows, targets)
    for target in targets:
        print(f"{'holds' if target.holds else 'MISSED':7} {target.as_record()}")


def publish(settings, rows, targets):
    """Write what there is; a run that is cut short loses nothing."""
    if not settings.quick:
        write_report(
            settings.out, command="python benchmarks/teng.py", rows=rows, targets=targets,
            settings={"seed": settings.seed, "width": settings.width, "n": settings.n,
                      "fit_seconds": settings.fit_seconds},
        )  # fmt: skip


def row(case, t1, method, run, error, seconds, truth):
    """Return a row of the tables."""
    bound = None
    if run is not None and "error_bound" in run.stats:
        bound = run.stats["error_bound"] / (np.linalg.norm(truth) * 2 * np.pi / case.modes)
    return {
        "equation": case.name,
        "T": t1,
        "method": method,
        "error": error,
        "certificate": None if bound is None else float(bound),
        "seconds": seconds,
        "steps": None if run is None else run.stats.get("steps"),
        "arrived": None if run is None else bool(run.result == type(run.result).successful),
    }


def compare(case, fit, points, start):
    """March the same network by each method to a short time."""
    x, truth, seconds = spectral(case, T_TABLE)
    rate = growth(case, x, truth)
    common = {"t1": T_TABLE, "throw": False}
    known = {"initial_error": start, "growth_rate": rate}
    runs = {
        "TENG-Euler": lambda: march(
            case.rhs, fit.value, points, dt=0.01, stepper=ForwardEuler(), **known, **common
        ),
        "TENG-Heun": lambda: march(
            case.rhs, fit.value, points, dt=0.0125, stepper=Explicit(diffrax.Heun.tableau), **known,
            **common
        ),
        "TENG-RK4": lambda: march(case.rhs, fit.value, points, dt=0.02, **known, **common),
        "TENG-Tsit5, adaptive": lambda: march(
            case.rhs, fit.value, points, dt=0.02, stepper=Explicit(diffrax.Tsit5.tableau),
            atol=1e-7, max_steps=40, **known, **common
        ),
        "TDVP-Bosh3": lambda: march_tdvp(
            case.rhs, fit.value, points, dt=0.04, solver=diffrax.Bosh3(), **common
        ),
        "OBTI-Adam": lambda: march_by_optimisation(
            case.rhs, fit.value, points.x, points.w, GradientMethod(optax.adam(1e-4)), dt=0.05,
            steps_per_fit=50, max_seconds=15.0, **common
        ),
        "OBTI-L-BFGS": lambda: march_by_optimisation(
            case.rhs, fit.value, points.x, points.w, GradientMethod(optax.lbfgs()), dt=0.05,
            steps_per_fit=30, max_seconds=15.0, **common
        ),
    }  # fmt: skip
    found = []
    for method, call in runs.items():
        began = time.perf_counter()
        run = call()
        found.append(
            row(case, T_TABLE, method, run, relative(run.value, x, truth),
                time.perf_counter() - began, truth)
        )  # fmt: skip
    return [*found, row(case, T_TABLE, "spectral ETDRK4", None, None, seconds, truth)]


if __name__ == "__main__":
    main(tyro.cli(Settings))
