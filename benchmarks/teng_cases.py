"""The three equations of the TENG benchmark on the torus, their reference and their errors."""

import dataclasses
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from sciml.natural_gradient import CollocationPoints, gradient, laplacian
from sciml.numerics import irfftn, rfftn
from sciml.problems import AbstractSemilinearPDE, solve


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
    long_goal: float
    """What is promised at T = 1 of a wider network."""
    modes: int
    long_modes: int

    def rhs(self, t, x, u):
        """Return the time derivative, as `march` takes it."""
        if self.name == "heat":
            return self.nu * laplacian(u)(x)
        if self.name == "Allen-Cahn":
            return self.nu * laplacian(u)(x) + u(x) - u(x) ** 3
        return self.nu * laplacian(u)(x) - u(x) * jnp.sum(gradient(u)(x))


CASES = {
    case.name: case
    for case in (
        Case("heat", 0.1, 4.0, 3e-6, 1e-6, 96, 96),
        Case("Allen-Cahn", 1 / 200, 1.0, 8e-6, 1e-6, 128, 256),
        Case("Burgers", 1 / 100, 0.6, 3e-5, 1e-5, 256, 384),
    )
}


def initial(x):
    """Return the initial value of all three."""
    return 0.04 * jnp.cosh(3 * jnp.sin(x[0])) * jnp.sinh(jnp.sin(x[1]))


@eqx.filter_jit
def on_grid(f, x):
    """Return a function's values."""
    return jax.lax.map(f, x, batch_size=1024)


@dataclasses.dataclass(frozen=True)
class Reference:
    """The classical solution at one time."""

    x: np.ndarray
    u: np.ndarray
    modes: int
    cpu_seconds: float
    growth_rate: float

    def error(self, f) -> float:
        """Return the relative L2 error of a function."""
        miss = np.asarray(on_grid(f, jnp.asarray(self.x))) - self.u
        return float(np.linalg.norm(miss) / np.linalg.norm(self.u))

    @property
    def norm(self) -> float:
        """The L2 norm."""
        return float(np.linalg.norm(self.u) * 2 * np.pi / self.modes)


def reference(case: Case, t1: float, *, modes: int | None = None, dt: float = 0.005) -> Reference:
    """Return the solution by ETDRK4 in Fourier space, with its cost."""
    modes = case.modes if modes is None else modes
    grid = CollocationPoints.grid(modes, 2)
    u0 = on_grid(initial, grid.x).reshape(1, modes, modes)
    problem = TorusProblem(case.nu, case.name, (modes, modes))
    n_steps = round(t1 / dt)
    found = []

    def run(save_every):
        found[:] = solve(problem, u0, dt=t1 / n_steps, n_steps=n_steps, save_every=save_every).value
        return np.asarray(found[-1]).reshape(-1)

    run(n_steps)
    began = time.process_time()
    u = run(n_steps)
    cpu = time.process_time() - began
    run(next(i for i in range(max(1, n_steps // 20), n_steps + 1) if n_steps % i == 0))
    fields = [u0, *found]
    return Reference(np.asarray(grid.x), u, modes, cpu, _growth(case, fields))


def _growth(case, fields):
    """Return a bound on the growth of errors, of the equation linearised about the solution."""
    if case.name == "heat":
        return 0.0
    if case.name == "Allen-Cahn":
        return 1.0
    found = 0.0
    for field in fields:
        u = np.asarray(field).squeeze()
        h = 4 * np.pi / len(u)
        slope = sum(np.roll(u, -1, a) - np.roll(u, 1, a) for a in (0, 1)) / h
        found = max(found, -0.5 * slope.min())
    return found
